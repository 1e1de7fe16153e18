"""The signatures of an exported model: named tensors in, named tensors out.

Each is a function of tensors alone, batch first, float32 or int32, whose row i
is a function of row i of its inputs. What it computes it leaves to the verbs
of the model and to the loops over these.
"""

import functools
import math
import numbers

import tensorflow as tf

from keras_genmodels.core import validation
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.export.denoiser_signatures import denoiser_signatures
from keras_genmodels.export.fields import checked
from keras_genmodels.export.latent_signatures import latent_signatures
from keras_genmodels.models.latent_variable import VariationalModel
from keras_genmodels.sampling._inputs import validate_setting

check = functools.partial(validation.check, error=UserError)
check_count = functools.partial(validation.check_count, error=UserError)

_COMMON = {"max_rows": 1024, "jit_compile": False}
_OF_LATENT = {"num_samples": 100}
_OF_DENOISER = {
    "step_size": 0.1,
    "max_steps": 100,
    "tolerance": 1e-3,
    "num_steps": 100,
    "stochasticity": 0.0,
}
# So that no number is too large for int32, no plan for memory and no request
# for a server.
_MOST = {
    "max_rows": 2**31 - 1,
    "num_samples": 10**6,
    "max_steps": 10**6,
    "num_steps": 10**5,
}


class Servable(tf.Module):
    """What `tf.saved_model.save` writes: weights and endpoints, no Keras.

    Each endpoint is an attribute, a `tf.function` of a dict of tensors; where
    there is one input, of that tensor, too.

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
        given: dict; None stands for the default.

    Returns:
        dict of those that go with such a model.

    Raises:
        UserError: for one that does not, and for a value out of range.
    """
    is_denoiser = isinstance(model, Denoiser)
    known = {**_COMMON, **(_OF_DENOISER if is_denoiser else _OF_LATENT)}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        check(
            name in known,
            f"{name} does not go with a {type(model).__name__}, which takes "
            f"{', '.join(known)}",
        )
    settings = {**known, **given}
    for name in filter(known.__contains__, _MOST):
        check_count(name, settings[name])
        check(
            settings[name] <= _MOST[name],
            f"{name} must be at most {_MOST[name]}, got {settings[name]}",
        )
    check(
        isinstance(settings["jit_compile"], bool),
        f"jit_compile must be a bool, got {settings['jit_compile']!r}",
    )
    if is_denoiser:
        _check_walk(model, settings)
    # Of Python's own types, for model.json.
    return {name: type(known[name])(settings[name]) for name in known}


def _check_walk(denoiser, settings):
    for name in ("step_size", "tolerance"):
        check(
            isinstance(settings[name], numbers.Real),
            f"{name} must be a number, got {settings[name]!r}",
        )
        with user_errors():
            validate_setting(name, settings[name], tf.zeros(1))
    check(
        settings["tolerance"] < math.inf,
        "tolerance must be finite, got inf",
    )
    stochasticity = settings["stochasticity"]
    check(
        isinstance(stochasticity, numbers.Real) and 0 <= stochasticity < 1,
        f"stochasticity must be in [0, 1), got {stochasticity!r}",
    )
    check(
        not stochasticity or not denoiser.has_single_level,
        "stochasticity does not go with a denoiser of a single noise level",
    )


def signatures_of(model, settings):
    """Lists the signatures of a model, the default one first.

    Args:
        model: a `VAE`, a `ConditionalVAE` or a `Denoiser`.
        settings: of `settings_of`.

    Returns:
        dict of names to `Signature`.
    """
    if isinstance(model, Denoiser):
        return denoiser_signatures(model, settings)
    return latent_signatures(model, settings)


def save(model, path, settings):
    """Writes a SavedModel with all signatures of a model.

    Args:
        model: as in `signatures_of`.
        path: folder to write.
        settings: of `settings_of`.

    Returns:
        dict of the names of signatures to what they take and give: `inputs`
        and `outputs`, dicts of names to `dtype` and `shape`, a list with None
        for the batch.
    """
    endpoints, traced, described = {}, {}, {}
    for name, signature in signatures_of(model, settings).items():
        function = _function(name, signature, settings["max_rows"])
        endpoints[name] = _endpoint(function, signature)
        traced[name] = function.get_concrete_function()
        described[name] = {
            "inputs": _described(signature.specs()),
            "outputs": _described(traced[name].structured_outputs),
        }
    default = next(iter(traced))
    endpoints["serving_default"] = endpoints[default]
    tf.saved_model.save(
        Servable(model, endpoints),
        str(path),
        signatures={"serving_default": traced[default], **traced},
    )
    return {"serving_default": described[default], **described}


def _described(specs):
    return {
        name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
        for name, spec in specs.items()
    }


def _function(name, signature, max_rows):
    """Gives the `tf.function` of a signature, with its checks."""

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
    """Gives it as a function of a dict and, if of one tensor, of that.

    It is apart from the above, as saving traces it anew.
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
    """Refuses inputs so large or small that nothing finite comes of them."""
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(value)),
            [
                f"the {key} that comes of {inputs} is not finite: give values "
                "that are less large or less small"
            ],
        )
        for key, value in outputs.items()
        if value.dtype.is_floating
    ]
    with tf.control_dependencies(checks):
        return {key: tf.identity(value) for key, value in outputs.items()}


def check_model(model):
    """Refuses what can't be exported.

    Raises:
        UserError: for something else than a model of this package, one that
            knows no data yet, and one with weights that are not finite.
    """
    check(
        isinstance(model, Denoiser | VariationalModel),
        "export takes a VAE, a ConditionalVAE or a denoiser, got a "
        f"{type(model).__name__}",
    )
    if isinstance(model, Denoiser):
        # It refuses before it looks at the shape.
        with user_errors():
            shape = (1, *(model.event_shape or ()))
            model.validate_inputs(tf.zeros(shape), 1.0)
    for variable in model.variables:
        value = variable.value
        check(
            not value.dtype.is_floating
            or bool(tf.reduce_all(tf.math.is_finite(value))),
            f"the model's weight {variable.path} is not finite: train again",
        )
