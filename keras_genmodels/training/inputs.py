"""What a latent-variable model takes, from a data set's batches."""

import dataclasses
import math

import keras
import numpy as np

from keras_genmodels import datasets
from keras_genmodels.core import arrays
from keras_genmodels.core.errors import UserError
from keras_genmodels.operators.masks import fill_unobserved

# At most so many images at once, and so many draws of the importance-weighted
# bound: fewer of those that make much in a network.
BATCH_SIZE = 512
_CHUNK_SIZE = 2000
# Of what a layer of a network makes of the images that it takes at once.
_MOST_VALUES = 2**26


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """The splits of a data set, as batches that a model takes.

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

    def training(self, batch_size, start_step):
        """Gives shuffled batches without end."""
        return datasets.training_batches(
            self.data.train,
            batch_size=batch_size,
            seed=self.seed,
            binarization=self.binarization,
            start_step=start_step,
        ).map(input_of(self.model))

    def of(self, split):
        """Gives each image of a split once."""
        batch_size = images_at_once(self.model, BATCH_SIZE)
        return self._plain(split, batch_size).map(input_of(self.model))

    def first(self, split, count):
        """Joins the first batches to the arguments of the model's methods."""
        plain = self._plain(split, BATCH_SIZE).take(count)
        return arrays.concatenate(arguments_of(self.model, plain))

    def _plain(self, split, batch_size):
        return datasets.evaluation_batches(
            split,
            batch_size=batch_size,
            seed=self.seed,
            binarization=self.binarization,
        )


def check_condition(model):
    """Checks that a model's condition is one that a data set has.

    Raises:
        UserError: for a conditional model of neither labels nor a part of the
            image.
    """
    if model.condition_kind == "other":
        raise UserError(
            "the model is conditioned on neither labels nor a part of the "
            "image: use it in a script, which can give it its condition"
        )


def input_of(model):
    """Gives the function from a data set's batches to what the model takes.

    Args:
        model: as of `Inputs`.

    Returns:
        function of a dict of `image` and perhaps `label`: gives the image, or
        for a conditional model a dict of `image` and `condition`, the label
        or what is known of the image.

    Raises:
        UserError: as `check_condition`.
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
    """Gives what a model's methods take: `(x,)` or `(x, condition)`.

    Args:
        model: as of `Inputs`.
        batches: iterable of dicts of `image` and perhaps `label`.

    Yields:
        tuple of the positional arguments of, say, `model.encode`.
    """
    as_input = input_of(model)
    for batch in batches:
        inputs = as_input(batch)
        yield tuple(inputs.values()) if isinstance(inputs, dict) else (inputs,)


def images_at_once(model, most):
    """Gives how many images a model's networks should take at once.

    Args:
        model: as of `Inputs`.
        most: int >= 1.

    Returns:
        int in [1, most], so that what any layer makes of them stays within
        256 MB.
    """
    return max(1, min(most, _MOST_VALUES // _widest(model)))


def chunk_size(model):
    """Gives the `chunk_size` of `likelihood.importance_weighted`.

    Args:
        model: as of `Inputs`.

    Returns:
        int >= 1, as of `images_at_once`.
    """
    return images_at_once(model, _CHUNK_SIZE)


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


def _widest(model):
    """Counts the values that the widest layer makes of one image."""
    sizes = [math.prod(model.event_shape)]
    for layer in model._flatten_layers():
        # Keras tells the output of layers that are part of a network alone.
        outputs = keras.tree.flatten(getattr(layer, "output", None))
        sizes += [
            math.prod(size or 1 for size in output.shape[1:])
            for output in outputs
            if output is not None
        ]
    return max(sizes)
