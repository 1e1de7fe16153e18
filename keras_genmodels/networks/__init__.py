"""Plain Keras networks: encoders, decoders, denoisers."""

from keras_genmodels.networks import channel_normalization  # noqa: F401
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

__all__ = [
    "bias_free_unet",
    "conv_decoder",
    "conv_encoder",
    "image_condition",
    "label_embedding",
    "mlp_decoder",
    "mlp_denoiser",
    "mlp_encoder",
    "mlp_prior",
    "unet",
]
