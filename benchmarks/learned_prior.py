"""Measures log p(x) of a VAE under a learned prior, paired with its own prior.

  python benchmarks/learned_prior.py --workdir=RUN   # about 30 minutes

RUN is a finished run of `apps.train_dae --latents_of=VAE_RUN`. For the first
test images, -log p(x) is estimated by importance weighting, with the same draws
of z under both priors (`metrics.learned_prior.compare_priors`), and the mean of
each and of the difference are printed with their standard errors. The time is
that of 50 latents and the default network on two cores; it is proportional to
--images and --num_samples.
"""

import sys

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("workdir", "runs/prior", "A finished run.")
flags.DEFINE_string(
    "data_dir", None, "Folder of the data set, if it has moved."
)
flags.DEFINE_integer("images", 1000, "Number of test images.", lower_bound=1)
flags.DEFINE_integer("num_samples", 100, "Draws per image.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of all draws.", lower_bound=0)


def main(_):
    """Prints a line for each quantity."""
    from keras_genmodels.core import arrays
    from keras_genmodels.metrics.estimates import as_text, average
    from keras_genmodels.metrics.learned_prior import compare_priors
    from keras_genmodels.models import LatentDiffusion
    from keras_genmodels.runs.workdir import Workdir

    workdir = Workdir(FLAGS.workdir)
    model, run = workdir.load_model(LatentDiffusion), workdir.read_run()
    test = run.load_data(FLAGS.data_dir).test.take(FLAGS.images)
    batches = run.evaluation_batches(test, FLAGS.seed)
    images = arrays.concatenate(batch["image"] for batch in batches)
    found = compare_priors(
        model, images, num_samples=FLAGS.num_samples, seed=FLAGS.seed
    )
    print(f"{len(images)} test images, {FLAGS.num_samples} draws of each")
    learned, own = found["log_likelihood"], found["log_likelihood_own"]
    for name, values, unit in (
        ("-log p(x), learned prior", -learned, "nats"),
        ("-log p(x), own prior", -own, "nats"),
        ("gain", learned - own, "nats"),
        ("rate, learned prior", found["rate"], "nats"),
        ("rate, own prior", found["rate_own"], "nats"),
        ("effective draws, learned prior", found["effective_samples"], ""),
        ("effective draws, own prior", found["effective_samples_own"], ""),
    ):
        print(f"{name:<32}{as_text(*average(values), unit)}")
    return 0


if __name__ == "__main__":
    sys.exit(app.run(main))
