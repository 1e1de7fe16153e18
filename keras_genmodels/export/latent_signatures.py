"""What an exported latent-variable model does."""

import functools

import keras
import tensorflow as tf

from keras_genmodels.distributions.layers import (
    IndependentBernoulli,
    IndependentDiscretizedLogistic,
    MultivariateNormalTriL,
)
from keras_genmodels.export.fields import (
    Field,
    Signature,
    compiler,
    finite,
    integers,
    seeds,
)
from keras_genmodels.models import likelihood

# So many draws of z are decoded at once: two rows of 100. More would make a
# single row wait for draws of none; with 800 it took four times as long, and
# 32 rows were no faster.
_CHUNK = 200


def latent_signatures(model, settings):
    """Lists the signatures of a VAE or a conditional one, the default first.

    Args:
        model: a `VAE` or a `ConditionalVAE`.
        settings: dict of `num_samples` and `jit_compile`.

    Returns:
        dict of names to `Signature`.
    """
    given = _condition_field(model)
    image = {"image": finite(model.event_shape)}
    z = {"z": finite(model.posterior.event_shape)}
    seed = {"seed": seeds()}
    pixels = {"image": Field(model.event_shape, "float32", *support(model))}
    compiled = compiler(settings)
    verbs = {
        "reconstruct": (image, _reconstruct),
        "encode": (image, _encode),
        "decode": (z, _decode),
        "generate": (seed, _generate),
    }
    signatures = {
        name: Signature(
            {**fields, **given}, compiled(functools.partial(verb, model))
        )
        for name, (fields, verb) in verbs.items()
    }
    signatures["log_likelihood"] = Signature(
        {**pixels, **given, **seed}, _log_likelihood(model, settings)
    )
    return signatures


def _condition_field(model):
    """Gives the field of the condition, by name; none for a VAE."""
    if model.condition_kind is None:
        return {}
    if model.num_labels is None:
        (given,) = model.condition_network.inputs
        shape = tuple(given.shape[1:])
        if tf.as_dtype(given.dtype).is_floating:
            return {"condition": finite(shape)}
        return {"condition": _integer_field(model.condition_network, shape)}
    most = model.num_labels - 1
    limits = f"a label from 0 to {most}"
    if model.label_dropout:
        most += 1
        limits += f", or {most} for no label"
    return {"condition": integers(0, most, limits)}


def _integer_field(network, shape):
    """Gives the field of integers that a network takes.

    They are taken for places in a table, which the network would read from
    its end for those below 0. How long the table is, is known if it is the
    first layer; from others comes a refusal in the words of TensorFlow.
    """
    lengths = [
        layer.input_dim
        for layer in network.layers
        if isinstance(layer, keras.layers.Embedding)
        and layer.input is network.inputs[0]
    ]
    most = min(lengths, default=2**31) - 1
    limits = f"in [0, {most}]" if lengths else ">= 0"
    return Field(shape, "int32", limits, lambda x: (x >= 0) & (x <= most))


def support(model):
    """Gives what pixels a model's likelihood takes: words and a function.

    The words are `Field.limits`; a denoiser takes any that are finite.
    """
    layer = getattr(model, "likelihood", None)
    if isinstance(layer, IndependentDiscretizedLogistic):
        return "k / 255 for an integer k in [0, 255]", _is_level
    if not isinstance(layer, IndependentBernoulli):
        return "finite", tf.math.is_finite
    if layer.grey_values:
        return "in [0, 1]", lambda x: (x >= 0) & (x <= 1)
    return "0 or 1", lambda x: (x == 0) | (x == 1)


def _is_level(x):
    level = tf.round(x * 255)
    # Of no other breadth than what the likelihood takes.
    return (level >= 0) & (level <= 255) & (tf.abs(x * 255 - level) <= 1e-3)


def _reconstruct(model, image, condition=None):
    z = model.encode(image, condition).mean()
    mean = model.decode(z, condition).mean()
    return {"image": _with_known(model, mean, image)}


def _encode(model, image, condition=None):
    posterior = model.encode(image, condition)
    if isinstance(model.posterior, MultivariateNormalTriL):
        spread = {"scale_tril": posterior.scale.to_dense()}
    else:
        spread = {"stddev": posterior.stddev()}
    return {"loc": posterior.mean(), **spread}


def _decode(model, z, condition=None):
    mean = model.decode(z, condition).mean()
    return {"image": _with_known(model, mean, condition)}


def _generate(model, seed, condition=None):
    if condition is not None:
        return {"image": model.sample(condition, seed=seed)}
    return {"image": model.sample(tf.shape(seed)[0], seed=seed)}


def _with_known(model, mean, image):
    if getattr(model, "known", None) is None:
        return mean
    return tf.where(model.known, tf.cast(image, mean.dtype), mean)


def _log_likelihood(model, settings):
    compiled = compiler(settings)

    @compiled
    def terms(image, condition, seed):
        terms = model.elbo_terms(image, condition, seed=seed)
        rate, distortion = terms["rate"], terms["distortion"]
        return {
            "elbo": -(rate + distortion),
            "rate": rate,
            "distortion": distortion,
        }

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
