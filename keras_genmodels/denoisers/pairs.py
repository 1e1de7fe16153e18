"""Training on pairs of noisy and clean events, in the forms of Keras' data."""

import types

import keras
import tensorflow as tf

from keras_genmodels.core.pixel_scale import require_clean, require_noisy
from keras_genmodels.core.self_supervised import SelfSupervised
from keras_genmodels.core.validation import check
from keras_genmodels.core.wording import with_article


class PairTraining(SelfSupervised):
    """Mixin of a denoiser that is trained on clean events, or on pairs.

    Pairs become dicts of `noisy` and `clean`, which its `call` takes.
    """

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains as Keras' `fit` does, after `adapt` if that is missing.

        Args:
            x: clean events; noisy ones with clean events `y`; or pairs, as a
                tuple, a dict of `noisy` and `clean`, or a data set of either.
            y: None, or clean events of noisy `x`.
            *args, **kwargs: as of `keras.Model.fit`.

        Raises:
            ValueError: as `adapt`; for pairs, if the model needs sigma; for
                other targets; for a generator before `adapt`, which would use
                it up.
        """
        # Before anything else, as for arrays there are shorter messages.
        self._check_targets(y)
        return super().fit(x, y, *args, **kwargs)

    def _before_fit(self, x, y):
        if not self.adapted:
            self.adapt(clean_events(x, y, self._check_targets))

    def _check_batch(self, verb, x, y):
        if verb != "predict":
            self._check_targets(y)
        if y is not None and not self.needs_sigma and self._are_events(y):
            x = {"noisy": x, "clean": y}
        inputs = self._as_inputs(x)
        if not isinstance(inputs, dict):
            require_clean(inputs, self.event_shape)
        elif "noisy" in inputs:
            highest = self.sigma_range[1]
            require_noisy(inputs["noisy"], highest, self.event_shape, "noisy")
            require_clean(inputs["clean"], self.event_shape, "clean")
        else:
            require_clean(inputs["image"], self.event_shape, "image")

    def train_step(self, data):
        """Trains on a batch of clean events or pairs."""
        return super().train_step(targets_to_inputs(data))

    def test_step(self, data):
        """Evaluates a batch of clean events or pairs."""
        return super().test_step(targets_to_inputs(data))

    def predict_step(self, data):
        """Applies the model to clean events, or denoises those of pairs."""
        _, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if not self.needs_sigma and self._are_events(y):
            data = targets_to_inputs(data)
        return super().predict_step(data)

    def _check_targets(self, y):
        if y is None:
            return
        kind = type(self).__name__
        check(
            self.num_classes is None,
            f"a conditional {kind} is trained on dicts of image and condition, "
            "without targets: pairs of noisy and clean events have no label",
        )
        check(
            self._are_events(y),
            f"{with_article(kind)} is trained without targets: fit(x), not "
            "fit(x, y); y may only be clean events of noisy x, of the same "
            "shape",
        )
        check(
            not self.needs_sigma,
            "pairs of noisy and clean events lack the noise level, which this "
            f"{kind} needs: use blind=True, or fit(clean), which adds noise",
        )
        check(
            self.num_noise_draws == 1,
            "pairs of noisy and clean events require num_noise_draws=1, got "
            f"{self.num_noise_draws}",
        )

    def _are_events(self, y):
        shape = tf.TensorShape(getattr(y, "shape", ()))
        return shape[1:].is_compatible_with(self.event_shape)


def as_pair(inputs, event_rank):
    """Returns a dict of `noisy` and `clean`, or None for anything else.

    Args:
        inputs: what a model is called on: a dict of `noisy` and `clean`, a
            tuple or list of two batches of events, or other data.
        event_rank: int, number of axes of one event.
    """
    if isinstance(inputs, dict):
        return inputs if inputs.keys() == {"noisy", "clean"} else None
    if (
        isinstance(inputs, tuple | list)
        and len(inputs) == 2
        and all(_rank(x) == event_rank + 1 for x in inputs)
    ):
        return dict(zip(("noisy", "clean"), inputs, strict=True))
    return None


def _rank(x):
    return tf.TensorShape(getattr(x, "shape", ())).rank


def targets_to_inputs(data):
    """Moves the clean events of a batch of Keras into the inputs.

    Args:
        data: `x`, or a tuple of `x`, targets and perhaps sample weights.

    Returns:
        `data`, or for targets a tuple with a dict of `noisy` and `clean`.
    """
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    if y is None:
        return data
    return {"noisy": x, "clean": y}, None, weight


def clean_events(x, y, check_targets):
    """Returns the clean events of the data of `fit`, for `adapt`.

    Args:
        x, y: as of `DenoisingAutoencoder.fit`.
        check_targets: function that raises unless targets are clean events.

    Returns:
        data of `adapt`.

    Raises:
        ValueError: for a generator, which can be read only once.
    """
    if y is not None:
        return y
    if isinstance(x, types.GeneratorType):
        raise ValueError(
            "a generator can be read only once: call adapt(data) before fit"
        )
    if isinstance(x, tf.data.Dataset):
        # Outside of the graph, where errors are of one line.
        _clean_of(x.element_spec, check_targets)
        return x.map(
            lambda *item: _clean_of(
                item if len(item) > 1 else item[0], check_targets
            )
        )
    if isinstance(x, keras.utils.PyDataset):
        batches = range(x.num_batches)
        return (_clean_of(x[i], check_targets) for i in batches)
    return _clean_of(x, check_targets)


def _clean_of(item, check_targets):
    """Returns the clean events of an array, a tensor, or a batch of data."""
    if isinstance(item, dict):
        for key in ("clean", "image"):
            if key in item:
                return item[key]
    elif isinstance(item, tuple | list) and len(item) == 1:
        return item[0]
    elif isinstance(item, tuple) and hasattr(item[1], "shape"):
        check_targets(item[1])
        return item[1]
    return item
