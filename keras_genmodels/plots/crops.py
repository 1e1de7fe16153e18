"""Sheets of large pictures: each as a whole, and a part at full resolution."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Longest side of a picture as a whole, and sides of its part, in pixels.
_SIDE = 256
_GAP, _TITLE = 8, 20
_FRAME = (255, 40, 40)


class Comparison(NamedTuple):
    """Versions of one picture, small enough to keep.

    Args:
        name: str.
        whole: uint8 `[h, w, 3]`, the first version, shrunk, with a frame
            around the part.
        parts: dict of names to uint8 `[h, w, 3]`, the part of each version and
            of the difference of the first two, at full resolution.
    """

    name: str
    whole: np.ndarray
    parts: dict

    @classmethod
    def of(cls, name, versions):
        """Returns the comparison of pictures.

        Args:
            name: str.
            versions: dict of names to float arrays `[height, width, channels]`
                of one size, in [0, 1]; the part is cut from their middle.
                The difference of the first two is drawn after them, with grey
                for 0.
        """
        first, second, *others = versions
        shape = versions[first].shape[:2]
        starts = [max(0, side - _SIDE) // 2 for side in shape]
        rows, columns = (
            slice(i, min(i + _SIDE, side))
            for i, side in zip(starts, shape, strict=True)
        )
        parts = {key: x[rows, columns] for key, x in versions.items()}
        parts[f"{first} - {second}"] = 0.5 + parts[first] - parts[second]
        order = [first, second, f"{first} - {second}", *others]
        return cls(
            name,
            _whole(versions[first], rows, columns),
            {key: _as_rgb(parts[key]) for key in order},
        )


def sheet(comparisons):
    """Draws one row of each picture: the whole, and the part of each version.

    Args:
        comparisons: non-empty list of `Comparison`s with the same versions.

    Returns:
        uint8 array `[height, width, 3]`.
    """
    rows = [_row(comparison) for comparison in comparisons]
    width = max(row.width for row in rows)
    height = sum(row.height for row in rows) + _GAP * (len(rows) - 1)
    canvas = Image.new("RGB", (width, height), "white")
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height + _GAP
    return np.asarray(canvas)


def _row(comparison):
    """Draws the tiles of a picture with their titles above them."""
    tiles = {comparison.name: comparison.whole, **comparison.parts}
    height = max(len(tile) for tile in tiles.values())
    canvas = Image.new(
        "RGB", (len(tiles) * (_SIDE + _GAP) - _GAP, _TITLE + height), "white"
    )
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    for i, (title, tile) in enumerate(tiles.items()):
        left = i * (_SIDE + _GAP)
        while draw.textlength(title, font) > _SIDE:
            title = "\N{HORIZONTAL ELLIPSIS}" + title[2:]
        draw.text((left, 2), title, "black", font)
        canvas.paste(Image.fromarray(tile), (left, _TITLE))
    return canvas


def _whole(image, rows, columns):
    """Shrinks a picture to _SIDE, and frames its part."""
    sides = image.shape[:2]
    factor = max(1, *(-(-side // _SIDE) for side in sides))
    # Of thin pictures one pixel is left of the short side.
    factors = [min(factor, side) for side in sides]
    # Only the pixels of the small picture, before they are converted.
    small = Image.fromarray(_as_rgb(_means(image, *factors)))
    if factor > 1:
        parts = list(zip((columns, rows), factors[::-1], strict=True))
        starts = [part.start // size for part, size in parts]
        ends = [part.stop // size - 1 for part, size in parts]
        frame = [*starts, *map(max, starts, ends)]
        ImageDraw.Draw(small).rectangle(frame, outline=_FRAME)
    return np.asarray(small)


def _means(image, high, wide):
    """Averages blocks of pixels; the last rows and columns may be left out."""
    if high == wide == 1:
        return image
    height, width = image.shape[0] // high, image.shape[1] // wide
    total = np.zeros((height, width, image.shape[2]), np.float32)
    for i in range(high):
        for j in range(wide):
            part = image[i : height * high : high]
            total += part[:, j : width * wide : wide]
    return total / (high * wide)


def _as_rgb(image):
    """Returns floats in [0, 1] of 1 or 3 channels as a uint8 RGB picture."""
    image = np.round(255 * np.clip(np.nan_to_num(image), 0, 1))
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    return image.astype(np.uint8)
