"""Writes the signatures of a model: named tensors in, named tensors out.

Each is a function of tensors, batch first, float32 or int32, whose row i
depends on row i of its inputs alone. Which ones a model has is decided by its
family, in `latent_signatures`, `learned_prior_signatures` and
`denoiser_signatures`.
"""

import tensorflow as tf

from keras_genmodels.core import precision, xla
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.events import is_any_size
from keras_genmodels.core.wording import kind_of
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.export import (
    denoiser_signatures,
    latent_signatures,
    learned_prior_signatures,
)
from keras_genmodels.export.fields import checked
from keras_genmodels.export.settings import Setting, resolve
from keras_genmodels.export.values import Integers
from keras_genmodels.models import LatentDiffusion, LatentVariableModel

# The first that fits.
_FAMILIES = {
    LatentDiffusion: learned_prior_signatures,
    LatentVariableModel: latent_signatures,
    Denoiser: denoiser_signatures,
}
_COMMON = {
    "max_rows": Setting(1024, Integers(1, 2**31 - 1)),
    "jit_compile": Setting(False),
}


class Servable(tf.Module):
    """What `tf.saved_model.save` writes: weights and endpoints, no Keras.

    Each endpoint is an attribute, a `tf.function` of a dict of tensors; one
    with a single input also takes that tensor.

    Args:
        model: the model, whose variables it holds.
        endpoints: dict of names to functions.
    """

    def __init__(self, model, endpoints):
        super().__init__()
        self.weights = [variable.value for variable in model.variables]
        for name, function in endpoints.items():
            setattr(self, name, function)


def settings_of(model, given):
    """Completes and checks the settings that are fixed at export.

    Args:
        model: the model.
        given: dict of names to values; None means the default.

    Returns:
        dict of all settings of such a model.

    Raises:
        UserError: for a model of neither family, a setting that such a model
            does not have, and a value that is not accepted.
    """
    known = {**_COMMON, **_family(model).known_settings(model, given)}
    kind = type(model).__name__
    if is_any_size(model.event_shape):
        kind += " of images of any size"
    if given.get("jit_compile") == "auto":
        # XLA would compile anew for each size.
        compiles = not is_any_size(model.event_shape) and xla.resolve(
            "auto", model
        )
        given = {**given, "jit_compile": compiles}
    return resolve(given, known, kind)


def signatures_of(model, settings):
    """Returns the signatures of a model, the default one first.

    Args:
        model: a latent-variable model or a denoiser.
        settings: dict from `settings_of`.

    Returns:
        dict of names to `Signature`s.

    Raises:
        UserError: for a denoiser without data, or a setting that it cannot
            use.
    """
    return _family(model).signatures(model, settings)


def describe(model):
    """Returns what model.json says of a model besides its signatures."""
    return {
        "kind": type(model).__name__,
        "image_shape": list(model.event_shape),
        **_family(model).describe(model),
    }


def save(model, path, settings):
    """Writes a SavedModel with all signatures of a model.

    Args:
        model: as in `signatures_of`.
        path: folder to write.
        settings: dict from `settings_of`.

    Returns:
        dict of the names of signatures to what model.json says of them: dicts
        `inputs` and `outputs` of names to `dtype` and `shape`, a list with
        None for the batch, and for inputs the accepted `values` and those of
        an `example`; and `max_example_rows`, if they are limited.
    """
    with precision.for_any_machine():
        return _save(model, path, settings)


def _save(model, path, settings):
    endpoints, traced, described = {}, {}, {}
    for name, signature in signatures_of(model, settings).items():
        function = _function(name, signature, settings["max_rows"])
        endpoints[name] = _endpoint(function, signature)
        traced[name] = function.get_concrete_function()
        described[name] = {
            "inputs": {k: v.to_json() for k, v in signature.fields.items()},
            "outputs": {
                key: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
                for key, spec in traced[name].structured_outputs.items()
            },
        }
        if signature.max_example_rows is not None:
            described[name]["max_example_rows"] = signature.max_example_rows
    default = next(iter(traced))
    endpoints["serving_default"] = endpoints[default]
    tf.saved_model.save(
        Servable(model, endpoints),
        str(path),
        signatures={"serving_default": traced[default], **traced},
    )
    return {"serving_default": described[default], **described}


def check_weights(model):
    """Raises unless all weights of a model are finite.

    Raises:
        UserError: with the name of a weight that is not.
    """
    for variable in model.variables:
        value = variable.value
        is_float = value.dtype.is_floating
        if is_float and not tf.reduce_all(tf.math.is_finite(value)):
            raise UserError(
                f"the model's weight {variable.path} is not finite: train again"
            )


def _family(model):
    """Returns the module with the signatures of a model's family."""
    for kind, family in _FAMILIES.items():
        if isinstance(model, kind):
            return family
    raise UserError(
        "export needs a latent-variable model (VAE, ConditionalVAE) or a "
        f"denoiser, got {kind_of(model)}"
    )


def _function(name, signature, max_rows):
    """Returns the `tf.function` of a signature, with its checks."""

    def run(inputs):
        values = checked(signature.fields, inputs, max_rows)
        outputs = {
            key: value if value.dtype == tf.int32 else tf.cast(value, "float32")
            for key, value in signature.compute(**values).items()
        }
        return _finite_outputs(outputs, ", ".join(signature.fields))

    run.__name__ = name
    return tf.function(
        run, input_signature=[signature.specs()], autograph=False
    )


def _endpoint(function, signature):
    """Returns `function` for a dict or, with a single input, its tensor.

    It is a function of its own, as saving traces it again.
    """
    specs = signature.specs()

    def call(inputs):
        if not isinstance(inputs, dict):
            inputs = dict.fromkeys(specs, inputs)
        return function(inputs)

    endpoint = tf.function(call, autograph=False)
    endpoint.get_concrete_function(specs)
    if len(specs) == 1:
        endpoint.get_concrete_function(*specs.values())
    return endpoint


def _finite_outputs(outputs, inputs):
    """Refuses inputs so large or small that an output is not finite."""
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(value)),
            [
                f"the output {key} is not finite: some of {inputs} are too "
                "large or too small"
            ],
        )
        for key, value in outputs.items()
        if value.dtype.is_floating
    ]
    with tf.control_dependencies(checks):
        return {key: tf.identity(value) for key, value in outputs.items()}
