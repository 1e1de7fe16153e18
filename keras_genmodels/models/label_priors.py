"""A VampPrior in a model of class labels: its posteriors given each label."""

import typing

import tensorflow as tf

from keras_genmodels.distributions import gaussian_mixture


class LabelFeatures(typing.NamedTuple):
    """Features of class labels, and the labels that select posteriors."""

    vectors: tf.Tensor  # output of the condition network, [batch, ...]
    labels: tf.Tensor  # int32, [batch]


def vectors_of(features):
    """Returns the output of the condition network, `[batch, ...]`.

    Args:
        features: this tensor, or `LabelFeatures`.
    """
    if isinstance(features, LabelFeatures):
        return features.vectors
    return features


def encode_with_labels(model, features, x):
    """Computes q(z|x, c) of all events x, given the label of each example.

    The events are encoded once with each label and, if there is one, with "no
    label", and then selected; or, of a batch of fewer examples than labels,
    with that of each example.

    Args:
        model: a `ConditionalVAE` of class labels.
        features: `LabelFeatures` of n examples.
        x: float tensor `[num, *event_shape]`, num known.

    Returns:
        a Gaussian, batch `[n, num]`, event `[latent_size]`.
    """
    num, count = x.shape[0], model.num_classes + bool(model.label_dropout)
    vectors, labels = features
    batch = labels.shape[0]
    if batch is not None and batch < count:
        count, labels = batch, tf.range(batch)
    else:
        vectors = model.condition_network(tf.range(count))
    encoded = model._encode(
        tf.tile(x, (count,) + (1,) * (x.shape.rank - 1)),
        tf.repeat(vectors, num, axis=0),
    )
    index = labels[:, tf.newaxis] * num + tf.range(num)
    return gaussian_mixture.take(encoded, index)
