"""Pictures at their own size as splits of random and of fixed patches."""

import dataclasses
import math

import numpy as np

from keras_genmodels.core import wording
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import batches, notes, picture_storage
from keras_genmodels.datasets.patches import PatchArray
from keras_genmodels.datasets.splits import TEST_FRACTION, Split

# Most patches for validation, and for the test, and most values of them: 64 MB,
# and four times as much as floats.
_MOST_FIXED = 1000
_MOST_FIXED_VALUES = 2**26
# The streams of random numbers that draw them.
_FIXED = {
    "validation": batches.VALIDATION_PATCHES,
    "test": batches.TEST_PATCHES,
}
# Pictures that a note names.
_MOST_NAMES = 3


@dataclasses.dataclass(frozen=True)
class Patches:
    """How patches are drawn.

    Args:
        size: int >= 1, height and width.
        per_epoch: int >= 1, number of training patches of an epoch.
        validation_split: in [0, 1), part of the pictures for training that is
            held out, at least one; 0 for none.
        seed: int in [0, 2**31).
        smallest_scale: float in (0, 1]: patches are as often of pictures that
            are shrunk to each of `scales`.
    """

    size: int
    per_epoch: int
    validation_split: float
    seed: int
    smallest_scale: float = 1.0

    @property
    def scales(self):
        """Floats from 1 down, each at least 1 / sqrt(2) of the one before."""
        steps = math.ceil(-2 * math.log2(self.smallest_scale) - 1e-9)
        scales = np.geomspace(1, self.smallest_scale, steps + 1)
        # The last digits differ between machines, and the sizes with them.
        return tuple(scales.round(6).tolist())

    def num_fixed(self, channels):
        """Returns how many patches are for validation, and for the test."""
        most = min(
            _MOST_FIXED,
            self.per_epoch // 10,
            _MOST_FIXED_VALUES // (self.size**2 * channels),
        )
        return max(1, most)


def load(reader, in_memory, drawn):
    """Loads pictures, and draws patches of them.

    Patches for validation and for the test are of other pictures. They are
    drawn once, and neither flipped nor turned.

    Args:
        reader: `storage.Reader` of `PictureFiles`.
        in_memory: as of `storage.load`.
        drawn: `Patches`.

    Returns:
        dict of the arguments `train`, `validation` (or None), `test` and
        `notes` of an `ImageDataset`. There are no labels.

    Raises:
        UserError: as `picture_storage.load`, and if too few pictures are as
            large as a patch.
    """
    stored = picture_storage.load(reader, in_memory)
    rows, small = _without_small(reader.name, stored, drawn.size)
    rows = _completed(reader.name, rows, drawn)
    train = _array(
        stored, rows, "train", drawn, drawn.per_epoch, batches.PATCHES
    )
    fixed = {
        split: _fixed(stored, rows, split, drawn, stream)
        for split, stream in _FIXED.items()
        if split in rows
    }
    return {
        "train": Split(train, None),
        "validation": fixed.get("validation"),
        "test": fixed["test"],
        "notes": (
            *stored.notes,
            *small,
            _describe(rows, train.counts, fixed, drawn),
            *notes.on_darkness(train, reader.name),
        ),
    }


def _without_small(name, stored, size):
    """Leaves out the pictures that are smaller than a patch.

    Returns:
        dict of splits to indices of pictures, and a list of notes.
    """
    rows, fits = stored.rows_by_split(), stored.at_scale(0).fits(size)
    for split, of_split in rows.items():
        rows[split] = of_split[fits[of_split]]
        if not len(rows[split]):
            raise UserError(
                f"{name}: no picture for {split} is as large as a patch of "
                f"{size}x{size}: {_listed(stored, of_split)}; give a smaller "
                "patch_size"
            )
    small = np.flatnonzero(~fits)
    if not len(small):
        return rows, []
    listed = _listed(stored, small)
    return rows, [f"left out, as smaller than {size}x{size}: {listed}"]


def _listed(stored, rows):
    """Returns the names and sizes of the first of some pictures, as a text."""
    table = stored.at_scale(0).table
    texts = [
        f"{stored.names[row]} ({table['height'][row]}x{table['width'][row]})"
        for row in rows
    ]
    return wording.listed(texts, _MOST_NAMES)


def _completed(name, rows, drawn):
    """Returns the indices by split, with held-out ones of those that lack."""
    for split, fraction, stream in (
        ("test", TEST_FRACTION, batches.TEST),
        ("validation", drawn.validation_split, batches.VALIDATION),
    ):
        if split in rows or not fraction:
            continue
        train = rows["train"]
        num_held = max(1, round(fraction * len(train)))
        if num_held >= len(train):
            raise UserError(
                f"{name}: {split} would take {num_held} of {len(train)} "
                f"pictures as large as a patch of {drawn.size}x{drawn.size}: "
                "too few pictures, or too large a validation_split"
            )
        rest, held = batches.hold_out(len(train), num_held, drawn.seed, stream)
        rows = {**rows, "train": train[rest], split: train[held]}
    return rows


def _fixed(stored, rows, split, drawn, stream):
    """Returns a `Split` of patches in memory."""
    num = drawn.num_fixed(stored.pictures.channels)
    patches = _array(stored, rows, split, drawn, num, stream, augmented=False)
    return Split(patches[:], None)


def _array(stored, rows, split, drawn, num, stream, augmented=True):
    """Returns the `PatchArray` of a split, of all scales alike.

    Raises:
        UserError: if no picture is as large as a patch at one of the scales.
    """
    of_split, numbers, counts = rows[split], [], []
    for number, scale in enumerate(stored.scales):
        fits = stored.at_scale(number).fits(drawn.size)[of_split]
        if not fits.any():
            raise UserError(
                f"smallest_scale={drawn.smallest_scale:g}: no picture for "
                f"{split}, shrunk to {scale:.2g} of its size, is as large as a "
                f"patch of {drawn.size}x{drawn.size}: "
                f"{_listed(stored, of_split)} before; give a larger "
                "smallest_scale or a smaller patch_size"
            )
        numbers.extend(of_split[fits] * len(stored.scales) + number)
        counts.append(int(fits.sum()))
    return PatchArray(
        stored.pictures.select(np.array(numbers)),
        drawn.size,
        num,
        batches.stream_seed(drawn.seed, stream),
        augmented,
        counts,
    )


def _describe(rows, counts, fixed, drawn):
    """Returns the note on what the patches of each split are."""
    count = {split: len(it) for split, it in rows.items()}
    fixed = ", ".join(
        f"{split} {len(it.images)} fixed ones (of {_pictures(count[split])})"
        for split, it in fixed.items()
    )
    return (
        f"patches of {drawn.size}x{drawn.size} pixels: an epoch is "
        f"{drawn.per_epoch} random ones of {_pictures(count['train'])}"
        f"{_shrunk(drawn.scales, counts)}, flipped and turned; {fixed}"
    )


def _shrunk(scales, counts):
    """Returns the scales, and how many pictures are large enough at each."""
    if len(scales) == 1:
        return ""
    texts = ", ".join(f"{scale:.2g}" for scale in scales)
    counts = "" if len({*counts}) == 1 else f" ({', '.join(map(str, counts))})"
    return f", at {texts} of their size{counts}"


def _pictures(count):
    return f"{count} picture" + "s" * (count > 1)
