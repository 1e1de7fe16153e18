"""Signatures of an exported latent-variable model.

A new signature is one entry of the dict that `signatures` returns: its inputs
with the values that they accept, and a function. The checks of requests, the
warm-up records, model.json and `apps.export --check` follow from that.
"""

import functools

import keras
import tensorflow as tf

from keras_genmodels.core.pixel_scale import is_image
from keras_genmodels.distributions import latents
from keras_genmodels.export.fields import Field, Signature, compiler, seeds
from keras_genmodels.export.settings import Setting
from keras_genmodels.export.values import (
    CLEAN_PIXELS,
    FINITE,
    Binary,
    Integers,
    Interval,
    Levels,
    labels,
)
from keras_genmodels.models import likelihood

_SUPPORTS = {
    "binary": Binary(),
    "unit_interval": Interval(0, 1),
    "levels": Levels(),
    "real": FINITE,
}
# Latents that `log_likelihood` decodes at once: two rows of 100 draws. With
# 800, a single row took four times as long and 32 rows were no faster.
_CHUNK = 200
_INT32_MAX = 2**31 - 1


def known_settings(model, given):
    """Returns the `Setting`s of such a model by name."""
    return {"num_samples": Setting(100, Integers(1, 10**6))}


def signatures(model, settings):
    """Returns the signatures of a latent-variable model, the default first.

    Args:
        model: a `LatentVariableModel`.
        settings: dict of `num_samples` and `jit_compile`.

    Returns:
        dict of names to `Signature`s.
    """
    support = _SUPPORTS[model.likelihood.support]
    image = Field(model.event_shape, values=_scale(model), example=support)
    pixels = Field(model.event_shape, values=support)
    z = Field((model.latent_size,), example=Interval(-2, 2))
    condition = _condition_field(model, support)
    given = {} if condition is None else {"condition": condition}
    compiled = compiler(settings)

    def signature(compute, **fields):
        return Signature(fields, compiled(functools.partial(compute, model)))

    found = {
        "reconstruct": signature(_reconstruct, image=image, **given),
        "encode": signature(_encode, image=image, **given),
        "decode": signature(_decode, z=z, **given),
        "generate": signature(_generate, seed=seeds(), **given),
    }
    if not model.has_costly_prior:
        found["log_likelihood"] = Signature(
            {"image": pixels, **given, "seed": seeds()},
            _log_likelihood(model, settings),
        )
    return found


def describe(model):
    """Returns what model.json says of such a model in particular."""
    return {
        "num_classes": model.num_classes,
        "no_label": model.num_classes if model.label_dropout else None,
        "has_observed_mask": model.observed_mask is not None,
        "pixels": _SUPPORTS[model.likelihood.support].to_json(),
        "sigma_range": None,
    }


def _condition_field(model, support):
    """Returns the field of the condition; None for a model without one."""
    if model.condition_kind is None:
        return None
    if model.condition_kind == "label":
        no_label = bool(model.label_dropout)
        return Field((), "int32", labels(model.num_classes, no_label))
    (given,) = model.condition_network.inputs
    shape = tuple(given.shape[1:])
    if not tf.as_dtype(given.dtype).is_floating:
        # 0 is the one index that every table has.
        indices = Integers(0, _largest_index(model.condition_network))
        return Field(shape, "int32", indices, example=Integers(0, 0))
    if model.condition_kind == "other":
        support = Interval(0, 0.5)
        return Field(shape, example=support)
    return Field(shape, values=_scale(model), example=support)


def _scale(model):
    """Returns the values that an image may have where grey levels may."""
    free = model.likelihood.support == "real"
    is_scaled = is_image(model.event_shape) and not free
    return CLEAN_PIXELS if is_scaled else FINITE


def _largest_index(network):
    """Returns the largest integer that a network accepts as its input.

    Integers are taken as indices of an embedding, which would count negative
    ones from its end. If the embedding is not the first layer, its size is not
    known here, and TensorFlow's own message refuses indices beyond it.
    """
    sizes = [
        layer.input_dim
        for layer in network.layers
        if isinstance(layer, keras.layers.Embedding)
        and layer.input is network.inputs[0]
    ]
    return min(sizes, default=_INT32_MAX + 1) - 1


def _reconstruct(model, image, condition=None):
    z = latents.center(model.encode(image, condition))
    mean = model.decode(z, condition).mean()
    return {"image": model.keep_observed(image, mean)}


def _encode(model, image, condition=None):
    return latents.parameters(model.encode(image, condition))


def _decode(model, z, condition=None):
    mean = model.decode(z, condition).mean()
    return {"image": model.keep_observed(condition, mean)}


def _generate(model, seed, condition=None):
    num = tf.shape(seed)[0] if condition is None else None
    return {"image": model.sample(num, condition, seed=seed)}


def _log_likelihood(model, settings):
    """Returns the function of the signature, which compiles its parts."""

    @compiler(settings)
    def terms(image, condition, seed):
        terms = model.elbo_terms(image, condition, seed=seed)
        rate, distortion = terms["rate"], terms["distortion"]
        elbo = -(rate + distortion)
        return {"elbo": elbo, "rate": rate, "distortion": distortion}

    def compute(image, seed, condition=None):
        estimate = likelihood.log_likelihood(
            model,
            image,
            condition,
            num_samples=settings["num_samples"],
            seed=seed,
            chunk_size=_CHUNK,
            jit_compile=settings["jit_compile"],
        )
        return {"log_likelihood": estimate, **terms(image, condition, seed)}

    return compute
