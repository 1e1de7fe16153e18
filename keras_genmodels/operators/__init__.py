"""What is measured of an image, y = A x + noise: noise, and masks."""

from keras_genmodels.operators.masks import known_quadrants
from keras_genmodels.operators.noise import gaussian

__all__ = ["gaussian", "known_quadrants"]
