"""Models of the importance-weighted bound, and its gradients."""

import keras
import numpy as np
import tensorflow as tf

from support.linear_gaussian import (
    linear_vae,
    set_true_posterior,
)
from support.small_cvaes import OBSERVED, dicts, images, of_labels, of_parts
from support.small_vaes import binary_images, make_vae


def networks_of(model):
    return {
        name: getattr(model, name)
        for name in model._argument_names()
        if isinstance(getattr(model, name), keras.Layer)
    }


def gradients(model, inputs, sample_weight=None):
    """Gives the loss of the first step and its gradients, by network."""
    if not model.compiled:
        model.compile()
    weights = {
        name: network.trainable_variables
        for name, network in networks_of(model).items()
    }
    with tf.GradientTape() as tape:
        terms = model(inputs, training=True)
        loss = model.compute_loss(
            inputs, None, terms, sample_weight=sample_weight
        )
    found = tape.gradient(loss, weights)
    return loss, {
        (name, i): tf.convert_to_tensor(part).numpy()
        for name, parts in found.items()
        for i, part in enumerate(parts)
    }


def gradient_statistics(model, x, steps, networks=None):
    """Returns the mean of the bound's gradient over steps, and its error.

    Args:
        model: a latent-variable model.
        x: batch of events.
        steps: int, number of draws.
        networks: function of the model to the weights; by default all.
    """
    model.compile()
    weights = networks(model) if networks else model.trainable_variables

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            terms = model(x, training=True)
            loss = -tf.reduce_mean(terms["importance_weighted"])
        parts = tape.gradient(loss, weights)
        return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

    draws = []
    for step in range(steps):
        model.optimizer.iterations.assign(step)
        draws.append(gradient().numpy())
    return np.mean(draws, 0), np.std(draws, 0) / np.sqrt(steps)


def pair(make, count=5, **settings):
    """Makes two models that differ in their gradient alone."""
    models = []
    for doubly in (False, True):
        keras.utils.set_random_seed(3)
        models.append(
            make(
                num_importance_samples=count,
                doubly_reparameterized=doubly,
                **settings,
            )
        )
    return models


# --- Exact answers. --------------------------------------------------------


def exact_pair(widen, **settings):
    return [
        set_true_posterior(model, widen)
        for model in pair(linear_vae, **settings)
    ]


# --- What all models of the family share. ----------------------------------

KINDS = {
    "vae": lambda **kw: make_vae("full", **kw),
    "labels": lambda **kw: of_labels("full", learned=True, **kw),
    "parts": lambda **kw: of_parts(learned=True, **kw),
}


def inputs_of(kind, n=24):
    if kind == "vae":
        return binary_images(n)
    if kind == "labels":
        return dicts(n)
    return {"image": images(n), "condition": images(n) * OBSERVED}
