"""A training on a large file of images, and the memory that it takes."""

import pathlib
import re
import threading

import numpy as np

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.runs.workdir import Workdir
from keras_genmodels.training import fit
from support.image_batches import image_batches

SHAPE = (28, 28, 1)


def save_sparse(path, size):
    """Writes an .npy file of black images with 100 random ones at both ends.

    Args:
        path: of the file, which takes next to nothing on the disk.
        size: int, bytes.
    """
    count = size // 28**2
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *SHAPE)}
    noise = np.random.default_rng(0).integers(0, 256, (100, *SHAPE), np.uint8)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.write(noise)
        file.seek(start + (count - 100) * 28**2)
        file.write(noise)


def anonymous_memory():
    """Returns the bytes of this process that are in no file."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


class Peak:
    """The largest `anonymous_memory` within a block, in `bytes`."""

    def __enter__(self):
        self.bytes, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._ended.wait(0.02):
            self.bytes = max(self.bytes, anonymous_memory())

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()
        self.bytes = max(self.bytes, anonymous_memory())


def train(path, workdir, steps, adapts):
    """Trains on a file of images that are read from disk.

    Args:
        path: of the .npy file.
        workdir: path.
        steps: int, of training.
        adapts: whether the denoiser adapts to all images, which takes long.

    Returns:
        bytes of anonymous memory before, and the peak.
    """
    before = anonymous_memory()
    with Peak() as peak:
        data = datasets.load(path, in_memory=False)
        assert data.fingerprint()
        model = kgm.DenoisingAutoencoder(
            kgm.mlp_denoiser(SHAPE, hidden_sizes=(64,))
        )
        model.adapt(data.train.images if adapts else data.train.images[:200])
        fit.fit(
            model,
            Workdir(workdir),
            fit.Options(1, steps, jit_compile=False),
            batches=image_batches(data.train, 128),
            validation=datasets.evaluation_batches(
                data.validation[:1000], batch_size=256, seed=0
            ).map(lambda batch: batch["image"]),
            verbose=0,
        )
    return before, peak.bytes
