"""Times the training of a VAE against a bare loop and a matrix product.

  python benchmarks/vae_training.py                  # MLP, default XLA setting
  python benchmarks/vae_training.py --network=conv --jit_compile=false
  python benchmarks/vae_training.py --network=gated_mlp --hidden_sizes=300,300 \
      --latent_size=40 --dtype_policy=mixed_bfloat16
  python benchmarks/vae_training.py --network=resnet --filters=8,64,128,128 \
      --residual_blocks=0,0,1,1 --latent_size=40 --batch_size=100

Each round measures Keras' `fit` as `train_vae` calls it (with shuffling and
binarisation, without checkpoints and TensorBoard); a bare `tf.function` loop
over the same networks with the same XLA setting, plain Adam and binary images
in memory; and 2048 x 2048 matrix products in float32. Prints the medians over
rounds of two ratios: images/s of `fit` to the bare loop, and operations/s of
`fit` to the matrix product. Only multiply-adds of convolutions and dense layers
count, as two operations each; a training step counts as three forward passes.
"""

import statistics
import sys
import time

import vae_networks
from absl import app, flags
from vae_networks import SHAPE, build_model, jit_compile, operations

FLAGS = flags.FLAGS

vae_networks.define_flags(["512", "512"], 8)
flags.DEFINE_enum(
    "dtype_policy",
    "float32",
    ["float32", "mixed_bfloat16"],
    "Keras' dtype policy of the networks.",
)
flags.DEFINE_integer("rounds", 7, "Number of rounds.", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)

STEPS = 208


def main(_):
    """Prints each round and the medians of the ratios."""
    import keras
    import numpy as np

    from keras_genmodels import datasets
    from keras_genmodels.training import fit as training

    keras.config.set_dtype_policy(FLAGS.dtype_policy)
    pixels = np.random.default_rng(0).random((20000, *SHAPE)) < 0.3
    split = datasets.Split(pixels.astype(np.uint8) * 255, None)
    is_mlp = FLAGS.network in ("mlp", "gated_mlp")
    steps = STEPS if is_mlp else STEPS // 5
    model = build_model()
    options = training.Options(
        epochs=1,
        steps_per_epoch=steps,
        jit_compile=jit_compile(),
    )
    training.compile_model(model, options)
    batches = datasets.training_batches(
        split, batch_size=FLAGS.batch_size, seed=0, binarization="dynamic"
    ).map(lambda batch: batch["image"])
    bare = bare_loop(split.images / np.float32(255), model.jit_compile)
    count = sum(map(operations, (model.encoder, model.decoder)))
    print(
        f"{model.count_params()} weights, {count / 1e6:.1f} million operations "
        "per image, forward"
    )

    def fit():
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
        return steps * FLAGS.batch_size

    def loop():
        bare(steps).numpy()
        return steps * FLAGS.batch_size

    for part in (fit, loop, matrix_products):
        part()
    rounds = [
        [speed(part) for part in (fit, loop, matrix_products)]
        for _ in range(FLAGS.rounds)
    ]
    print(
        f"XLA: {model.jit_compile}; steps/execution: "
        f"{model.steps_per_execution}"
    )
    print_rounds(rounds, 3 * count)
    return 0


def print_rounds(rounds, operations_per_image):
    """Prints the speeds of `fit`, loop and product, and the median ratios."""
    for fitted, looped, product in rounds:
        print(
            f"fit {fitted:7.0f} images/s, bare loop {looped:7.0f} images/s, "
            f"product {product / 1e9:5.0f} GFLOP/s"
        )
    to_bare = statistics.median(r[0] / r[1] for r in rounds)
    print(f"fit to bare loop: {to_bare:.2f}")
    to_product = statistics.median(
        operations_per_image * r[0] / r[2] for r in rounds
    )
    print(f"fit to matrix product: {to_product:.2f}")


def speed(part):
    """Returns the amount that a part does, per second."""
    start = time.perf_counter()
    amount = part()
    return amount / (time.perf_counter() - start)


def bare_loop(images, jit_compile):
    """Returns a function that runs a number of training steps."""
    import keras
    import tensorflow as tf

    model = build_model()
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    data = tf.constant(images)

    @tf.function(jit_compile=jit_compile)
    @tf.autograph.experimental.do_not_convert
    def train_step(x, seed):
        shape = (FLAGS.batch_size, FLAGS.latent_size)
        noise = tf.random.stateless_normal(shape, seed)
        with tf.GradientTape() as tape:
            posterior = model.encode(x)
            z = posterior.loc + posterior.scale.matvec(noise)
            rate = posterior.kl_divergence(model.prior())
            loss = tf.reduce_mean(rate - model.decode(z).log_prob(x))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
        return loss

    @tf.function
    def loop(steps):
        loss = 0.0
        for step in tf.range(steps):
            start = step * FLAGS.batch_size % (20000 - FLAGS.batch_size)
            x = data[start : start + FLAGS.batch_size]
            x = tf.ensure_shape(x, (FLAGS.batch_size, *SHAPE))
            loss = train_step(x, tf.stack([0, step]))
        return loss

    return lambda steps: loop(tf.constant(steps))


def matrix_products():
    """Multiplies 2048 x 2048 matrices; returns the number of operations."""
    import tensorflow as tf

    matrix = tf.ones((2048, 2048)) / 2048
    product = matrix
    for _ in range(10):
        product = tf.matmul(product, matrix)
    product.numpy()
    return 10 * 2 * 2048**3


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
