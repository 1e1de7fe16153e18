"""Trains a model: `fit` with checkpoints that resume exactly."""

from keras_genmodels import _aliases

# For names that moved.
__getattr__ = _aliases.names_of(__name__)
