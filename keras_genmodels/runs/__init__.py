"""Runs: a model and data in, a workdir out; a workdir in, a model out."""

from keras_genmodels.runs.description import RunDescription
from keras_genmodels.runs.training import Command, arguments_for, train
from keras_genmodels.runs.workdir import Workdir, load_model

__all__ = [
    "Command",
    "RunDescription",
    "Workdir",
    "arguments_for",
    "load_model",
    "train",
]
