"""Evaluates a model on data: sections of measures."""

from keras_genmodels import _aliases
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.evaluation.model import (
    Settings,
    evaluate,
    evaluate_briefly,
    per_image_terms,
    unused_settings,
)
from keras_genmodels.evaluation.sections import Measure, Section

__all__ = [
    "Measure",
    "NotMeasured",
    "Section",
    "Settings",
    "evaluate",
    "evaluate_briefly",
    "per_image_terms",
    "unused_settings",
]

# For names that moved.
__getattr__ = _aliases.names_of(__name__)
