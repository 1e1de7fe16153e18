"""Image data sets: a name to arrays in memory, arrays to batches."""

from keras_genmodels.datasets.batches import (
    BINARIZATIONS,
    evaluation_batches,
    training_batches,
)
from keras_genmodels.datasets.image_dataset import (
    ImageDataset,
    Source,
    Split,
    load,
)
from keras_genmodels.datasets.image_files import (
    list_pictures,
    read_labels,
    read_pictures,
)

__all__ = [
    "BINARIZATIONS",
    "ImageDataset",
    "Source",
    "Split",
    "evaluation_batches",
    "list_pictures",
    "load",
    "read_labels",
    "read_pictures",
    "training_batches",
]
