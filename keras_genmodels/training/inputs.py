"""Batches of a data set as inputs of a latent-variable model."""

import dataclasses

import numpy as np

from keras_genmodels import datasets
from keras_genmodels.core import arrays, memory
from keras_genmodels.core.batch_parts import WHOLE
from keras_genmodels.operators.masks import fill_unobserved
from keras_genmodels.training.workers import Workers

# Largest number of images per batch; smaller for wide networks.
BATCH_SIZE = 512
# Maximum number of activations of the widest layer per batch (256 MB in
# float32).
_MAX_ACTIVATIONS = 2**26


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """The splits of a data set, as batches of inputs of a model.

    Attributes:
        model: a `LatentVariableModel` of images; if conditional, of labels or
            of the observed part of the image.
        data: a `datasets.ImageDataset`.
        binarization: "none", "dynamic" or "threshold".
        seed: int, for the order and the binarisation.
    """

    model: object
    data: datasets.ImageDataset
    binarization: str
    seed: int

    def training(self, batch_size, start_step, part=WHOLE):
        """Returns an endless `tf.data.Dataset` of shuffled batches."""
        return datasets.training_batches(
            self.data.train,
            batch_size=batch_size,
            seed=self.seed,
            binarization=self.binarization,
            start_step=start_step,
            part=part,
        ).map(input_of(self.model))

    def batches(self, split):
        """Returns a `tf.data.Dataset` with each image of a split once."""
        batch_size = images_at_once(self.model, BATCH_SIZE)
        return self._plain(split, batch_size).map(input_of(self.model))

    def take(self, split, num_batches):
        """Returns the first batches of a split, joined, as `arguments_of`."""
        plain = self._plain(split, BATCH_SIZE).take(num_batches)
        return arrays.concatenate(arguments_of(self.model, plain))

    def _plain(self, split, batch_size):
        return datasets.evaluation_batches(
            split,
            batch_size=batch_size,
            seed=self.seed,
            binarization=self.binarization,
        )


def validation_split(data, strategy):
    """Returns the validation split of a data set, as a training reads it.

    Args:
        data: a `datasets.ImageDataset`.
        strategy: `tf.distribute.Strategy` of the training.

    Returns:
        `datasets.Split`, or None; in memory for several workers, to each of
        which TensorFlow copies the data set.

    Raises:
        ValueError: if it does not fit there.
    """
    split = data.validation
    if split is None or not Workers(strategy).are_several:
        return split
    return split.in_memory()


def check_condition(model):
    """Checks that a data set has the condition of a model.

    Raises:
        ValueError: if the model is conditional, and not on the label or on a
            part of the image.
    """
    if model.condition_kind == "other":
        raise ValueError(
            "the model is conditioned on neither labels nor a part of the "
            "image: use it in a script that passes the condition"
        )


def input_of(model):
    """Returns the function from batches of a data set to inputs of a model.

    Args:
        model: as in `Inputs`.

    Returns:
        function of a dict of `image` and perhaps `label` that returns the
        image, or for a conditional model a dict of `image` and `condition`:
        the label, or the image with 0 for unobserved pixels.

    Raises:
        ValueError: as `check_condition`.
    """
    check_condition(model)
    if model.condition_kind is None:
        return lambda batch: batch["image"]

    def with_condition(batch):
        image = batch["image"]
        if model.condition_kind == "label":
            return {"image": image, "condition": batch["label"]}
        observed = fill_unobserved(image, model.observed_mask, 0)
        return {"image": image, "condition": observed}

    return with_condition


def arguments_of(model, batches):
    """Yields the arguments of a model's methods: `(x,)` or `(x, condition)`.

    Args:
        model: as in `Inputs`.
        batches: iterable of dicts of `image` and perhaps `label`.

    Yields:
        tuple of the positional arguments of `model.encode`, for each batch.
    """
    as_input = input_of(model)
    for batch in batches:
        inputs = as_input(batch)
        yield tuple(inputs.values()) if isinstance(inputs, dict) else (inputs,)


def images_at_once(model, most):
    """Returns how many images the networks of a model should take at once.

    Args:
        model: as in `Inputs`.
        most: int >= 1.

    Returns:
        int in [1, most], for which the activations of any layer take at most
        256 MB.
    """
    widest = memory.widest_layer(model)
    return max(1, min(most, _MAX_ACTIVATIONS // widest))


def chunk_size(model):
    """Returns the `chunk_size` for `likelihood.importance_weighted`.

    Args:
        model: as in `Inputs`.

    Returns:
        int >= 1, `memory.draws_at_once`; on a CPU at most `images_at_once`.
    """
    draws = memory.draws_at_once(model)
    return memory.by_device(cpu=images_at_once(model, draws), gpu=draws)


def threshold(images, binarization):
    """Returns images as a model of this binarisation was shown them on average.

    Args:
        images: array, floating in [0, 1], or uint8.
        binarization: str; "threshold" sets pixels below 0.5 to black and all
            others to white, any other leaves the images unchanged.

    Returns:
        the array, or a uint8 array of 0 and 255.
    """
    if binarization != "threshold":
        return images
    white = images >= (128 if images.dtype == np.uint8 else 0.5)
    return white.astype(np.uint8) * np.uint8(255)
