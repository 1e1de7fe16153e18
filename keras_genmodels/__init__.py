"""Variational and denoising autoencoders on Keras 3, with TFP distributions."""

from keras_genmodels.distribution_layers import (
    IndependentBernoulli,
    IndependentDiscretizedLogistic,
    IndependentNormal,
    MultivariateNormalDiag,
    MultivariateNormalTriL,
)
from keras_genmodels.errors import UserError
from keras_genmodels.models import VAE
from keras_genmodels.networks import (
    conv_decoder,
    conv_encoder,
    mlp_decoder,
    mlp_encoder,
)

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "IndependentBernoulli",
    "IndependentDiscretizedLogistic",
    "IndependentNormal",
    "MultivariateNormalDiag",
    "MultivariateNormalTriL",
    "UserError",
    "conv_decoder",
    "conv_encoder",
    "mlp_decoder",
    "mlp_encoder",
]
