"""Experiments of the demonstrations, one file a method."""
