"""Times training on images on disk against the same images in memory.

  python benchmarks/data_on_disk.py          # about 10 minutes on 2 cores
  python benchmarks/data_on_disk.py --network=unet

Writes 28 x 28 random images to a temporary folder. Each round trains on them
in memory and on disk, by Keras' `fit` as the apps call it. Prints the median
over rounds of the ratio of images/s, for the MLP VAE (784-512-512-16) and the
default U-Net. The file may be in the system's page cache, as it was just
written.

Then each kind trains once more in a process of its own, of which the peak of
anonymous memory (RssAnon) is printed: what is not in a file.
"""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "network", None, ["mlp", "unet"], "Only the MLP VAE, or the U-Net."
)
flags.DEFINE_float("gigabytes", 2.0, "Size of the file.", lower_bound=0.01)
flags.DEFINE_integer("rounds", 7, "Number of rounds.", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
flags.DEFINE_bool("memory", True, "Also measure the memory.")
flags.DEFINE_string("file", None, "Measure the memory of this file alone.")
flags.DEFINE_enum("place", "disk", ["disk", "memory"], "Where its images are.")

SHAPE = (28, 28, 1)
STEPS = {"mlp": 320, "unet": 32}
MEMORY_STEPS = 200


def main(_):
    """Prints each round and the medians."""
    if FLAGS.file:
        print(f"RssAnon: {peak_of_training():.0f} MB")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KERAS_GENMODELS_CACHE"] = folder
        path = pathlib.Path(folder, "images.npy")
        write(path)
        for network in [FLAGS.network] if FLAGS.network else STEPS:
            compare(network, path)
        if FLAGS.memory:
            for place in ("disk", "memory"):
                found = subprocess.run(
                    [
                        *(sys.executable, __file__),
                        *(f"--file={path}", f"--place={place}"),
                    ],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.splitlines()[-1]
                print(f"{FLAGS.gigabytes:g} GB in {place}: {found}")
    return 0


def write(path):
    """Writes the file of images."""
    import numpy as np

    count = int(FLAGS.gigabytes * 10**9 / 28**2)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *SHAPE)}
    generator = np.random.default_rng(0)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, 10**5):
            rows = min(10**5, count - start)
            file.write(generator.bytes(rows * 28**2))
        file.flush()
        os.fsync(file.fileno())


def compare(network, path):
    """Trains on both kinds in turn, and prints the ratio of their rates."""
    from keras_genmodels import datasets
    from keras_genmodels.training import fit

    model, steps = build_model(network), STEPS[network]
    fit.compile_model(model, fit.Options(1, steps))
    batches = {
        place: training_batches(
            datasets.load(str(path), in_memory=place == "memory"), network
        )
        for place in ("memory", "disk")
    }

    def rate(place):
        start = time.perf_counter()
        model.fit(
            batches[place], steps_per_epoch=steps, shuffle=False, verbose=0
        )
        return steps * FLAGS.batch_size / (time.perf_counter() - start)

    for place in batches:
        rate(place)
    ratios = []
    for row in range(FLAGS.rounds):
        # In turns, so that neither is always the first.
        order = sorted(batches, reverse=row % 2)
        found = {place: rate(place) for place in order}
        ratios.append(found["disk"] / found["memory"])
        print(
            f"{network}: {found['disk']:.0f} images/s from disk, "
            f"{found['memory']:.0f} from memory"
        )
    print(f"{network}, disk to memory: {statistics.median(ratios):.3f}")


def training_batches(data, network):
    """Returns the batches of a training as the apps make them."""
    from keras_genmodels import datasets

    return datasets.training_batches(
        data.train,
        batch_size=FLAGS.batch_size,
        seed=0,
        binarization="dynamic" if network == "mlp" else "none",
    ).map(lambda batch: batch["image"])


def build_model(network):
    """Builds the VAE, or the denoising autoencoder."""
    import numpy as np

    import keras_genmodels as kgm

    if network == "mlp":
        return kgm.VAE(
            kgm.mlp_encoder(SHAPE, 16, (512, 512)),
            kgm.mlp_decoder(8, SHAPE, (512, 512)),
            kgm.MultivariateNormalDiag(8),
            kgm.IndependentBernoulli(SHAPE),
        )
    model = kgm.DenoisingAutoencoder(kgm.unet(SHAPE))
    model.adapt(np.random.default_rng(0).random((100, *SHAPE), np.float32))
    return model


def peak_of_training():
    """Returns the peak of RssAnon of a short training, in MB."""
    from keras_genmodels import datasets
    from keras_genmodels.training import fit

    peak, ended = [0], threading.Event()

    def watch():
        while not ended.wait(0.02):
            text = pathlib.Path("/proc/self/status").read_text()
            found = re.search(r"RssAnon:\s+(\d+) kB", text)[1]
            peak.append(max(peak.pop(), int(found) / 1000))

    thread = threading.Thread(target=watch)
    thread.start()
    data = datasets.load(FLAGS.file, in_memory=FLAGS.place == "memory")
    model = build_model("mlp")
    fit.compile_model(model, fit.Options(1, MEMORY_STEPS))
    model.fit(
        training_batches(data, "mlp"), steps_per_epoch=MEMORY_STEPS, verbose=0
    )
    ended.set()
    thread.join()
    return peak[0]


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
