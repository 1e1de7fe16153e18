"""Writes a model as a SavedModel for TensorFlow Serving; checks it."""

from keras_genmodels.export.description import read_description
from keras_genmodels.export.exporter import check_name, export

__all__ = ["check_name", "export", "read_description"]
