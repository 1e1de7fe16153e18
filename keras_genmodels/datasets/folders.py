"""Folders of pictures: which sub-folders are splits, and which are labels."""

import collections
import dataclasses
import hashlib
import pathlib

import numpy as np

from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import cache, file_kinds, limits, pictures
from keras_genmodels.datasets.notes import on_headers
from keras_genmodels.datasets.picture_storage import PictureFiles
from keras_genmodels.datasets.splits import Split, Splits

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclasses.dataclass
class _Part:
    """The pictures of a split, with the name of the label of each or None."""

    paths: list
    names: list | None


def read(folder, size, white_level=None, color="auto"):
    """Reads a folder of pictures, with its labels and splits.

    Pictures lie flat, or in one sub-folder per label. Sub-folders train, test
    and val (also valid, validation, training, testing) are splits, with or
    without sub-folders of labels; a single folder around them is skipped.

    Args:
        folder: path of a directory.
        size: `(height, width)` that every picture is squeezed to.
        white_level: int or None, as in `decoding.decode`.
        color: "grey" or "rgb", that pictures are converted to; "auto" for grey
            if all of them are, else RGB.

    Returns:
        `Splits` of `Blocks`: uint8, or float32 if a picture has 16 bits, with
        one channel for grey and three for RGB.

    Raises:
        UserError: if there are no pictures, if the layout is ambiguous, or if
            a picture cannot be read.
    """
    folder = pathlib.Path(folder)
    parts, notes = _find_parts(folder)
    paths = [path for part in parts.values() for path in part.paths]
    if "test" not in parts:
        limits.check_count(folder, len(parts["train"].paths))
    headers = pictures.read_headers(paths)
    dtype = "float32" if _has_16_bits(folder, headers, white_level) else "uint8"
    shape = (*size, _num_channels(headers, color))
    label_names = _label_names(parts)
    if any(part.names for part in parts.values()) and not label_names:
        notes.append("labels are not used, as not all splits have them")
    splits = {
        key: Split(
            pictures.as_blocks(part.paths, shape, white_level, dtype),
            label_names and _labels(part, label_names),
        )
        for key, part in parts.items()
    }
    notes += _header_notes(headers, size)
    return Splits(**splits, label_names=label_names, notes=tuple(notes))


def find_own_size(folder, white_level=None, color="auto", scales=(1.0,)):
    """Finds the pictures in a folder, to be read at their own size.

    Args:
        folder, white_level, color: as in `read`. Labels are not used, so that
            pictures may also lie next to sub-folders of pictures.
        scales: of `PictureFiles`.

    Returns:
        `PictureFiles`.

    Raises:
        UserError: as `read`.
    """
    folder = pathlib.Path(folder)
    parts, notes = _find_parts(folder, with_labels=False)
    paths = {key: part.paths for key, part in parts.items()}
    headers = [
        header
        for of_part in paths.values()
        for header in pictures.read_headers(of_part)
    ]
    return PictureFiles(
        folder,
        paths,
        [header.size for header in headers],
        _num_channels(headers, color),
        16 if _has_16_bits(folder, headers, white_level) else 8,
        white_level,
        (*notes, *_header_notes(headers)),
        scales,
    )


def state(folder):
    """Returns a text that changes with the pictures in a folder."""
    found, skipped = file_kinds.find_pictures(folder)
    digest = hashlib.sha256(repr(sorted(skipped.items())).encode())
    for path in found:
        digest.update(f"{path.relative_to(folder)}\n".encode())
        digest.update(cache.stamp(path).encode())
    return f"{len(found)} pictures, {digest.hexdigest()}"


def _has_16_bits(folder, headers, white_level):
    """Returns whether a picture has; refuses a white level for 8 bits."""
    if any(header.bits == 16 for header in headers):
        return True
    if white_level is not None:
        raise UserError(
            f"white_level={white_level} requires 16-bit images, those in "
            f"{folder} have 8 bits"
        )
    return False


def _num_channels(headers, color):
    is_grey = color == "grey"
    if color == "auto":
        is_grey = all(header.is_grey for header in headers)
    return 1 if is_grey else 3


def _label_names(parts):
    """Returns the sorted names of all labels; None if a split has none."""
    if any(part.names is None for part in parts.values()):
        return None
    return tuple(sorted({n for part in parts.values() for n in part.names}))


def _labels(part, label_names):
    indices = {name: index for index, name in enumerate(label_names)}
    return np.array([indices[name] for name in part.names], np.int32)


def _find_parts(folder, with_labels=True):
    """Returns a dict of splits to `_Part`s, and a list of notes."""
    flat, nested, skipped, empty = _scan(folder)
    base = folder
    if not flat and len(nested) == 1 and not _split_folders(nested):
        (name,) = nested
        inner = _scan(folder / name)
        if _split_folders(inner[1]):
            base = folder / name
            flat, nested, found, empty = inner
            skipped = skipped + found
    skipped = skipped + sum(
        (found[1] for found in nested.values()), collections.Counter()
    )
    splits = _split_folders(nested)
    _check_layout(base, flat, nested, splits, skipped, with_labels)
    if len(splits) < len(nested) or not splits:
        _check_no_splits_below(base, nested)
        parts = {"train": _part(flat, nested)}
        notes = []
    else:
        parts, notes = {}, []
        for key in ("train", "validation", "test"):
            if key in splits:
                parts[key], found_empty = _read_split_folder(
                    base / splits[key], with_labels
                )
                empty += found_empty
        names = ", ".join(f"{k} in {splits[k]}/" for k in parts)
        notes.append(f"splits of {base}: {names}")
    if empty:
        notes.append(f"folders without pictures: {', '.join(sorted(empty))}")
    if note := file_kinds.skipped_note(skipped):
        notes.append(note)
    return parts, notes


def _scan(folder):
    """Looks into a folder.

    Returns:
        `(flat, nested, skipped, empty)`: sorted paths of pictures; dict of
        sub-folders to their `file_kinds.find_pictures`, in sorted order;
        Counter of other files; list of names of sub-folders without pictures.
    """
    flat, nested, empty = [], {}, []
    skipped = collections.Counter()
    for entry in sorted(folder.iterdir()):
        if file_kinds.is_hidden(entry.name):
            skipped[f"hidden {'folder' if entry.is_dir() else 'file'}"] += 1
        elif file_kinds.is_loop(entry):
            continue
        elif entry.is_dir():
            found = file_kinds.find_pictures(entry)
            if found[0]:
                nested[entry.name] = found
            else:
                empty.append(entry.name)
        elif file_kinds.is_picture(entry.name):
            flat.append(entry)
        else:
            skipped[file_kinds.kind(entry.name)] += 1
    return flat, nested, skipped, empty


def _split_folders(nested):
    """Returns a dict of splits to the names of their folders."""
    found = {}
    for name in nested:
        split = _SPLITS.get(name.lower())
        if split in found:
            raise UserError(
                f"{found[split]}/ and {name}/ are both folders of the split "
                f"{split}: join them"
            )
        if split:
            found[split] = name
    return found


def _check_layout(folder, flat, nested, splits, skipped, with_labels):
    """Raises a `UserError` for a folder whose layout is not clear."""
    if not flat and not nested:
        raise UserError(file_kinds.no_pictures(folder, skipped))
    if flat and nested and (with_labels or splits):
        raise UserError(
            f"{folder} holds pictures ({flat[0].name}) next to sub-folders of "
            f"pictures ({next(iter(nested))}): put all of them in one folder, "
            "or each in the sub-folder of its label"
        )
    if not splits:
        return
    found = ", ".join(f"{name}/" for name in splits.values())
    others = [name for name in nested if name not in splits.values()]
    if others and {*splits} != {"train"}:
        raise UserError(
            f"{folder} holds the splits {found} next to {others[0]}/: move "
            "the other folders away, or rename the splits if they are labels"
        )
    if not others and "train" not in splits:
        raise UserError(
            f"{folder} holds {found} but no train/: rename the folder of the "
            "training pictures"
        )


def _check_no_splits_below(folder, nested):
    """Raises a `UserError` for splits inside of the folders of labels."""
    for name in nested:
        inner = {
            _SPLITS.get(path.name.lower())
            for path in (folder / name).iterdir()
            if path.is_dir()
        }
        if "train" in inner and len(inner - {None}) > 1:
            raise UserError(
                f"{folder / name} holds splits below a label: put train/ and "
                "test/ at the top, with the labels inside of each"
            )


def _read_split_folder(folder, with_labels):
    """Returns the `_Part` of a split, and its folders without pictures."""
    flat, nested, _, empty = _scan(folder)
    _check_layout(folder, flat, nested, {}, (), with_labels)
    return _part(flat, nested), [f"{folder.name}/{name}" for name in empty]


def _part(flat, nested):
    if flat:
        below = [path for paths, _ in nested.values() for path in paths]
        return _Part([*flat, *below], None)
    return _Part(
        [path for paths, _ in nested.values() for path in paths],
        [name for name, (paths, _) in nested.items() for _ in paths],
    )


def _header_notes(headers, size=None):
    """Describes the sizes of the pictures, and what of them is not read."""
    sizes = sorted({header.size for header in headers}, key=np.prod)
    texts = [f"{height}x{width}" for height, width in (sizes[0], sizes[-1])]
    notes = [
        f"{len(headers)} pictures of {' to '.join(dict.fromkeys(texts))}, "
        + (f"resized to {size[0]}x{size[1]}" if size else "at their own size")
    ]
    return notes + on_headers(headers)
