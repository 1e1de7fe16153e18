"""Measures what generated images keep of the data: variances and labels.

  python benchmarks/generated_images.py --workdir=RUN --num_images=10000
  python benchmarks/generated_images.py --workdir=RUN --num_images=10000 \\
      --solver=euler --num_steps=100 --white_start

RUN is a finished run of an app that trains on images with labels. A model of
labels draws by those of the first test images, as `apps.evaluate` does. Prints
how its first samples and as many test images compare with training images; the
share of the variance of the training images that the samples have along each of
their first ten principal axes, and in all, with its standard error; the labels
that a small classifier finds in samples and in test images, the last of which
is "no image"; and the time of 64 samples, the median of a few rounds. The
second command walks as version 0.3.0 did.

Standard errors are those of Gaussian data: sqrt(2 / n) of a variance.
"""

import math
import statistics
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("workdir", "runs/dae", "A finished run.")
flags.DEFINE_string(
    "data_dir", None, "Folder of the data set, if it has moved."
)
flags.DEFINE_integer("num_images", 2000, "Samples.", lower_bound=2)
flags.DEFINE_integer("seed", 0, "Seed of the samples.", lower_bound=0)
flags.DEFINE_float(
    "guidance", 0.0, "Strength of guidance by the label.", lower_bound=0.0
)
flags.DEFINE_enum(
    "solver", None, ["dpmpp_2m", "heun", "euler"], "Solver of a denoiser."
)
flags.DEFINE_integer(
    "num_steps", None, "Evaluations of a denoiser.", lower_bound=1
)
flags.DEFINE_bool(
    "white_start",
    False,
    "Start a denoiser from N(m, sigma^2 I) of the data's mean m, and not from "
    "the distribution of the noisy data.",
)
flags.DEFINE_integer("rounds", 5, "Rounds of the time.", lower_bound=1)

NUM_AXES, NUM_TIMED = 10, 64


def main(_):
    """Prints the quality, the shares, the labels and the time."""
    from keras_genmodels.core import arrays, seeds
    from keras_genmodels.metrics.classifier import cached_classifier
    from keras_genmodels.models.batched_sampling import BATCH_SIZE
    from keras_genmodels.runs.workdir import Workdir

    workdir = Workdir(FLAGS.workdir)
    model, run = workdir.load_model(), workdir.read_run()
    check_flags(model)
    data = run.load_data(FLAGS.data_dir)
    labels = given_labels(model, data.test)
    images = arrays.map_batches(
        lambda rows, labels: draw(model, rows, labels),
        seeds.row_seeds(FLAGS.seed, FLAGS.num_images),
        labels,
        batch_size=BATCH_SIZE,
    )
    print_quality(data, images, workdir.path, run.binarization or "none")
    print_variances(data.train.images, images)
    classifier = cached_classifier(data, workdir.path)
    for name, found in (("samples", images), ("test", data.test.images)):
        shares = label_shares(classifier, found)
        text = " ".join(f"{100 * share:.1f}" for share in shares)
        print(f"labels of {name}, %: {text}")
    print(f"{NUM_TIMED} images in {median_time(model, labels):.2f} s")
    return 0


def check_flags(model):
    """Ends the program if the model has no walk that the flags could change."""
    from keras_genmodels.core.events import is_any_size
    from keras_genmodels.denoisers import Denoiser

    if FLAGS.guidance and model.condition_kind != "label":
        sys.exit(f"--guidance requires a model of labels: not {FLAGS.workdir}")
    if (
        FLAGS.solver is None
        and FLAGS.num_steps is None
        and not FLAGS.white_start
    ):
        return
    if not (isinstance(model, Denoiser) and model.needs_sigma):
        sys.exit(
            "--solver, --num_steps and --white_start require a denoiser that "
            f"receives sigma, which {FLAGS.workdir} is not"
        )
    if FLAGS.white_start and is_any_size(model.event_shape):
        sys.exit("--white_start requires a denoiser of images of one size")


def given_labels(model, test):
    """Returns the labels of the samples of a model of labels, else None."""
    if model.condition_kind is None:
        return None
    if model.condition_kind != "label":
        sys.exit(f"{FLAGS.workdir} draws from parts of images, not by label")
    if FLAGS.num_images > len(test.labels):
        sys.exit(f"--num_images: there are {len(test.labels)} test labels")
    return test.labels[: FLAGS.num_images]


def draw(model, rows, labels):
    """Draws a sample for each row seed, as the flags say."""
    settings = {"solver": FLAGS.solver, "num_steps": FLAGS.num_steps}
    settings = {k: v for k, v in settings.items() if v is not None}
    if FLAGS.white_start:
        from keras_genmodels.sampling.noisy_data import NoisyGaussian

        white = NoisyGaussian(model.data_mean, model.sigma_range[1])
        settings["initial"] = white.draw(rows)
    if labels is None:
        return model.sample(len(rows), seed=rows, **settings)
    if FLAGS.guidance:
        settings["guidance"] = FLAGS.guidance
    return model.sample(condition=labels, seed=rows, **settings)


def print_quality(data, images, folder, binarization):
    """Prints the measures of `evaluation.samples`, and of test images."""
    import numpy as np

    from keras_genmodels.evaluation import comparison, samples
    from keras_genmodels.evaluation.model import Settings

    everything = comparison.all_training_images(data)
    compared = comparison.comparison(
        data, everything, len(images), binarization, seed=FLAGS.seed
    )
    features = comparison.features(
        data, everything, folder, num_steps=Settings.classifier_steps
    )
    images = np.clip(images[: len(compared.real)], 0, 1).astype(np.float32)
    section = samples.section(images, compared, features)
    print(*section.notes, sep="\n")
    for measure in section.measures.values():
        real = measure.references.get("test images")
        reference = "" if real is None else f" (test images {real.value:.4g})"
        print(
            f"{measure.label}: {measure.estimate.value:.4g} +- "
            f"{measure.estimate.standard_error:.2g}{reference}"
        )


def print_variances(train, images):
    """Prints the shares of the variance of images `[n, ...]` that are kept."""
    import numpy as np

    from keras_genmodels.core import arrays

    data, found = (
        arrays.as_float(x).reshape(len(x), -1).astype(np.float64)
        for x in (train, images)
    )
    mean = data.mean(0)
    variances, axes = np.linalg.eigh(np.cov(data.T))
    variances, axes = variances[::-1], axes[:, ::-1]
    along = (found - mean) @ axes[:, :NUM_AXES]
    kept = along.var(axis=0) / variances[:NUM_AXES]
    error = math.sqrt(2 / len(found))
    print(
        f"kept variance along the first {NUM_AXES} axes: "
        f"{' '.join(f'{share:.3f}' for share in kept)} (standard error "
        f"{error:.3f} of each), in all "
        f"{found.var(axis=0).sum() / variances.sum():.3f}"
    )


def label_shares(classifier, images):
    """Returns the share of each label that a classifier finds in images."""
    import numpy as np

    from keras_genmodels.core import arrays

    logits = arrays.map_batches(
        lambda batch: classifier(arrays.as_float(batch)),
        images,
        batch_size=500,
    )
    found = np.argmax(logits, axis=-1)
    return np.bincount(found, minlength=logits.shape[-1]) / len(found)


def median_time(model, labels):
    """Returns the time of some samples, after a first call."""
    import numpy as np

    from keras_genmodels.core import seeds

    labels = None if labels is None else np.resize(labels, NUM_TIMED)
    rows = seeds.row_seeds(FLAGS.seed, NUM_TIMED)
    times = []
    for _ in range(1 + FLAGS.rounds):
        start = time.perf_counter()
        draw(model, rows, labels).numpy()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
