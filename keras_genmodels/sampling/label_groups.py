"""Estimates of log p(x|c) of events with a label each: a label at a time."""

import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.events import num_events


def has_label_per_event(denoiser, condition):
    """Returns whether a condition is one label for each event."""
    if getattr(denoiser, "condition_kind", None) is None or condition is None:
        return False
    return tf.convert_to_tensor(condition).shape.rank != 0


def by_label(estimate, result, denoiser, x, sigma, condition, seed):
    """Applies an estimate of log p to the events of each label in turn.

    The estimates evaluate D on copies of the events, which have to share a
    label.

    Args:
        estimate: function of x, sigma, and the keyword arguments `condition`,
            a scalar, and `seed`, int32 `[num, 2]`, to `result`.
        result: type of a named tuple of tensors `[num]`.
        denoiser: a conditional `Denoiser`.
        x, sigma, seed: as of `probability_flow`.
        condition: integer tensor or array `[batch]`.

    Returns:
        `result`, of all events in their order.

    Raises:
        ValueError: as `Denoiser.denoise`.
    """
    x, _ = denoiser.validate_inputs(x, 1.0 if sigma is None else sigma)
    num = num_events(x)
    if tf.get_static_value(num) == 0:
        return result(*_of_no_events(result))
    labels = denoiser.validate_condition(condition, num)
    # In a graph the numbers may not have been known before.
    labels = tf.broadcast_to(labels, [num])
    rows = seeds.row_seeds(seed, num)
    if sigma is not None:
        # TensorFlow would round a number of Python to float32.
        is_tensor = tf.is_tensor(sigma)
        sigma = sigma if is_tensor else tf.constant(sigma, tf.float64)
        sigma = tf.broadcast_to(tf.cast(sigma, tf.float64), [num])
    distinct, group = tf.unique(labels)

    def step(number, places, parts):
        place = tf.where(group == number)[:, 0]
        found = estimate(
            tf.gather(x, place),
            None if sigma is None else tf.gather(sigma, place),
            condition=distinct[number],
            seed=tf.gather(rows, place),
        )
        parts = [
            part.write(number, tf.cast(value, tf.float64))
            for part, value in zip(parts, found, strict=True)
        ]
        return number + 1, places.write(number, place), parts

    count = tf.size(distinct)
    parts = [_array(count, tf.float64) for _ in result._fields]
    _, places, parts = tf.while_loop(
        lambda number, *_: number < count,
        step,
        (0, _array(count, tf.int64), parts),
        parallel_iterations=1,
    )
    order = tf.argsort(places.concat())
    return _with_counts(
        result(*(tf.gather(part.concat(), order) for part in parts))
    )


def _of_no_events(result):
    empty = result(*(tf.zeros([0], tf.float64) for _ in result._fields))
    return _with_counts(empty)


def _with_counts(found):
    """Returns the result with a number of evaluations that is an integer."""
    count = tf.cast(found.num_evaluations, tf.int32)
    return found._replace(num_evaluations=count)


def _array(count, dtype):
    return tf.TensorArray(dtype, count, infer_shape=False, element_shape=[None])
