"""Times denoising a large picture against BM3D and PyTorch; measures memory.

  python benchmarks/pictures.py                   # 12 megapixels
  python benchmarks/pictures.py --megapixels=1
  python benchmarks/pictures.py --only=keras,nlm --filters=64,128 \\
      --stem_stride=2

Each runs in a new process: `kgm.denoise_in_tiles` with a U-Net that receives
sigma, in float32 and in mixed bfloat16; the same weights and tiles in PyTorch;
BM3D, and non-local means of scikit-image. BM3D and PyTorch are in the extra
`bench`; what is not installed is named and left out. The picture is grey, one
of scikit-image repeated, with noise of 25/255.

Prints megapixels/s (median and range over rounds, after a smaller picture to
warm up), the peak memory above that of the idle process, which includes the
noisy and the denoised picture, and the largest difference of PyTorch to Keras.
"""

import importlib.util
import math
import multiprocessing
import statistics
import sys
import threading
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_float("megapixels", 12, "Size of the picture.", lower_bound=0.01)
flags.DEFINE_integer("rounds", 3, "Number of rounds.", lower_bound=1)
flags.DEFINE_list("filters", ["32", "64", "128"], "Channels of each level.")
flags.DEFINE_integer("blocks", 2, "Residual blocks per level.", lower_bound=1)
flags.DEFINE_integer(
    "stem_stride",
    1,
    "1 or 2: as of `kgm.unet`.",
    lower_bound=1,
    upper_bound=2,
)
flags.DEFINE_integer(
    "max_pixels", 2**20, "Pixels that a network takes at a time.", lower_bound=1
)
flags.DEFINE_list("only", None, "Only some of the names that are printed.")

SIGMA = 25 / 255
# Of the picture to warm up with, in pixels: larger than a tile's overlap.
WARM_UP = 250_000
# The package of each.
PACKAGES = {
    "keras": "keras",
    "keras_bfloat16": "keras",
    "pytorch": "torch",
    "bm3d": "bm3d",
    "nlm": "skimage",
}
flags.register_validator(
    "only",
    lambda names: names is None or {*names} <= {*PACKAGES},
    f"must be some of {','.join(PACKAGES)}",
)
flags.register_validator(
    "filters",
    lambda sizes: sizes and all(size.isdecimal() for size in sizes),
    "must be ints joined by commas",
)


def main(_):
    """Measures each in a process of its own, and prints the results."""
    names = FLAGS.only or [*PACKAGES]
    options = {
        "pixels": round(1e6 * FLAGS.megapixels),
        "rounds": FLAGS.rounds,
        "filters": tuple(map(int, FLAGS.filters)),
        "blocks": FLAGS.blocks,
        "stem_stride": FLAGS.stem_stride,
        "max_pixels": FLAGS.max_pixels,
    }
    context = multiprocessing.get_context("spawn")
    results = {}
    for name in names:
        package = PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            print(f"{name}: left out, {package} is not installed")
            continue
        with context.Pool(1) as pool:
            results[name] = pool.apply(measure, (name, options))
        speeds, memory, _ = results[name]
        print(
            f"{name}: {statistics.median(speeds):.3f} megapixels/s "
            f"({min(speeds):.3f} to {max(speeds):.3f}), peak {memory:.0f} MB",
            flush=True,
        )
    compare(results)
    return 0


def compare(results):
    """Prints the ratios to Keras in float32, and how PyTorch differs."""
    import numpy as np

    if "keras" not in results:
        return
    own, _, sample = results["keras"]
    for name, (speeds, _, other) in results.items():
        if name == "keras":
            continue
        ratio = statistics.median(speeds) / statistics.median(own)
        differs = ""
        if name in ("keras_bfloat16", "pytorch"):
            largest = np.abs(other - sample).max()
            differs = f", its result differs by at most {largest:.1e}"
        print(f"{name}: {ratio:.2f} times as fast as keras{differs}")


def measure(name, options):
    """Returns megapixels/s of each round, MB at the peak, and a sample."""
    import numpy as np

    noisy = make_picture(options["pixels"])
    denoise = PARTS[name](options)
    speeds = []
    with PeakMemory() as memory:
        denoise(make_picture(min(WARM_UP, options["pixels"])))
        for _ in range(options["rounds"]):
            start = time.perf_counter()
            denoised = denoise(noisy)
            speeds.append(noisy.size / 1e6 / (time.perf_counter() - start))
    sample = np.array(denoised[:256, :256])
    return speeds, memory.risen + noisy.nbytes / 1e6, sample


class PeakMemory:
    """Watches the memory of this process in a block.

    Attributes:
        risen: float, MB at the peak above those at the start.
    """

    def __enter__(self):
        import psutil

        self._process, self._done = psutil.Process(), threading.Event()
        self._before = self._highest = self._process.memory_info().rss
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._watcher.join()
        self.risen = (self._highest - self._before) / 1e6

    def _watch(self):
        while not self._done.wait(0.005):
            rss = self._process.memory_info().rss
            self._highest = max(self._highest, rss)


def make_picture(pixels):
    """Returns a noisy grey picture of about that many pixels, 3 by 4."""
    import numpy as np

    from keras_genmodels.datasets import standard_pictures

    image = standard_pictures.read(standard_pictures.paths(1)[0], 1)[..., 0]
    height = round((pixels * 3 / 4) ** 0.5)
    size = height, round(pixels / height)
    repeats = [-(-side // n) for side, n in zip(size, image.shape, strict=True)]
    clean = np.tile(image, repeats)[: size[0], : size[1]].astype(np.float32)
    clean /= 255
    noise = np.random.default_rng(0).standard_normal(size, np.float32)
    return clean + np.float32(SIGMA) * noise


def keras_part(options, policy="float32"):
    """Returns the function that denoises a picture in tiles."""
    from keras_genmodels.sampling.tiles import denoise_in_tiles

    denoiser = make_denoiser(options, policy)

    def denoise(x):
        return denoise_in_tiles(
            denoiser,
            x[None, ..., None],
            SIGMA,
            max_pixels=options["max_pixels"],
        )[0, ..., 0]

    return denoise


def keras_bfloat16_part(options):
    """Returns the same with layers in 16 bits."""
    return keras_part(options, "mixed_bfloat16")


def make_denoiser(options, policy="float32"):
    """Returns a denoiser with random weights, the same for each policy."""
    import keras
    import numpy as np
    from peer_tasks import keras_unet

    import keras_genmodels as kgm

    keras.config.set_dtype_policy(policy)
    denoiser = kgm.DenoisingAutoencoder(keras_unet(options, (None, None)))
    denoiser.adapt(np.random.default_rng(0).random((9, 8, 8, 1)))
    return denoiser


def pytorch_part(options):
    """Returns the function that denoises in the same tiles by PyTorch."""
    import numpy as np
    import torch

    from keras_genmodels.networks.reach import reach_of
    from keras_genmodels.sampling import tiles

    denoiser = make_denoiser(options)
    reach = reach_of(denoiser.network)
    network = torch_denoiser(denoiser, options)

    def denoise(x):
        result = np.empty_like(x)
        for rows, columns in tiles.tiles_of(
            x.shape, reach, options["max_pixels"]
        ):
            part = x[rows.start : rows.stop, columns.start : columns.stop]
            with torch.inference_mode():
                found = network(torch.from_numpy(part.copy())[None, None])
            found = found.numpy()[0, 0][None, ..., None]
            result[rows.first : rows.last, columns.first : columns.last] = (
                tiles.cut(found, rows, columns)[0, ..., 0]
            )
        return result

    return denoise


def torch_denoiser(denoiser, options):
    """Returns D(x, SIGMA) of a denoiser from `make_denoiser` in PyTorch."""
    import torch
    from torch_networks import Unet

    weights = {it.name: it.get_weights() for it in denoiser.network.layers}
    sizes = (options[k] for k in ("filters", "blocks", "stem_stride"))
    network = Unet(weights, *sizes)
    level = torch.full((1,), math.log(SIGMA) / 4)
    mean = float(denoiser.data_mean[0, 0, 0])
    variance = float(denoiser.data_stddev) ** 2
    total = variance + SIGMA**2

    def denoise(x):
        centred = x - mean
        change = network(centred / total**0.5, level)
        out = SIGMA * (variance / total) ** 0.5
        return mean + variance / total * centred + out * change

    return denoise


def bm3d_part(_):
    """Returns BM3D."""
    return classical_part("bm3d")


def nlm_part(_):
    """Returns non-local means."""
    return classical_part("nlm")


def classical_part(name):
    """Returns a function that denoises a picture by a classical denoiser."""
    from keras_genmodels.evaluation.classical import CLASSICAL

    denoise = CLASSICAL[name].denoise
    return lambda x: denoise(x[..., None], SIGMA)[..., 0]


PARTS = {
    "keras": keras_part,
    "keras_bfloat16": keras_bfloat16_part,
    "pytorch": pytorch_part,
    "bm3d": bm3d_part,
    "nlm": nlm_part,
}

if __name__ == "__main__":
    app.run(main, argv=sys.argv)
