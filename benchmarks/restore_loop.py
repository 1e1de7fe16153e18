"""Times the restore loop against bare forward passes of the same U-Net.

  python benchmarks/restore_loop.py               # about a minute on 2 cores
  python benchmarks/restore_loop.py --jit_compile=true

Each round measures `restore` of images by the default denoising autoencoder,
with tolerance 0 so that it makes all steps; and as many forward passes of its
U-Net alone on the noisy images, in a `tf.function` with the same XLA setting.
Both are float32. Prints the times per step, and the median over rounds of
their ratio.
"""

import statistics
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_enum("jit_compile", "auto", ["auto", "true", "false"], "XLA.")
flags.DEFINE_integer("rounds", 15, "Number of rounds.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images per batch.", lower_bound=1)
flags.DEFINE_integer("steps", 10, "Steps of the loop.", lower_bound=1)

SHAPE = (28, 28, 1)
SIGMA = 0.5


def main(_):
    """Prints the times of each round and the median of their ratios."""
    from keras_genmodels.core import devices

    use_xla = {"true": True, "false": False}.get(
        FLAGS.jit_compile, devices.has_gpu()
    )
    denoiser, noisy = build_denoiser_and_images()
    loop = loop_part(denoiser, noisy, use_xla)
    passes = passes_part(denoiser.network, noisy, use_xla)
    loop(), passes()
    rounds = [(seconds(loop), seconds(passes)) for _ in range(FLAGS.rounds)]
    for looped, passed in rounds:
        print(
            f"loop {1e3 * looped:.1f} ms/step, bare pass {1e3 * passed:.1f} ms"
        )
    ratio = statistics.median(looped / passed for looped, passed in rounds)
    print(f"XLA: {use_xla}; step of the loop to bare pass: {ratio:.3f}")
    return 0


def build_denoiser_and_images():
    """Returns a new denoiser and noisy images."""
    import numpy as np

    from keras_genmodels.denoisers.autoencoder import DenoisingAutoencoder
    from keras_genmodels.networks import denoisers
    from keras_genmodels.operators import noise

    images = np.random.default_rng(0).random((FLAGS.batch_size, *SHAPE))
    images = images.astype(np.float32)
    denoiser = DenoisingAutoencoder(denoisers.unet(SHAPE))
    denoiser.adapt(images)
    return denoiser, noise.gaussian(images, SIGMA, seed=0)


def loop_part(denoiser, noisy, use_xla):
    """Returns a function that runs the loop; it raises if the loop stops."""
    import numpy as np

    from keras_genmodels.sampling.restoration import restore

    def loop():
        found = restore(
            denoiser,
            noisy,
            sigma=SIGMA,
            max_steps=FLAGS.steps,
            tolerance=0,
            jit_compile=use_xla,
        )
        if np.any(found.num_steps != FLAGS.steps):
            raise RuntimeError("an image converged")

    return loop


def passes_part(network, noisy, use_xla):
    """Returns a function that runs as many forward passes."""
    import tensorflow as tf

    level = tf.fill((FLAGS.batch_size,), tf.math.log(SIGMA) / 4)
    forward = tf.function(
        lambda x, level: network([x, level]), jit_compile=use_xla
    )

    def passes():
        for _ in range(FLAGS.steps):
            forward(noisy, level).numpy()

    return passes


def seconds(part):
    """Returns the time of one step or pass."""
    start = time.perf_counter()
    part()
    return (time.perf_counter() - start) / FLAGS.steps


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
