"""Measures finished runs of any kind of model, and shows them on a page.

  python -m apps.evaluate --workdir=DIR
  python -m apps.evaluate --workdir=A --workdir=B --output=compare.html

A run's metrics.json gets an `evaluation`, every number with its standard error
and what it means; the run gets the sheet figures/nearest_training_images.png
and report.html: one page, without a script or any other file, of flags, curves,
numbers and sheets of images. Several runs are shown side by side, what differs
first. What was measured before, of the same model with the same flags, is not
measured again. A VAE of the digits takes 26 seconds on two cores.
"""

import pathlib

from absl import flags

from .cli import common_flags, guard

FLAGS = flags.FLAGS

common_flags.define_paths(
    "workdir",
    ["runs/vae"],
    "A finished run of train_vae, train_cvae or train_dae; repeat the flag to "
    "show several side by side.",
)
common_flags.define_path(
    "data_dir", None, "Where the runs' data set lies, if it has moved."
)
flags.DEFINE_integer(
    "num_images",
    1000,
    "So many of the first test images, and as many samples. It bounds the "
    "time: of the digits all 360 are read.",
    lower_bound=20,
)
flags.DEFINE_integer(
    "num_samples",
    500,
    "Of a latent-variable model: draws of the importance-weighted bound, for "
    "each image. 5000 are usual in papers, and take ten times as long.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "seed", 0, "Of all draws.", lower_bound=0, upper_bound=2**31 - 1
)
common_flags.define_path(
    "output",
    None,
    "The .html file; needed for several runs (default: report.html of the "
    "run).",
)


def main():
    """Evaluates each run, prints a table and writes the page."""
    output = check_flags()
    guard.load_tensorflow()
    from keras_genmodels.reports import page
    from keras_genmodels.reports import tables as evaluation_tables
    from keras_genmodels.runs.evaluate import Settings, is_latent, read_current
    from keras_genmodels.runs.workdir import Workdir

    workdirs = [Workdir(path) for path in FLAGS.workdir]
    settings = Settings(FLAGS.num_images, FLAGS.num_samples, FLAGS.seed)
    # All of them first: a run that is missing is told before minutes pass.
    earlier = [read_current(workdir, settings) for workdir in workdirs]
    if FLAGS["num_samples"].present and not any(map(is_latent, workdirs)):
        raise guard.WrongFlags(
            "--num_samples is of latent-variable models: leave it out for "
            "denoisers"
        )
    classifiers = workdirs[0].path / "classifiers"
    runs = [
        page.read(workdir, evaluate(workdir, found, settings, classifiers))
        for workdir, found in zip(workdirs, earlier, strict=True)
    ]
    page.write(output, runs)
    evaluations = {
        name: run.evaluation for name, run in page.named(runs).items()
    }
    tables = evaluation_tables.tables(evaluations)
    for warning in evaluation_tables.warnings(evaluations):
        print(f"{warning}\n")
    print(evaluation_tables.as_text(tables))
    print(f"\n{len(runs)} run{'s' * (len(runs) > 1)} in {output}")


def check_flags():
    """Refuses what can't be shown; gives where the page goes."""
    if len({*FLAGS.workdir}) < len(FLAGS.workdir):
        raise guard.WrongFlags("--workdir names a run twice: name each once")
    if FLAGS.output is None:
        if len(FLAGS.workdir) > 1:
            raise guard.WrongFlags(
                "several runs need a page of their own: give "
                "--output=compare.html"
            )
        return pathlib.Path(FLAGS.workdir[0], "report.html")
    if not FLAGS.output.endswith(".html"):
        raise guard.WrongFlags(f"--output={FLAGS.output} must end in .html")
    return pathlib.Path(FLAGS.output)


def evaluate(workdir, earlier, settings, classifiers):
    """Measures a run, unless it is measured."""
    from keras_genmodels.runs import evaluate as model_evaluation

    if earlier is not None:
        told = earlier["written"].replace("T", " ")
        print(f"{workdir} was evaluated before, by the same flags ({told}).")
        return earlier
    data = common_flags.data_of_run(workdir.read_flags(), FLAGS.data_dir)
    workdir.check_data(data.fingerprint())
    print(f"Evaluating {workdir}...", flush=True)
    return model_evaluation.evaluate(workdir, data, settings, classifiers)


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
