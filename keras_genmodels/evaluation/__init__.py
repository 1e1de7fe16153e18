"""Evaluates a model on data: sections of measures."""

from keras_genmodels import _aliases

# For names that moved.
__getattr__ = _aliases.names_of(__name__)
