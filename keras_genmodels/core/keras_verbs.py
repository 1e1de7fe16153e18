"""Keras' own verbs of a model: the data they take, and the files they write."""

import functools
import pathlib
import types

import keras

from keras_genmodels.core.checked_data import (
    check_batches,
    errors_in_one_line,
)
from keras_genmodels.core.validation import check
from keras_genmodels.core.wording import kind_of, with_article

_HDF5_SUFFIXES = (".h5", ".hdf5")


class KerasVerbs:
    """Mixin for a Keras model of events, a base class before `keras.Model`.

    The model defines

    - `_as_inputs(inputs)`, which returns the argument of `call`. It accepts
      what a data set may hold, and raises a ValueError of one line for
      anything else (Keras surrounds errors of `call` with lines of its own).
      A subclass with another `call` and without it gets inputs unchanged;
    - `_input_signature()`, the argument of `call` as `keras.InputSpec`s,
      which `export` uses;
    - `_check_batch(verb, x, y)`, which checks shape, values and scale of a
      batch of data, in a graph by assertions.

    The verbs check arrays as a whole, and batches of a data set or generator
    when they are read.
    """

    def __call__(self, inputs, *args, **kwargs):
        if _comes_first(type(self), "_as_inputs", "call"):
            inputs = self._as_inputs(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains as `keras.Model.fit`; generators may yield bare batches."""
        check(x is not None, "fit takes batches of events, got None")
        self._check_rows("fit", x)
        self._before_fit(x, y)
        x = self._checked_data("fit", x, y)
        if kwargs.get("validation_data") is not None:
            validation = self._checked_validation(kwargs["validation_data"])
            kwargs = {**kwargs, "validation_data": validation}
        with errors_in_one_line():
            return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """Trains as `keras.Model.train_on_batch`."""
        self._checked_data("train_on_batch", x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """Evaluates as `keras.Model.test_on_batch`."""
        self._checked_data("test_on_batch", x, y)
        return super().test_on_batch(x, y, *args, **kwargs)

    def predict_on_batch(self, x):
        """Predicts as `keras.Model.predict_on_batch`."""
        self._checked_data("predict", x)
        return super().predict_on_batch(x)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Evaluates as Keras does; generators may yield bare batches."""
        x = self._checked_data("evaluate", x, y)
        with errors_in_one_line():
            return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Predicts as Keras does; generators may yield bare batches."""
        x = self._checked_data("predict", x)
        with errors_in_one_line():
            return super().predict(x, *args, **kwargs)

    def _before_fit(self, x, y):
        """Prepares for training, before the data are checked; a hook."""

    def _check_batch(self, verb, x, y):
        """Raises for a batch that the model does not take; a hook."""

    def _checked_data(self, verb, x, y=None):
        """Returns data whose batches are checked, in a form that Keras takes.

        Raises:
            ValueError: for missing or wrong data.
        """
        check(x is not None, f"{verb} takes batches of events, got None")
        self._check_rows(verb, x)
        if _comes_first(type(self), "_as_inputs", "call"):
            x = check_batches(x, y, functools.partial(self._check_batch, verb))
        return with_tuples(x)

    def _checked_validation(self, data):
        if not isinstance(data, tuple):
            return self._checked_data("evaluate", data)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        self._checked_data("evaluate", x, y)
        return data

    def _check_rows(self, verb, x):
        """Raises for arrays without rows, which Keras does not check."""
        if isinstance(x, dict | list | tuple):
            x = next(iter(keras.tree.flatten(x)), None)
        shape = getattr(x, "shape", None)
        check(
            shape is None or shape[:1] != (0,),
            f"{verb} got no data, but 0 rows",
        )

    def save(self, filepath, *args, **kwargs):
        """Saves to a `.keras` file, as `keras.Model.save`.

        Raises:
            ValueError: for an HDF5 file, which lacks what rebuilds the model.
        """
        suffix = pathlib.Path(str(filepath)).suffix
        check(
            suffix.lower() not in _HDF5_SUFFIXES,
            f"{kind_of(self)} is saved to a .keras file, as an HDF5 "
            f"file lacks what rebuilds it, got {filepath}; save_weights "
            "writes .weights.h5",
        )
        return super().save(filepath, *args, **kwargs)

    def compute_output_shape(self, input_shape):
        """Returns the shapes of what `call` returns.

        Args:
            input_shape: tuple, or a list or dict of tuples: the shapes of the
                inputs of `call`, with None for any number of rows.

        Returns:
            tuple, or dict of tuples.

        Raises:
            ValueError: for another number of inputs.
        """
        specs, shapes = self._input_signature(), []
        keras.tree.map_shape_structure(shapes.append, input_shape)
        dtypes = [spec.dtype for spec in keras.tree.flatten(specs)]
        check(
            len(shapes) == len(dtypes),
            f"{kind_of(self)} takes {len(dtypes)} inputs, got "
            f"{len(shapes)} shapes",
        )
        inputs = keras.tree.pack_sequence_as(
            specs, list(map(keras.KerasTensor, shapes, dtypes))
        )
        outputs = self.compute_output_spec(inputs)
        return keras.tree.map_structure(lambda x: tuple(x.shape), outputs)

    def compute_output_spec(self, *args, **kwargs):
        """Returns symbolic outputs of `call`, by tracing it."""
        # Keras would take the shapes above and one dtype for all outputs.
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def export(
        self,
        filepath,
        format="tf_saved_model",
        verbose=None,
        input_signature=None,
        **kwargs,
    ):
        """Exports `call` as `keras.Model.export` does.

        The signature takes any number of rows by default.
        `keras_genmodels.export.export` writes the signatures of all verbs.
        """
        if input_signature is None:
            input_signature = [self._input_signature()]
        return super().export(
            filepath, format, verbose, input_signature, **kwargs
        )


def _comes_first(kind, name, other):
    """Returns whether a class gets `name` from a class not above `other`'s."""
    for base in kind.__mro__:
        if name in vars(base):
            return True
        if other in vars(base):
            return False
    return False


def with_tuples(data):
    """Wraps the batches of a generator in tuples, as Keras requires.

    Args:
        data: argument of `fit`, `evaluate` or `predict`.

    Returns:
        a generator of tuples for a generator, else `data`.
    """
    if not isinstance(data, types.GeneratorType):
        return data
    return (item if isinstance(item, tuple) else (item,) for item in data)


def image_of(inputs, kind):
    """Returns the events of a batch: itself, or what a dict has as `image`.

    Args:
        inputs: tensor or array `[batch, ...]`, or a dict with such under
            `image`. A dict may have further entries that are no condition,
            such as the labels of a data set, which are not used.
        kind: name of the model, for messages.

    Raises:
        ValueError: for a dict without `image`, or with a `condition`.
    """
    if isinstance(inputs, dict):
        check(
            "image" in inputs and "condition" not in inputs,
            f"{with_article(kind)} takes events, or dicts with events under "
            f"'image' and without 'condition', got a dict of {sorted(inputs)}",
        )
        return inputs["image"]
    return inputs


def is_symbolic(x):
    """Returns whether x is a symbolic tensor, as in a Functional model."""
    return isinstance(x, keras.KerasTensor)


def as_one_tensor(inputs, kind):
    """Returns a batch as a tensor; symbolic tensors of Keras as they are.

    Raises:
        ValueError: for values that are not one array.
    """
    if is_symbolic(inputs):
        return inputs
    # One of TensorFlow's errors has the whole array in its message.
    try:
        return keras.ops.convert_to_tensor(inputs)
    except Exception as error:
        parts = (
            f"{kind_of(inputs)} of {len(inputs)}"
            if isinstance(inputs, tuple | list)
            else kind_of(inputs)
        )
        raise ValueError(
            f"{with_article(kind)} takes one array of events [batch, ...], "
            f"got {parts}"
        ) from error
