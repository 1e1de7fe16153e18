"""Variational and denoising autoencoders on Keras 3, with TFP distributions."""

# First, as the other imports fail under another backend of Keras.
from keras_genmodels import _backend  # isort: skip  # noqa: F401

from keras_genmodels import _aliases, attractors, operators
from keras_genmodels._version import __version__
from keras_genmodels.core.errors import UserError
from keras_genmodels.denoisers import (
    Denoiser,
    DenoisingAutoencoder,
    EmpiricalDenoiser,
    LinearDenoiser,
)
from keras_genmodels.distributions.layers import (
    IndependentBernoulli,
    IndependentDiscretizedLogistic,
    IndependentNormal,
    MultivariateNormalDiag,
    MultivariateNormalTriL,
)
from keras_genmodels.distributions.logistic_mixture import (
    IndependentLogisticMixture,
)
from keras_genmodels.distributions.mixture_priors import MixturePrior, VampPrior
from keras_genmodels.distributions.priors import StandardNormal
from keras_genmodels.distributions.real_nvp import RealNVPPrior
from keras_genmodels.metrics.log_likelihood import log_likelihood
from keras_genmodels.models import (
    VAE,
    ConditionalVAE,
    HierarchicalVAE,
    LatentDiffusion,
    LatentVariableModel,
)
from keras_genmodels.networks.convolutions import (
    conv_decoder,
    conv_encoder,
    image_condition,
)
from keras_genmodels.networks.denoisers import (
    bias_free_unet,
    mlp_denoiser,
    unet,
)
from keras_genmodels.networks.encoders import (
    label_embedding,
    mlp_decoder,
    mlp_encoder,
    mlp_prior,
)
from keras_genmodels.sampling.density import ProbabilityFlow, probability_flow
from keras_genmodels.sampling.generation import generate
from keras_genmodels.sampling.restoration import Restoration, restore
from keras_genmodels.sampling.tiles import denoise_in_tiles

_aliases.install()
# For the old paths of modules: `kgm.restoration` and the like.
__getattr__ = _aliases.module_of

__all__ = [
    "VAE",
    "ConditionalVAE",
    "Denoiser",
    "DenoisingAutoencoder",
    "EmpiricalDenoiser",
    "HierarchicalVAE",
    "IndependentBernoulli",
    "IndependentDiscretizedLogistic",
    "IndependentLogisticMixture",
    "IndependentNormal",
    "LatentDiffusion",
    "LatentVariableModel",
    "LinearDenoiser",
    "MixturePrior",
    "MultivariateNormalDiag",
    "MultivariateNormalTriL",
    "ProbabilityFlow",
    "RealNVPPrior",
    "Restoration",
    "StandardNormal",
    "UserError",
    "VampPrior",
    "__version__",
    "attractors",
    "bias_free_unet",
    "conv_decoder",
    "conv_encoder",
    "denoise_in_tiles",
    "generate",
    "image_condition",
    "label_embedding",
    "log_likelihood",
    "mlp_decoder",
    "mlp_denoiser",
    "mlp_encoder",
    "mlp_prior",
    "operators",
    "probability_flow",
    "restore",
    "unet",
]
