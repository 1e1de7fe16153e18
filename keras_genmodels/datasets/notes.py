"""Lines that say how a data set was understood, for a training to print."""

import numpy as np

from keras_genmodels.core import wording
from keras_genmodels.datasets import file_kinds, pictures

_MOST_NAMES = 10
# Labels that are no classes may be large.
_MOST_CLASSES = 10**6


def of(splits, train, name):
    """Returns the notes on a data set.

    Args:
        splits: `Splits`, as read.
        train: `Split` that is trained on.
        name: str, the name of the data set.

    Returns:
        tuple of str, one line each.
    """
    notes = [*splits.notes]
    if train.labels is not None:
        notes += _on_labels(splits, train)
    return (*notes, *on_darkness(train.images, name))


def on_darkness(images, name):
    """Checks whether images are so dark that their white level may be wrong.

    Args:
        images: array `[n, ...]`, uint8 or float in [0, 1].
        name: str, of the data set, for the note.

    Returns:
        list of str: one note if no value is above an eighth of white; else
        empty.
    """
    highest = images.max()
    white = 255 if images.dtype == np.uint8 else 1
    if highest >= white / 8:
        return []
    return [
        f"dark images: the largest value in {name} is {highest:.4g}, white "
        f"is {white}; give the white level if they are 16-bit images of "
        "fewer bits"
    ]


def on_dark_picture(image, name, white_level=None):
    """Checks whether a picture is so dark that its white level may be wrong.

    Args:
        image: array as from `pictures.read_own_size`.
        name: of the picture, for the note.
        white_level: int that it was read by, or None.

    Returns:
        list of str: one note if the picture has 16 bits and no value is above
        an eighth of white; else empty.
    """
    if image.dtype == np.uint8 or (highest := image.max()) >= 1 / 8:
        return []
    advice = f"white is at white_level={white_level}"
    if white_level is None:
        advice = "white is 1; give white_level if it has fewer than 16 bits"
    return [
        f"dark picture: the largest value of {name} is {highest:.4g}, " + advice
    ]


def on_headers(headers):
    """Counts the pictures that are not read as they are stored.

    Args:
        headers: list of `picture_headers.Header`s.

    Returns:
        list of str.
    """
    counts = {
        "with 16 bits per channel": sum(h.bits == 16 for h in headers),
        "rotated as their EXIF orientation says": sum(
            header.orientation > 1 for header in headers
        ),
        "that may be transparent, drawn over white": sum(
            header.has_alpha for header in headers
        ),
        "with several pages or frames, of which the first is read": sum(
            header.has_pages for header in headers
        ),
    }
    return [
        f"{wording.count_of(num, 'picture')} {text}"
        for text, num in counts.items()
        if num
    ]


def on_resizing(path, image_shape):
    """Checks whether pictures have another size than a model takes.

    Args:
        path: of a picture or a folder of pictures.
        image_shape: `(height, width, channels)` of the model.

    Returns:
        list of str: one note if pictures will be resized; else empty.

    Raises:
        UserError: if a file is not a picture.
    """
    headers = pictures.read_headers(file_kinds.list_pictures(path))
    size = tuple(image_shape[:2])
    others = [header.size for header in headers if header.size != size]
    if not others:
        return []
    others.sort(key=lambda size: (size[0] * size[1], size))
    ends = others[0], others[-1]
    texts = dict.fromkeys(f"{height}x{width}" for height, width in ends)
    count = wording.count_of(len(others), "picture")
    return [
        f"{count} of {' to '.join(texts)} resized to {size[0]}x{size[1]}, the "
        "size of the model's images"
    ]


def _on_labels(splits, train):
    """Returns notes on the labels, and on those without training images."""
    used = np.unique(train.labels)
    names = splits.label_names
    if names == tuple(map(str, range(len(names or ())))):
        names = None
    highest = max(int(split.labels.max()) for split in splits)
    count = max(len(splits.label_names or ()), highest + 1)
    missing = np.setdiff1d(np.arange(min(count, _MOST_CLASSES)), used)
    texts = [
        f"{len(used)} label{'s' * (len(used) > 1)}: {_listed(used, names)}"
    ]
    if len(missing):
        texts.append(
            f"labels without training images: {_listed(missing, names)} (not "
            "drawn)"
        )
    return texts


def _listed(labels, names):
    """Formats labels as names or, for consecutive numbers, as a range."""
    labels = labels.tolist()
    is_range = labels[-1] - labels[0] == len(labels) - 1
    if names is None and len(labels) > 2 and is_range:
        return f"{labels[0]} to {labels[-1]}"
    shown = [names[i] if names else str(i) for i in labels[:_MOST_NAMES]]
    more = len(labels) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
