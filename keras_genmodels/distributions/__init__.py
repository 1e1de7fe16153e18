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
from keras_genmodels.distributions.priors import (
    MixturePrior,
    RealNVPPrior,
    StandardNormal,
    VampPrior,
)

__all__ = [
    "DiscretizedLogistic",
    "GreyBernoulli",
    "IndependentBernoulli",
    "IndependentDiscretizedLogistic",
    "IndependentNormal",
    "MixturePrior",
    "MultivariateNormalDiag",
    "MultivariateNormalTriL",
    "RealNVPPrior",
    "StandardNormal",
    "VampPrior",
]
