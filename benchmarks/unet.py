"""Times a denoising U-Net against a matrix product.

  python benchmarks/unet.py                    # about two minutes on 2 cores
  python benchmarks/unet.py --network=bias_free

Each round measures, under float32 and under mixed bfloat16, forward passes and
training steps (forward, backward, Adam, in one `tf.function`) of 28 x 28
images, and 2048 x 2048 matrix products in float32. Prints the medians over
rounds of images/s, and of the ratio of operations/s to those of the matrix
product. Only multiply-adds of convolutions and dense layers count, as two
operations each; a training step counts as three forward passes.

Then the network is trained briefly in float32 to denoise images of random
rectangles. Prints the PSNR of the same weights under both policies.
"""

import math
import statistics
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_enum("network", "unet", ["unet", "bias_free"], "Kind of U-Net.")
flags.DEFINE_integer("rounds", 9, "Number of rounds.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images per step.", lower_bound=1)
flags.DEFINE_integer("blocks", 2, "Residual blocks per level.", lower_bound=1)
flags.DEFINE_integer(
    "training_steps",
    150,
    "Training steps before the PSNR is measured; 0: do not measure it.",
    lower_bound=0,
)

SHAPE = (28, 28, 1)
POLICIES = ("float32", "mixed_bfloat16")
REPEATS = 3
MATRIX_SIZE = 2048
MEAN, DEVIATION = 0.5, 0.3


def main(_):
    """Prints the times, and the PSNR under both policies."""
    timed = {
        f"{policy} {kind}": part
        for policy in POLICIES
        for kind, part in timed_parts(policy).items()
    }
    medians = measure(timed)
    print(f"matrix product: {medians['product'] / 1e9:.0f} GFLOP/s")
    for name in timed:
        speed, ratio = medians[name]
        print(f"{name}: {speed:.0f} images/s, {ratio:.2f} of the product")
    if FLAGS.training_steps:
        compare_policies()
    return 0


def timed_parts(policy):
    """Returns forward pass and training step, each with its operations."""
    import tensorflow as tf

    model = build_model(policy)
    images = tf.random.normal((FLAGS.batch_size, *SHAPE))
    sigma = tf.fill((FLAGS.batch_size,), 0.5)
    train_step = training_function(model)
    forward = tf.function(lambda: apply(model, images, sigma))
    count = operations(model)
    if policy == POLICIES[0]:
        print(
            f"{model.count_params()} weights, {count / 1e6:.0f} million "
            "operations per image"
        )
    return {
        "forward": (forward, count),
        "training": (lambda: train_step(images, images, sigma), 3 * count),
    }


def measure(timed):
    """Returns the medians of images/s and ratio of each part."""
    for part, _ in timed.values():
        part()
    matrix_product()
    rounds = []
    for _ in range(FLAGS.rounds):
        times = {name: seconds(part) for name, (part, _) in timed.items()}
        times["product"] = seconds(matrix_product)
        rounds.append(times)
    products = [2 * MATRIX_SIZE**3 / times["product"] for times in rounds]
    medians = {"product": statistics.median(products)}
    for name, (_, count) in timed.items():
        speeds = [FLAGS.batch_size / times[name] for times in rounds]
        ratios = [
            speed * count / product
            for speed, product in zip(speeds, products, strict=True)
        ]
        medians[name] = statistics.median(speeds), statistics.median(ratios)
    return medians


def seconds(part):
    """Returns the mean time of a few calls."""
    start = time.perf_counter()
    for _ in range(REPEATS):
        part().numpy()
    return (time.perf_counter() - start) / REPEATS


def matrix_product():
    """Multiplies two matrices in float32."""
    import tensorflow as tf

    matrix = tf.ones((MATRIX_SIZE, MATRIX_SIZE))
    return tf.matmul(matrix, matrix)


def build_model(policy):
    """Builds the network under a dtype policy."""
    import keras

    from keras_genmodels.networks import denoisers

    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    if FLAGS.network == "unet":
        return denoisers.unet(SHAPE, blocks=FLAGS.blocks)
    return denoisers.bias_free_unet(SHAPE, blocks=FLAGS.blocks)


def operations(model):
    """Counts two operations for each multiply-add of a kernel."""
    import keras

    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            total += 2 * math.prod(layer.output.shape[1:3]) * size(layer)
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * size(layer)
    return total


def size(layer):
    """Returns the number of weights of a layer's kernel."""
    return math.prod(layer.kernel.shape)


def training_function(model):
    """Returns a compiled training step on clean and noisy images."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)

    @tf.function
    def train_step(clean, noisy, sigma):
        with tf.GradientTape() as tape:
            error = (denoise(model, noisy, sigma) - clean) / spread(sigma)
            loss = tf.reduce_sum(error**2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
        return loss

    return train_step


def denoise(model, noisy, sigma):
    """Returns D(x, sigma), preconditioned except for the bias-free network."""
    if FLAGS.network == "bias_free":
        return noisy - apply(model, noisy, sigma)
    variance = DEVIATION**2 + per_image(sigma) ** 2
    centred = noisy - MEAN
    change = apply(model, centred / variance**0.5, sigma)
    kept = MEAN + centred * DEVIATION**2 / variance
    return kept + spread(sigma) * change


def apply(model, x, sigma):
    """Runs the network alone."""
    import tensorflow as tf

    if isinstance(model.input, list):
        return model([x, tf.math.log(sigma) / 4])
    return model(x)


def spread(sigma):
    """Returns the standard deviation of the best linear denoiser's error."""
    sigma = per_image(sigma)
    return sigma * DEVIATION / (DEVIATION**2 + sigma**2) ** 0.5


def per_image(sigma):
    """Reshapes `[batch]` to `[batch, 1, 1, 1]`."""
    return sigma[:, None, None, None]


def compare_policies():
    """Trains in float32 and prints the PSNR under both policies."""
    import numpy as np
    import tensorflow as tf

    model = build_model(POLICIES[0])
    train_step = training_function(model)
    rng = np.random.default_rng(0)
    for _ in range(FLAGS.training_steps):
        clean = rectangles(rng, FLAGS.batch_size)
        sigma = np.exp(rng.uniform(-3, 0.4, FLAGS.batch_size))
        noisy = clean + per_image(sigma) * rng.standard_normal(clean.shape)
        train_step(*(tf.constant(a, tf.float32) for a in (clean, noisy, sigma)))
    mixed = build_model(POLICIES[1])
    mixed.set_weights(model.get_weights())
    clean = rectangles(rng, 256)
    for level in (0.1, 0.25, 0.5, 1.0):
        noisy = clean + level * rng.standard_normal(clean.shape)
        exact, rounded = (psnr(m, clean, noisy, level) for m in (model, mixed))
        print(
            f"sigma {level:.2f}: PSNR {exact:.3f} dB in float32, "
            f"{rounded:.3f} dB in mixed bfloat16"
        )


def psnr(model, clean, noisy, level):
    """Returns the mean PSNR in dB."""
    import numpy as np
    import tensorflow as tf

    noisy = tf.constant(noisy, tf.float32)
    found = denoise(model, noisy, tf.fill((len(clean),), level))
    errors = np.mean((found.numpy() - clean) ** 2, axis=(1, 2, 3))
    return np.mean(-10 * np.log10(errors))


def rectangles(rng, count):
    """Draws images of eight overlapping grey rectangles."""
    import numpy as np

    images = np.empty((count, *SHAPE))
    for image in images:
        image[:] = rng.random()
        for _ in range(8):
            top, left = rng.integers(0, 24, 2)
            height, width = rng.integers(3, 16, 2)
            image[top : top + height, left : left + width] = rng.random()
    return images


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
