"""Batches of a split as functions of (seed, step), without state.

The k-th training batch is the same whether or not the k - 1 before it were
drawn, so a resumed training gets the batches of an uninterrupted one.
"""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels.core.arrays import as_cpu_tensor, as_float
from keras_genmodels.core.batch_parts import WHOLE
from keras_genmodels.core.disk_arrays import DiskArray
from keras_genmodels.core.seeds import PHILOX, as_seed, fold_in, philox

BINARIZATIONS = ("none", "dynamic", "threshold")

# One stream of random numbers for each purpose.
ORDER, PIXELS, EVALUATION, TEST, VALIDATION = range(5)
PATCHES, VALIDATION_PATCHES, TEST_PATCHES = range(5, 8)

_BLOCK = 64


def training_batches(
    split,
    *,
    batch_size,
    seed,
    binarization="none",
    start_step=0,
    part=WHOLE,
):
    """Returns an endless data set of shuffled batches.

    In each epoch every image occurs once, in an order drawn from (seed,
    epoch). Batches are consecutive parts of the sequence of all epochs, so
    one may reach into the next epoch. Of random patches each is a new one,
    drawn from (seed, its number in that sequence).

    Args:
        split: datasets.Split.
        batch_size: int >= 1.
        seed: int in [0, 2**31).
        binarization: "none"; "threshold", 1 where the value is at least 0.5;
            or "dynamic", 1 with the value as probability, drawn from (seed,
            step) and so anew each time an image is shown.
        start_step: int, index of the first batch.
        part: `core.batch_parts.Part` of each batch that is read, for one of
            several workers; by default all of it.

    Returns:
        tf.data.Dataset of dicts: "image" float32 `[batch_size / part.count,
        height, width, channels]` in [0, 1], and "label" int32 `[batch_size /
        part.count]` if the split has labels.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_batches(split, batch_size, binarization)
    first, num_rows = part.rows(batch_size)
    is_random = getattr(split.images, "is_random", False)
    read = (_drawn if is_random else _shuffled)(split, num_rows, seed)
    pixel_seed = stream_seed(seed, PIXELS)

    def batch(step):
        rows = read(step * batch_size + first)
        rows["image"] = _binarize(
            as_float(rows["image"], "float32"),
            binarization,
            fold_in(pixel_seed, step),
            first,
        )
        return rows

    steps = tf.data.Dataset.counter(start_step)
    return _prefetched(steps.map(batch))


def _shuffled(split, num_rows, seed):
    """Returns the function from the position of the first row to the rows."""
    data, order_seed = _Tensors(split, in_order=False), stream_seed(seed, ORDER)

    def read(first):
        positions = first + tf.range(num_rows, dtype=tf.int64)
        return data.gather(shuffled(positions, len(split.images), order_seed))

    return read


def _drawn(split, num_rows, seed):
    """Returns the function of `_shuffled` for a split of random patches."""
    patch_seed = stream_seed(seed, PATCHES)
    return lambda first: {
        "image": split.images.draw(first, num_rows, patch_seed)
    }


def evaluation_batches(
    split, *, batch_size, seed, binarization="none", rows=None
):
    """Returns a data set of batches with every image once, in order.

    Args:
        split, batch_size, seed, binarization: as in `training_batches`, but
            the draw of "dynamic" depends on (seed, index of the image) only:
            it is the same in each pass and for each batch size.
        rows: `range` of the indices of the images; by default all.

    Returns:
        tf.data.Dataset of dicts as in `training_batches`; the last batch may
        be smaller.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_batches(split, batch_size, binarization)
    wanted = range(len(split.images)) if rows is None else rows
    # Drawn in blocks of a fixed size, so that the batch size does not matter.
    first = wanted.start - wanted.start % _BLOCK
    data = _Tensors(split[first : wanted.stop], in_order=True)
    pixel_seed = stream_seed(seed, EVALUATION)

    def block(start):
        begin = tf.maximum(start, wanted.start)
        end = tf.minimum(start + _BLOCK, wanted.stop)
        # TensorFlow logs an error for a slice, as it shares memory.
        found = data.gather(tf.range(begin - first, end - first))
        found["image"] = _binarize(
            as_float(found["image"], "float32"),
            binarization,
            fold_in(pixel_seed, start),
            begin - start,
        )
        return found

    blocks = tf.data.Dataset.range(first, wanted.stop, _BLOCK).map(block)
    num_batches = -(-len(wanted) // batch_size)
    return _prefetched(
        blocks.rebatch(batch_size).apply(
            tf.data.experimental.assert_cardinality(num_batches)
        )
    )


def _check_batches(split, batch_size, binarization):
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    if binarization not in BINARIZATIONS:
        raise ValueError(
            f"binarization must be one of {BINARIZATIONS}, got {binarization!r}"
        )
    if len(split.images) == 0:
        raise ValueError("split must hold at least one image, got none")


class _Tensors:
    """The images and labels of a split, in main memory on any device.

    Images on disk stay there.

    Args:
        split: datasets.Split.
        in_order: whether its rows will be read in their order.
    """

    def __init__(self, split, in_order):
        images, labels = split.images, split.labels
        self._places = self._labels = None
        with tf.device("cpu"):
            if isinstance(images, DiskArray):
                self._images = images.as_tensor(in_order)
                if images.rows is not None:
                    self._places = tf.constant(images.rows, tf.int64)
            else:
                self._images = as_cpu_tensor(images)
            if labels is not None:
                self._labels = tf.constant(labels, tf.int32)

    def gather(self, indices):
        """Returns a dict of `image`, and `label` if there are any.

        Args:
            indices: integer tensor, of rows of the split.
        """
        places = indices
        if self._places is not None:
            places = tf.gather(self._places, indices)
        rows = {"image": tf.gather(self._images, places)}
        if self._labels is not None:
            rows["label"] = tf.gather(self._labels, indices)
        return rows


def _prefetched(dataset):
    options = tf.data.Options()
    # The optimizer of tf.data would copy the whole split once more.
    options.experimental_optimization.apply_default_optimizations = False
    # The autotuner sleeps for powers of two of 10 ms, and deleting an iterator
    # waits for it: up to half of the time of a `fit`.
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)


def stream_seed(seed, stream):
    """Derives the seed of one stream of random numbers.

    Args:
        seed: int in [0, 2**31).
        stream: int, such as `ORDER`.

    Returns:
        int32 tensor `[2]`.
    """
    with tf.device("cpu"):
        return fold_in(as_seed(seed), stream)


def shuffled(positions, count, seed):
    """Maps positions in the sequence of all epochs to indices of images.

    Args:
        positions: int64 tensor `[m]`, consecutive and ascending.
        count: int, the number of images.
        seed: int32 tensor `[2]`.

    Returns:
        int64 tensor `[m]` in [0, count): a permutation in every epoch.
    """
    epochs = positions // count
    num_epochs = (positions.shape[0] - 1) // count + 2
    keys = tf.stack(
        [_order_key(seed, epochs[0] + i) for i in range(num_epochs)]
    )
    # Not tf.random.experimental.index_shuffle: it has 4 rounds, with which
    # neighbours rarely share a batch and the orders of two epochs correlate
    # (0.4 for 65537 images), and it takes no key per position.
    return tf.raw_ops.RandomIndexShuffle(
        index=positions % count,
        seed=tf.gather(keys, epochs - epochs[0]),
        max_index=tf.constant(count - 1, tf.int64),
        rounds=16,
    )


def hold_out(count, num_held, seed, stream):
    """Draws which of some images are held out.

    Args:
        count: int, number of images.
        num_held: int in [0, count].
        seed: int in [0, 2**31).
        stream: int, such as `TEST`.

    Returns:
        indices of the others, in order, and of those that are held out.
    """
    positions = tf.range(count, dtype=tf.int64)
    order = shuffled(positions, count, stream_seed(seed, stream)).numpy()
    return np.sort(order[: count - num_held]), order[count - num_held :]


def _order_key(seed, epoch):
    """Returns the int32 `[3]` key of the order of an epoch.

    Hashed, because the shuffle may use only 8 bits of each number: with the
    epoch itself as key the orders would repeat after 256.
    """
    return tf.random.stateless_uniform(
        [3], fold_in(seed, epoch), None, None, tf.int32, alg="philox"
    )


def _binarize(images, binarization, seed, first=0):
    """Makes images binary.

    Args:
        images: float32 tensor `[n, ...]` in [0, 1].
        binarization: as in `training_batches`.
        seed: int32 tensor `[2]`.
        first: int or int64 tensor, number of the first image. The draw for an
            image depends on the seed and its number alone.

    Returns:
        float32 tensor like `images`.
    """
    if binarization == "none":
        return images
    if binarization == "threshold":
        return tf.cast(images >= 0.5, tf.float32)
    num, *shape = tf.shape(images, tf.int64)[0], *images.shape[1:]
    return tf.cast(_uniform(num, shape, seed, first) < images, tf.float32)


def _uniform(num, shape, seed, first):
    """Draws odd multiples of 2**-17 in (0, 1), two per random 32-bit word.

    Args:
        num: int or int64 tensor, rows to draw.
        shape: list of ints, of a row.
        seed: int32 tensor `[2]`.
        first: int or int64 tensor, number of the first row in the sequence of
            the seed.

    Returns:
        float32 tensor `[num, *shape]`.
    """
    size = math.prod(shape)
    # Of these, the counter makes 8 at once.
    num_skipped, start = first * size // 8, first * size % 8
    end = start + num * size
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        **philox(seed, num_skipped),
        shape=[(end + 1) // 2],
        alg=PHILOX,
        dtype=tf.uint32,
    )
    halves = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[start:end]
    values = (tf.cast(halves, tf.float32) + 0.5) / 2**16
    return tf.reshape(values, [num, *shape])
