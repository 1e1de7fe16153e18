"""The embedding of noise level and class label in a denoiser's network."""

import keras

from keras_genmodels.core.validation import check_count
from keras_genmodels.networks.encoders import input_layer
from keras_genmodels.networks.layers import FourierFeatures, Split

_SIZE = 128


def embedded_inputs(event_shape, noise_conditional, num_classes):
    """Builds the inputs of a denoiser's network.

    Args:
        event_shape: shape of one event.
        noise_conditional: whether the noise level is an input.
        num_classes: int >= 1 if class labels are an input, else None.

    Returns:
        list of symbolic tensors: the events, the level `[batch]`, and the
        label, int32 `[batch]` in [0, num_classes]; and the embedding
        `[batch, 128]` of level and label, None without both.
    """
    x = input_layer(event_shape)
    level = input_layer(()) if noise_conditional else None
    label = None
    if num_classes is not None:
        check_count("num_classes", num_classes)
        label = keras.Input((), dtype="int32")
    inputs = [given for given in (x, level, label) if given is not None]
    return inputs, _embed(level, label, num_classes)


def modulations(embedding, channels):
    """Builds scale and shift of each channel, for the `FiLM` of each layer.

    One dense layer computes those of all layers: many small operations would
    take as long as a convolution.

    Args:
        embedding: as `embedded_inputs` returns it.
        channels: ints >= 1, those of each layer that is modulated, in turn.

    Returns:
        list of symbolic tensors `[batch, 2 * channels]`, zeros in a new model;
        of None without an embedding.
    """
    if embedding is None:
        return [None] * len(channels)
    sizes = [2 * count for count in channels]
    joined = keras.layers.Dense(
        sum(sizes), kernel_initializer="zeros", name="modulations"
    )(embedding)
    return Split(sizes, name="modulation")(joined)


def _embed(level, label, num_classes):
    """Returns `[batch, _SIZE]`, or None without level and label."""
    parts = []
    if level is not None:
        parts.append(_embedding_layer("level_0")(FourierFeatures()(level)))
    if label is not None:
        # Of the scale of the level's part. Keras' default is 20 times
        # smaller and has little effect at first.
        parts.append(
            keras.layers.Embedding(
                num_classes + 1,
                _SIZE,
                embeddings_initializer=keras.initializers.RandomNormal(
                    stddev=1.0
                ),
                name="label",
            )(label)
        )
    if not parts:
        return None
    h = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    return _embedding_layer("level_1")(h)


def _embedding_layer(name):
    return keras.layers.Dense(_SIZE, activation="silu", name=name)
