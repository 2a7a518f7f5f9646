"""Reconstruction methods behind one small contract, found through entry points."""
