"""Operators of a measurement y = A x + noise: noise and masks."""

from keras_genmodels.operators.masks import known_quadrants, observed_quadrants
from keras_genmodels.operators.noise import gaussian

__all__ = ["gaussian", "known_quadrants", "observed_quadrants"]
