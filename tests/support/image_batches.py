"""Batches of images, as `training.fit.fit` takes them."""

import operator

from keras_genmodels import datasets

as_image = operator.itemgetter("image")


def image_batches(split, batch_size):
    """Returns the `batches` of `fit`: a function of a step and a part."""

    def read(step, part):
        return datasets.training_batches(
            split, batch_size=batch_size, seed=0, start_step=step, part=part
        ).map(as_image)

    return read
