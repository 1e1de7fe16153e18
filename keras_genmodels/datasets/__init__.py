"""Image data sets: a name to arrays in memory, arrays to batches."""

from keras_genmodels.datasets.batches import (
    BINARIZATIONS,
    evaluation_batches,
    training_batches,
)
from keras_genmodels.datasets.file_kinds import list_pictures, skipped_in
from keras_genmodels.datasets.image_dataset import ImageDataset
from keras_genmodels.datasets.image_files import read_labels, read_pictures
from keras_genmodels.datasets.loading import Source, load
from keras_genmodels.datasets.splits import Split

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
    "skipped_in",
    "training_batches",
]
