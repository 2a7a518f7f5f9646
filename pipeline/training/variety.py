"""The name under which a training asks for its specimens."""

from pipeline.samples.families import training_field as varied_field

__all__ = ["varied_field"]
