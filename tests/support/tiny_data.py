"""A data set of random images."""

import numpy as np

from keras_genmodels import datasets


def tiny_data(num_train, num_test, labels=None, shape=(8, 8, 1)):
    count = num_train + num_test
    images = np.random.default_rng(0).integers(0, 256, (count, *shape))
    images = images.astype(np.uint8)
    first, rest = (
        (labels, labels)
        if labels is None
        else (np.int32(labels[:num_train]), np.int32(labels[num_train:]))
    )
    train = datasets.Split(images[:num_train], first)
    test = datasets.Split(images[num_train:], rest)
    return datasets.ImageDataset("tiny", train, None, test, None)
