"""TFP distributions of pixels, and the Keras layers that make distributions."""

from keras_genmodels.distributions.layers import (
    IndependentBernoulli,
    IndependentDiscretizedLogistic,
    IndependentNormal,
    MultivariateNormalDiag,
    MultivariateNormalTriL,
)
from keras_genmodels.distributions.logistic_mixture import (
    DiscretizedLogisticMixture,
    IndependentLogisticMixture,
)
from keras_genmodels.distributions.mixture_priors import MixturePrior, VampPrior
from keras_genmodels.distributions.pixels import (
    DiscretizedLogistic,
    GreyBernoulli,
)
from keras_genmodels.distributions.priors import StandardNormal
from keras_genmodels.distributions.real_nvp import RealNVPPrior

__all__ = [
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "GreyBernoulli",
    "IndependentBernoulli",
    "IndependentDiscretizedLogistic",
    "IndependentLogisticMixture",
    "IndependentNormal",
    "MixturePrior",
    "MultivariateNormalDiag",
    "MultivariateNormalTriL",
    "RealNVPPrior",
    "StandardNormal",
    "VampPrior",
]
