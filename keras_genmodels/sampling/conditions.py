"""Conditional denoisers as denoisers of x and sigma alone, for the loops."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core.class_labels import (
    check_guidance,
    check_guidance_of_rows,
)
from keras_genmodels.core.events import num_events
from keras_genmodels.core.validation import check


def with_condition(denoiser, condition=None, guidance=0.0):
    """Returns a denoiser of x and sigma alone.

    Args:
        denoiser: as in `restore`.
        condition, guidance: as of `Denoiser.denoise`.

    Returns:
        `WithCondition`; `denoiser` itself if it is not conditional.

    Raises:
        ValueError: as `Denoiser.denoise`.
    """
    if getattr(denoiser, "condition_kind", None) is not None:
        return WithCondition(denoiser, condition, guidance)
    check(
        condition is None,
        "condition must be None, as the denoiser is not conditional, got "
        f"{condition!r}",
    )
    check_guidance(guidance, None, 0.0)
    return denoiser


class WithCondition:
    """A conditional denoiser together with its condition.

    Loops that evaluate D(x, sigma) take it as any denoiser. They are compiled
    once for all conditions: `core.loop_cache` passes `loop_inputs` to them as
    arguments. Other attributes are those of the denoiser.

    Args:
        denoiser: a conditional `Denoiser`.
        condition, guidance: as of its `denoise`.

    Attributes:
        denoiser: the conditional `Denoiser`.
        loop_inputs: tuple of tensors, each a scalar or `[batch]`, which its
            `denoise` takes after x and sigma: the labels, and the guidance
            unless it is 0.
    """

    condition_kind = None

    def __init__(self, denoiser, condition, guidance=0.0):
        check_guidance(guidance, condition, denoiser.label_dropout)
        self.denoiser = denoiser
        if condition is not None:
            condition = tf.convert_to_tensor(condition)
        if condition is None or condition.shape.rank == 0:
            labels = denoiser.validate_condition(condition, 1)[0]
        else:
            labels = denoiser.validate_condition(condition)
        self.loop_inputs = (labels,)
        if tf.is_tensor(guidance) or np.any(guidance):
            guidance = tf.cast(guidance, denoiser.variable_dtype)
            self.loop_inputs += (guidance,)

    def __getattr__(self, name):
        if name == "denoiser":  # While it is copied.
            raise AttributeError(name)
        return getattr(self.denoiser, name)

    @property
    def is_for_all_rows(self):
        """Whether one condition holds for any number of events."""
        return all(value.shape.rank == 0 for value in self.loop_inputs)

    def validate_inputs(self, x, sigma=None):
        """Checks x and sigma as the denoiser, and the number of rows."""
        x, sigma = self.denoiser.validate_inputs(x, sigma)
        labels, *guidance = self.loop_inputs
        num = num_events(x)
        self.denoiser.validate_condition(labels, num)
        for value in guidance:
            check_guidance_of_rows(value, num)
        return x, sigma

    def denoise(self, x, sigma=None):
        """Returns D(x, sigma, condition); as of the denoiser."""
        return self.denoiser.denoise(x, sigma, *self.loop_inputs)
