"""Denoising of large pictures in overlapping tiles, in bounded memory."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core.validation import check, check_count
from keras_genmodels.core.wording import kind_of, listed
from keras_genmodels.networks.reach import reach_of
from keras_genmodels.sampling.restoration import denoise_once

# Default number of pixels that the network takes at a time.
MAX_PIXELS = 2**20
# Flips and quarter turns of a picture.
_NUM_SYMMETRIES = 8
# Pictures that a message names.
_MOST_NAMES = 3


class _Span(NamedTuple):
    """The rows (or columns) that a tile reads and those that it returns.

    Args:
        start, stop: int, the rows that are read.
        first, last: int, the rows of the result, within them.
    """

    start: int
    stop: int
    first: int
    last: int


def check_sizes(denoiser, sizes, max_pixels=MAX_PIXELS):
    """Checks that a denoiser takes pictures, without reading them.

    Args:
        denoiser, max_pixels: as of `denoise_in_tiles`.
        sizes: dict of names of pictures to `(height, width)`.

    Raises:
        ValueError: for a denoiser without a network, for pictures that are
            smaller than the network allows, and for large ones as
            `denoise_in_tiles`.
    """
    _check_network(denoiser)
    least = denoiser.least_side
    small = [
        f"{name} ({size[0]}x{size[1]})"
        for name, size in sizes.items()
        if min(size) < least
    ]
    check(
        not small,
        f"{listed(small, _MOST_NAMES)}: pictures must have at least "
        f"{least}x{least} pixels for this denoiser; leave smaller ones out",
    )
    reach = None
    for name, size in sizes.items():
        if not _is_large(size, max_pixels):
            continue
        try:
            reach = reach or reach_of(denoiser.network)
            tiles_of(size, reach, max_pixels)
        except ValueError as error:
            raise ValueError(
                f"{name} ({size[0]}x{size[1]}) is larger than "
                f"max_pixels={max_pixels}: {error}"
            ) from error


def denoise_in_tiles(
    denoiser,
    x,
    sigma=None,
    condition=None,
    *,
    max_pixels=MAX_PIXELS,
    any_scale=False,
    self_ensemble=False,
    progress=None,
):
    """Computes D(x, sigma) of large pictures, tile by tile.

    The tiles overlap by as much as a pixel of the network's output depends on,
    so that the result is that of the whole picture but for rounding.

    A self-ensemble is the average over the 8 flips and quarter turns T of the
    pictures of T^-1 D(T x, sigma): closer to the posterior mean of pictures
    that are as likely turned as not, for 8 times the work.

    Args:
        denoiser: a `DenoisingAutoencoder` of images of any size.
        x: floating array `[batch, height, width, channels]`, noisy.
        sigma, condition: as in `Denoiser.denoise`.
        max_pixels: int >= 1, pixels that the network takes at a time. A
            picture of at most as many is denoised as a whole.
        any_scale: whether x may be on another scale than pixels in [0, 1], as
            an iterate of `restore` may.
        self_ensemble: bool, whether to average over flips and turns.
        progress: function of a number, which is called after each tile with
            that of the pixels that it denoised; an eighth of them in an
            ensemble.

    Returns:
        array like x.

    Raises:
        ValueError: as `Denoiser.denoise`; for a network whose pixels depend on
            all others, such as by attention; for `max_pixels` that the overlap
            alone exceeds.

    #### References

    Timofte, Rothe and Van Gool (2016), Seven ways to improve example-based
    single image super resolution, arXiv:1511.02228 (the self-ensemble).
    """
    check_count("max_pixels", max_pixels)
    x = np.asarray(x)
    check(
        x.ndim == 4,
        f"x must be [batch, height, width, channels], got {list(x.shape)}",
    )
    _check_network(denoiser)
    per_row = [
        None if value is None else np.broadcast_to(value, x.shape[:1])
        for value in (sigma, condition)
    ]
    if not self_ensemble:
        return _in_tiles(denoiser, x, per_row, max_pixels, any_scale, progress)

    def part_done(pixels):
        if progress is not None:
            progress(pixels / _NUM_SYMMETRIES)

    total = np.zeros_like(x)
    for flips in (False, True):
        flipped = x[:, :, ::-1] if flips else x
        for turns in range(_NUM_SYMMETRIES // 2):
            turned = np.rot90(flipped, turns, axes=(1, 2))
            found = _in_tiles(
                denoiser, turned, per_row, max_pixels, any_scale, part_done
            )
            found = np.rot90(found, -turns, axes=(1, 2))
            total += found[:, :, ::-1] if flips else found
            # Before the next one, as pictures may take much of the memory.
            del found
    total /= _NUM_SYMMETRIES
    return total


def _in_tiles(denoiser, x, per_row, max_pixels, any_scale, progress):
    """Returns D(x, sigma); arguments as of `denoise_in_tiles`.

    Args:
        per_row: list of sigma and condition, arrays `[batch]` or None.
    """
    if _is_large(x.shape[1:3], max_pixels):
        pictures = 1
        tiles = tiles_of(x.shape[1:3], reach_of(denoiser.network), max_pixels)
    else:
        pictures = max(1, max_pixels // (x.shape[1] * x.shape[2]))
        tiles = [(_whole(x.shape[1]), _whole(x.shape[2]))]
    result = np.empty_like(x)
    for i in range(0, len(x), pictures):
        rows = slice(i, i + pictures)
        for y_span, x_span in tiles:
            part = x[rows, y_span.start : y_span.stop]
            part = part[:, :, x_span.start : x_span.stop]
            given = (None if v is None else v[rows] for v in per_row)
            found = denoise_once(
                denoiser, tf.constant(part), *given, any_scale=any_scale
            ).numpy()
            inner = cut(found, y_span, x_span)
            result[rows, y_span.first : y_span.last][
                :, :, x_span.first : x_span.last
            ] = inner
            if progress is not None:
                progress(math.prod(inner.shape[:3]))
    return result


def _check_network(denoiser):
    check(
        hasattr(denoiser, "network"),
        f"tiles require a denoiser with a network, got {kind_of(denoiser)}",
    )


def tiles_of(sides, reach, max_pixels):
    """Divides a picture into overlapping tiles of one size.

    Of all grids it is the one whose tiles read the fewest pixels in total.

    Args:
        sides: `(height, width)` of the picture.
        reach: `networks.reach.Reach` of the network.
        max_pixels: int >= 1, the most pixels of a tile.

    Returns:
        list of pairs of `_Span`s, the rows and the columns of each tile.

    Raises:
        ValueError: if the overlap alone exceeds `max_pixels`.
    """
    before, after, stride = reach
    # Tiles start at multiples of the stride.
    before, after = (_round_up(n, stride) for n in (before, after))
    overlap = before + after
    best = None
    for num_rows in range(1, 1 + _most_tiles(sides[0], overlap, stride)):
        height = _side(sides[0], num_rows, overlap, stride)
        most = max_pixels // height
        num_columns = 1
        if sides[1] > most:
            step = (most - overlap) // stride * stride
            if step < stride:
                continue
            num_columns = -(-(sides[1] - overlap) // step)
        width = _side(sides[1], num_columns, overlap, stride)
        total = num_rows * num_columns * height * width
        if best is None or total < best[0]:
            best = total, num_rows, num_columns
    check(
        best is not None,
        f"max_pixels must be at least {(overlap + stride) ** 2}, as the "
        f"network's pixels depend on others {before} pixels before and {after} "
        f"after them, got {max_pixels}",
    )
    rows, columns = (
        _spans(length, count, before, after, stride)
        for length, count in zip(sides, best[1:], strict=True)
    )
    return [(row, column) for row in rows for column in columns]


def _most_tiles(length, overlap, stride):
    """Returns into how many tiles a side can be divided, at least 1."""
    return max(1, -(-(length - overlap) // stride))


def _side(length, count, overlap, stride):
    """Returns the rows that each of some tiles of a side reads."""
    if count == 1:
        return length
    return _round_up(-(-(length - overlap) // count), stride) + overlap


def _spans(length, count, before, after, stride):
    """Divides a side of a picture.

    All spans read as many rows, at most the last fewer, so that the denoiser
    is compiled for few shapes.
    """
    most = _side(length, count, before + after, stride)
    if most >= length:
        return [_whole(length)]
    step = most - before - after
    last_start = _round_up(length - most, stride)
    spans, first = [], 0
    while first < length:
        start = min(step * len(spans), last_start)
        stop = min(start + most, length)
        last = length if stop == length else stop - after
        spans.append(_Span(start, stop, first, last))
        first = last
    return spans


def _is_large(sides, max_pixels):
    return sides[0] * sides[1] > max_pixels


def _round_up(number, multiple):
    return -(-number // multiple) * multiple


def _whole(length):
    return _Span(0, length, 0, length)


def cut(tile, rows, columns):
    """Returns the pixels of a tile that are part of the result."""
    rows, columns = (
        slice(span.first - span.start, span.last - span.start)
        for span in (rows, columns)
    )
    return tile[:, rows, columns]
