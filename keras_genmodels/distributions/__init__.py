"""TFP distributions of pixels, and the Keras layers that make distributions."""

from keras_genmodels.distributions.layers import (
    IndependentBernoulli,
    IndependentDiscretizedLogistic,
    IndependentNormal,
    MultivariateNormalDiag,
    MultivariateNormalTriL,
)
from keras_genmodels.distributions.pixels import (
    DiscretizedLogistic,
    GreyBernoulli,
)

__all__ = [
    "DiscretizedLogistic",
    "GreyBernoulli",
    "IndependentBernoulli",
    "IndependentDiscretizedLogistic",
    "IndependentNormal",
    "MultivariateNormalDiag",
    "MultivariateNormalTriL",
]
