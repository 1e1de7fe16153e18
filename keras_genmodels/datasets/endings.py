"""The endings of files, in lower case.

No imports here: the apps read this file before they import TensorFlow.
"""

PICTURES = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
)
ARRAYS = (".npy", ".npz")
# Endings of files with which data are often stored, but which are not read.
OTHER_DATA = (
    ".arrow",
    ".csv",
    ".dcm",
    ".gz",
    ".h5",
    ".hdf5",
    ".json",
    ".mat",
    ".nii",
    ".parquet",
    ".pickle",
    ".pkl",
    ".pt",
    ".pth",
    ".tar",
    ".tfrecord",
    ".tfrecords",
    ".tgz",
    ".zip",
)
