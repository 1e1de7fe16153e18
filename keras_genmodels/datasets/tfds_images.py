"""Images from TensorFlow Datasets."""

import contextlib
import difflib
import hashlib
import io
import queue
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming

from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import blocks, file_kinds, pictures
from keras_genmodels.datasets.splits import Split, Splits

_PROBE_SECONDS = 4.0


def read(name, data_dir, size, white_level=None):
    """Reads the images of a TFDS data set, which is prepared first if needed.

    Args:
        name: name in TFDS, with or without a configuration.
        data_dir: path or None, the folder of TFDS' data sets.
        size: `(height, width)` to resize to, or None.
        white_level: int, the value of white of 16-bit images; 65535 if None.

    Returns:
        `Splits` of `Blocks`: uint8, or float32 for 16 bits; labels are known
        once these are read. Without `validation`, and without `test` if there
        is no split "test" or "validation".

    Raises:
        UserError: if there is no such data set, if it is not prepared and
            cannot be downloaded, or if it has no images.
    """
    builder = _find_prepared(name, data_dir)
    image_feature, label_feature = _features(builder)
    splits = _choose_splits(builder)
    shape = _image_shape(builder, image_feature, size)
    found = [
        _split(
            builder, split, shape, size, label_feature is not None, white_level
        )
        for split in splits
    ]
    label_names = getattr(label_feature, "names", None)
    return Splits(
        found[0],
        test=found[1] if len(found) > 1 else None,
        label_names=tuple(label_names) if label_names else None,
    )


def state(name, data_dir):
    """Returns a text that changes with the files of a data set."""
    builder = _find_prepared(name, data_dir)
    texts = [builder.info.full_name]
    for path in sorted(builder.data_path.iterdir()):
        found = path.stat()
        texts.append(f"{path.name} {found.length} {found.mtime}")
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _find_prepared(name, data_dir):
    """Returns the builder of a data set, which is prepared if needed."""
    builder = _find_builder(name, data_dir)
    if _is_prepared(builder):
        return builder
    _check_folder(builder, data_dir)
    _prepare(builder)
    # A new builder: if another process finished first, the builder that
    # prepared lacks some of the information.
    return _find_builder(name, data_dir)


def _check_folder(builder, data_dir):
    """Raises a `UserError` for a folder of pictures as `data_dir`."""
    if data_dir is None or "://" in str(data_dir):
        return
    if file_kinds.holds_pictures(data_dir, ("downloads", builder.name)):
        raise UserError(
            f"{data_dir} holds pictures, and TFDS would prepare {builder.name} "
            "in it: give image_folder as the data set to read them, or "
            "another data_dir"
        )


def _find_builder(name, data_dir):
    if not naming.is_valid_dataset_name(name):
        raise UserError(_unknown(name))
    try:
        return tfds.builder(name, data_dir=data_dir and str(data_dir))
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(_unknown(name)) from error
    except (AssertionError, ImportError, RuntimeError, ValueError) as error:
        raise UserError(f"{name}: TFDS says: {_one_line(error)}") from error


def _unknown(name):
    choices = ["digits", "image_folder"]
    choices += tfds.list_builders(with_community_datasets=False)
    close = difflib.get_close_matches(name, choices)
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    return (
        f"there is no data set {name!r}{meant}: choose digits, image_folder "
        "with a data_dir of pictures, a file x.npz or x.npy, or a name from "
        "https://www.tensorflow.org/datasets/catalog"
    )


def _one_line(error):
    """Returns an error's message in one line, or its type if it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _is_prepared(builder):
    # TFDS warns of an incomplete folder even if there is none.
    return builder.data_path.exists() and builder.is_prepared()


def _prepare(builder):
    """Downloads and prepares a data set; other processes may do so too."""
    urls = builder.url_infos or {}
    if urls and not _any_answers(_hosts(urls)):
        raise UserError(_out_of_reach(builder))
    # TFDS draws the name of its temporary folder from `random`: two runs with
    # equal seeds would write into one folder.
    state = random.getstate()
    random.seed()
    cause = None
    try:
        with contextlib.nullcontext() if urls else _suppress_output():
            builder.download_and_prepare()
    except Exception as error:
        cause = error
    finally:
        random.setstate(state)
    # TFDS also fails if another process finished first.
    if not _is_prepared(builder):
        reason = _one_line(cause) if cause else "remove what is there"
        raise UserError(
            f"TFDS could not prepare {builder.name} in {builder.data_dir}: "
            f"{reason}"
        ) from cause


@contextlib.contextmanager
def _suppress_output():
    """Drops TFDS' messages about a download that does not happen."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield


def _out_of_reach(builder):
    name, config = builder.name, builder.builder_config
    full_name = f"{name}/{config.name}" if config else name
    return (
        f"{full_name} is not prepared in {builder.data_dir} and there is no "
        f"network to download it: run `tfds build {full_name}` on a machine "
        f"with network and copy the folder ~/tensorflow_datasets/{name} into "
        f"{builder.data_dir_root}, or name the folder that contains {name}/ "
        "as data_dir"
    )


def _hosts(urls):
    """Returns a few addresses to test the network with."""
    parts = [urllib.parse.urlsplit(url) for url in urls]
    found = {f"{part.scheme}://{part.netloc}/": None for part in parts}
    return [*list(found)[:3], "https://storage.googleapis.com/"]


def _any_answers(addresses):
    """Returns within `_PROBE_SECONDS` whether any of the addresses answers."""
    answers = queue.SimpleQueue()

    def ask(address):
        request = urllib.request.Request(address, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
                answers.put(True)
        except urllib.error.HTTPError:
            answers.put(True)
        except Exception:
            answers.put(False)

    # Daemon threads, as the lookup of a host name can take minutes and has no
    # time limit.
    for address in addresses:
        threading.Thread(target=ask, args=(address,), daemon=True).start()
    deadline = time.monotonic() + _PROBE_SECONDS
    for _ in addresses:
        with contextlib.suppress(queue.Empty):
            left = max(0.0, deadline - time.monotonic())
            if answers.get(timeout=left):
                return True
    return False


def _features(builder):
    """Returns the features "image" and "label", the latter None if missing."""
    found = dict(builder.info.features)
    image, label = found.get("image"), found.get("label")
    if not isinstance(image, tfds.features.Image) or image.np_dtype not in (
        np.uint8,
        np.uint16,
    ):
        described = ", ".join(
            f"{name}: {type(feature).__name__}"
            for name, feature in found.items()
        )
        raise UserError(
            f"TFDS data set {builder.name} has no feature 'image' of 8- or "
            f"16-bit images (found: {described}): choose an image data set"
        )
    if not isinstance(label, tfds.features.Tensor) or label.shape:
        return image, None
    return image, label if np.issubdtype(label.np_dtype, np.integer) else None


def _choose_splits(builder):
    """Returns the names of the split for training and, if any, for test."""
    found = list(_sizes(builder))
    if "train" not in found:
        raise UserError(
            f"TFDS data set {builder.name} has no split 'train' (found: "
            f"{', '.join(found)}): choose another data set"
        )
    tests = [split for split in ("test", "validation") if split in found]
    return ["train", *tests[:1]]


def _sizes(builder):
    """Returns the number of examples of each split."""
    return {k: v.num_examples for k, v in builder.info.splits.items()}


def _examples(builder, split, labelled):
    """Returns the examples in the order in which they were written."""
    wanted = {"image": True, "label": True} if labelled else {"image": True}
    decoders = None
    # Only if needed, as partial decoding makes TFDS warn.
    if set(builder.info.features) != set(wanted):
        decoders = tfds.decode.PartialDecoding(wanted)
    return builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=decoders,
        # One file after the other: the default interleaves them.
        read_config=tfds.ReadConfig(
            interleave_cycle_length=1, try_autocache=False
        ),
    )


def _image_shape(builder, feature, size):
    """Returns the shape of the images to be read."""
    shape = tuple(feature.shape)
    if (None in shape[:2] and size is None) or shape[2] is None:
        first = next(iter(_examples(builder, "train", False).take(1)))
        shape = tuple(first["image"].shape)
    return (*size, shape[2]) if size else shape


def _fit(example, shape, size, white_level):
    """Resizes the image of an example and adds whether its shape is right."""
    image = example["image"]
    if image.dtype == tf.uint16:
        image = tf.cast(image, tf.float32) / (white_level or 65535)
    if size:
        image = pictures.resize(image, size)
    if image.shape.is_fully_defined():
        return {**example, "image": image, "fits": True}
    fits = tf.reduce_all(tf.shape(image) == shape)
    image = tf.cond(
        fits,
        lambda: tf.ensure_shape(image, shape),
        lambda: tf.zeros(shape, image.dtype),
    )
    return {**example, "image": image, "fits": fits}


def _split(builder, split, shape, size, labelled, white_level):
    """Returns a split that is not read yet."""
    count = _sizes(builder)[split]
    examples = _examples(builder, split, labelled).map(
        lambda example: _fit(example, shape, size, white_level),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    dtype = examples.element_spec["image"].dtype.as_numpy_dtype
    labels = np.zeros(count, np.int32) if labelled else None

    def read():
        row = 0
        rows = min(256, blocks.rows_of((count, *shape), dtype))
        batches = examples.batch(rows).prefetch(1)
        for batch in _reporting_damage(builder, batches):
            if not batch["fits"].all():
                raise UserError(
                    f"the images of TFDS data set {builder.name} are not all "
                    "of one size: choose an image_size"
                )
            images = batch["image"]
            if labelled:
                labels[row : row + len(images)] = batch["label"]
            row += len(images)
            if dtype != np.uint8:
                images = _limit(images, builder.name, white_level)
            yield images

    return Split(blocks.Blocks((count, *shape), np.dtype(dtype), read), labels)


def _limit(images, name, white_level):
    """Sets what is above 1 by rounding to 1; refuses other values."""
    if images.max() > 1 + 1e-5:
        raise UserError(
            f"{name} holds 16-bit values above white_level={white_level}: "
            "give a higher one"
        )
    return np.minimum(images, 1)


def _reporting_damage(builder, batches):
    """Yields the batches; raises a `UserError` if a file is damaged."""
    try:
        yield from batches.as_numpy_iterator()
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise UserError(
            f"{builder.data_dir} is damaged ({_one_line(error)}): remove it, "
            "and prepare or copy it again"
        ) from error
