"""Class labels as the condition of a denoiser, and guidance by them."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core.class_labels import (
    check_guidance,
    check_guidance_of_rows,
)
from keras_genmodels.core.events import num_events, per_event
from keras_genmodels.core.validation import check
from keras_genmodels.denoisers._compiled import evaluate


class OptionalLabels:
    """Mixin of a `Denoiser`, which may be conditioned on class labels.

    A conditional denoiser sets `num_classes`, `label_dropout` and `_labels`,
    the `ClassLabels` of both, and defines `_denoise(x, sigma, condition)`.

    #### References

    Ho and Salimans (2022), Classifier-free diffusion guidance,
    arXiv:2207.12598, equation 6.
    """

    num_classes = observed_mask = _labels = None
    label_dropout = 0.0
    # Whether eager calls run a compiled function.
    _is_compiled = False

    @property
    def condition_kind(self):
        """What a condition is: "label", or None without conditions."""
        return None if self.num_classes is None else "label"

    def validate_condition(self, condition, num=None):
        """Checks a condition.

        Args:
            condition: as in `denoise`.
            num: number of events, or None if it is that of the labels.

        Returns:
            int32 tensor `[num]`, where `num_classes` is "no label"; None for
            a denoiser without conditions.

        Raises:
            ValueError: as `denoise`.
        """
        if self._labels is None:
            check(
                condition is None,
                f"condition must be None, as this {type(self).__name__} is "
                f"not conditional, got {condition!r}",
            )
            return None
        if condition is None:
            return self._labels.missing(num)
        condition = tf.convert_to_tensor(condition)
        if num is not None and condition.shape.rank == 0:
            condition = tf.fill([num], condition)
        labels = self._labels.validate(condition)
        rows = None if tf.is_tensor(num) else num
        check(
            rows is None or labels.shape.is_compatible_with([rows]),
            f"got {labels.shape[0]} conditions for {rows} rows",
        )
        return labels

    def _guided(self, x, sigma, condition, guidance):
        """Returns D for checked x and sigma, extrapolated by the guidance."""
        check_guidance(guidance, condition, self.label_dropout)
        num = num_events(x)
        check_guidance_of_rows(guidance, num)
        condition = self.validate_condition(condition, num)
        if condition is None or not (
            tf.is_tensor(guidance) or np.any(guidance)
        ):
            guidance = None
        else:
            guidance = tf.broadcast_to(tf.cast(guidance, x.dtype), [num])
        if self._is_compiled:
            return evaluate(self, x, sigma, condition, guidance)
        return self._extrapolate(x, sigma, condition, guidance)

    def _extrapolate(self, x, sigma, condition, guidance):
        """Returns D for a condition or None, and a guidance or None."""
        if condition is None:
            return self._denoise(x, sigma)
        denoised = self._denoise(x, sigma, condition)
        if guidance is None:
            return denoised
        guidance = per_event(guidance, x)
        missing = self._labels.missing(num_events(x))
        without = self._denoise(x, sigma, missing)
        return (1 + guidance) * denoised - guidance * without
