"""Measures weak scaling: training on several workers, each with one core.

  python benchmarks/scaling.py                   # MLP VAE and U-Net, 2 workers
  python benchmarks/scaling.py --networks=unet --num_workers=4

Each worker is a process on a core of its own, with one thread for an operation
and with --batch_size images for each step. Each round measures

- one worker that trains alone, while the others wait,
- all workers that train alone, at the same time: what the machine allows, as
  cores share memory and, as threads of one core, arithmetic units,
- all workers that train together, by `tf.distribute`.

Prints the medians over rounds of images/s, by the steps of the first worker,
and of two ratios: those of the workers together to those of one times their
number (1 is perfect), and to those of all that train alone at once. All without
XLA, which several replicas cannot use.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_list("networks", ["mlp", "unet"], "Networks: mlp, unet.")
flags.DEFINE_integer("num_workers", 2, "Number of workers.", lower_bound=2)
flags.DEFINE_integer("batch_size", 128, "Images per worker.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Number of rounds.", lower_bound=1)
flags.DEFINE_integer("worker", None, "Index of a worker, set by itself.")

SHAPE = (28, 28, 1)
STEPS = {"mlp": 192, "unet": 8}


def main(_):
    """Starts the workers, or is one of them."""
    if FLAGS.worker is not None:
        work()
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < FLAGS.num_workers:
        sys.exit(f"{FLAGS.num_workers} workers need as many cores, not {cores}")
    print(f"{FLAGS.batch_size} images per worker and step; cores {cores}")
    workers = [
        subprocess.Popen(
            [sys.executable, *sys.argv, f"--worker={index}"],
            env=os.environ | {"TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=None if index == 0 else subprocess.DEVNULL,
        )
        for index, config in enumerate(configs(FLAGS.num_workers))
    ]
    if any([worker.wait() for worker in workers]):
        sys.exit("a worker failed")


def configs(num_workers):
    """Returns TF_CONFIG of each worker."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket()) for _ in range(num_workers)
        ]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{it.getsockname()[1]}" for it in sockets]
    return [
        json.dumps(
            {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }
        )
        for index in range(num_workers)
    ]


def work():
    """Measures as one worker, of which the first prints."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[FLAGS.worker]})
    import tensorflow as tf

    from keras_genmodels.core import allocator
    from keras_genmodels.training import strategy
    from keras_genmodels.training.workers import Workers

    # As `training.fit.fit`.
    allocator.keep_freed_memory()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    built = strategy.build("multi_worker")
    for network in FLAGS.networks:
        rounds = measure(network, built, Workers(built))
        if FLAGS.worker == 0:
            report(network, rounds)


def measure(network, built, workers):
    """Returns images/s of one, of all at once and together, for each round."""
    num = FLAGS.num_workers
    alone = trainer(network, None, FLAGS.batch_size)
    together = trainer(network, built, num * FLAGS.batch_size)

    def speed(train, is_part=True):
        workers.agree()
        return train() * FLAGS.batch_size if is_part else None

    rounds = []
    for _ in range(1 + FLAGS.rounds):
        one = speed(alone, FLAGS.worker == 0)
        at_once, both = speed(alone), speed(together)
        rounds.append((one, num * at_once, num * both))
    # The first one traces the functions.
    return rounds[1:]


def trainer(network, built, batch_size):
    """Returns a function that trains a new model, and returns steps/s."""
    import numpy as np

    from keras_genmodels import datasets
    from keras_genmodels.core import batch_parts
    from keras_genmodels.training import fit, strategy

    pixels = np.random.default_rng(0).random((20000, *SHAPE)) < 0.3
    split = datasets.Split(pixels.astype(np.uint8) * 255, None)
    options = fit.Options(
        epochs=1,
        steps_per_epoch=STEPS[network],
        checkpoint_every=STEPS[network] // 4,
        jit_compile=False,
    )
    model = build_model(network, split.images)
    if built is not None:
        model = strategy.replicate(model, built)
    fit.compile_model(model, options)

    def read(part):
        return datasets.training_batches(
            split,
            batch_size=batch_size,
            seed=0,
            binarization="dynamic" if network == "mlp" else "none",
            part=part,
        ).map(lambda batch: batch["image"])

    # As `fit.fit`, whose workers read their own rows alone.
    batches = read(batch_parts.WHOLE)
    if built is not None:
        batches = batch_parts.PartialBatches(read)
    return lambda: steps_per_second(model, batches, STEPS[network])


def steps_per_second(model, batches, num_steps):
    """Trains a model, and returns steps/s.

    Times are those between the first execution of steps and the last: starting
    a training takes seconds, once.
    """
    import keras

    times = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: times.append(
            (batch, time.perf_counter())
        )
    )
    model.fit(
        batches,
        steps_per_epoch=num_steps,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )
    (first, start), (last, end) = times[0], times[-1]
    return (last - first) / (end - start)


def build_model(network, images):
    """Returns the default model of `train_vae --network=mlp` or `train_dae`."""
    import keras_genmodels as kgm
    from keras_genmodels.distributions import layers
    from keras_genmodels.networks import encoders

    if network == "unet":
        model = kgm.DenoisingAutoencoder(kgm.unet(SHAPE))
        model.adapt(images)
        return model
    posterior = layers.MultivariateNormalDiag(16)
    likelihood = layers.IndependentBernoulli(SHAPE)
    return kgm.VAE(
        encoders.mlp_encoder(SHAPE, posterior.params_size, (200, 200)),
        encoders.mlp_decoder(16, likelihood.params_shape, (200, 200)),
        posterior,
        likelihood,
    )


def report(network, rounds):
    """Prints the medians."""
    num = FLAGS.num_workers
    one, at_once, together = (
        statistics.median(values) for values in zip(*rounds, strict=True)
    )
    ratio = statistics.median(t / (num * o) for o, _, t in rounds)
    ceiling = statistics.median(a / (num * o) for o, a, _ in rounds)
    of_ceiling = statistics.median(t / a for _, a, t in rounds)
    print(
        f"{network}: one worker {one:.0f} images/s, {num} alone at once "
        f"{at_once:.0f}, {num} together {together:.0f}\n"
        f"  weak scaling {ratio:.2f}; the machine allows {ceiling:.2f}, of "
        f"which {of_ceiling:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    app.run(main)
