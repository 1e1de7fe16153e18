"""Evaluates finished runs of any kind of model, and writes a report.

  python -m apps.evaluate --workdir=DIR
  python -m apps.evaluate --workdir=A --workdir=B --output=compare.html
  python -m apps.evaluate --workdir=DIR_OF_SEEDS
  python -m apps.evaluate --workdir=DIR --shard=3/16
  python -m apps.evaluate --workdir=DIR --merge=FIRST.npz,SECOND.npz
  python -m apps.evaluate --workdir=DIR --input=PICTURES

An `evaluation` is added to the run's metrics.json, every number with its
standard error and its meaning. The report, report.html of the run, is one
self-contained page of settings, training curves, numbers and figures; several
runs are shown side by side, with their differences first. A run that was
evaluated before, with the same flags, is not evaluated again. A VAE of the
digits takes 26 seconds on two cores.

Of a folder with runs of several --seeds, the mean and the spread of each number
over the runs are printed and written to its metrics.json, and the report shows
the runs side by side.

With --shard only numbers that are averages over test images are computed (the
likelihood of a latent-variable model; denoising and density of a denoiser), for
a part of the images. They are written to an .npz file and nothing else of the
run changes. --merge takes them from these files and measures all the rest.

With --input a denoiser of images of any size is measured on pictures instead,
each at its own size: PSNR and SSIM at some noise levels, on average and of each
picture, next to those of classical denoisers. They become `pictures` in
metrics.json.
"""

import dataclasses
import pathlib

from absl import flags

from .cli import (
    evaluated_runs,
    evaluations,
    flag_types,
    guard,
    output_flag,
    picture_flags,
    shard_flag,
)
from .cli.config import Config

flag_types.define_paths(
    "workdir",
    ["runs/vae"],
    "A finished run of train_vae, train_cvae, train_hvae or train_dae, or the "
    "folder of runs of several --seeds; repeat the flag to show several side "
    "by side.",
)
flag_types.define_path(
    "data_dir",
    None,
    "Folder of the runs' data set, if it has moved.",
    remote="gs",
)
flags.DEFINE_integer(
    "num_images",
    1000,
    "Number of test images, the first ones, and of samples, at least 20. It "
    "bounds the time; the digits have 360. With --input: number of pictures, "
    "the first ones (default: all).",
    lower_bound=1,
)
flags.DEFINE_integer(
    "num_samples",
    500,
    "With latent-variable models: draws of the importance-weighted bound for "
    "each image (with a denoiser as prior 25, of 200 images at most). 5000 are "
    "usual in papers, and take ten times as long.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "num_density_images",
    16,
    "With denoisers that generate and receive sigma: number of test images "
    "whose log p(x) is computed; each takes a few hundred evaluations of the "
    "denoiser.",
    lower_bound=1,
)
picture_flags.define_flags()
flag_types.define_seed("Seed of all draws.")
guard.define_import_flag()
flag_types.define_path(
    "output",
    None,
    "The .html file; required with several runs (default: report.html of the "
    "run). With --shard an .npz file (default: evaluation_INDEX_of_COUNT.npz "
    "of the run).",
)
shard_flag.define_flag("the test images, of one run")
flag_types.define_path_list(
    "merge",
    None,
    "Files of all shards of the same run and flags, in order, instead of "
    "computing their numbers anew.",
)

# Flags that have no meaning for pictures.
_NOT_OF_PICTURES = ["shard", "merge", "data_dir"]
_NOT_OF_PICTURES += ["num_samples", "num_density_images"]
# Of test images.
_LEAST_IMAGES = 20
# Rows of a table that is printed as a whole.
_MOST_ROWS = 100


def main():
    """Evaluates runs and reports on them, or evaluates a shard."""
    config = Config.read(__name__)
    output = check_flags(config)
    guard.load_tensorflow(config.import_module)
    if config.shard:
        evaluate_shard(config, output)
    elif config.input:
        evaluate_and_report(config, output, evaluations.OfPictures(config))
    else:
        evaluate_and_report(config, output, evaluations.OfTestImages(config))


def evaluate_shard(config, output):
    """Writes the numbers of the test images of --shard."""
    from keras_genmodels.core import files
    from keras_genmodels.runs import evaluate as model_evaluation
    from keras_genmodels.runs.workdir import Workdir

    evaluated_runs.runs_of(config)
    workdir = Workdir(config.workdir[0])
    settings = evaluations.settings_of(config)
    evaluations.check_used(config, [workdir])
    data = workdir.read_run().load_data(config.data_dir)
    num_images = min(settings.num_images, len(data.test.images))
    part = shard_flag.part_of(config, num_images, batch_size=1)
    arrays = model_evaluation.evaluate_shard(
        workdir, data, settings, config.shard.divide
    )
    extra = shard_flag.arrays_of(config, part, workdir.model)
    files.write_arrays(output, **arrays, **extra)
    sections = dict.fromkeys(name.partition("/")[0] for name in arrays)
    print(
        f"{shard_flag.title(config)}{', '.join(sections)} of test images "
        f"{part.rows.start} to {part.rows.stop - 1} of {num_images} in "
        f"{output}; all else is left to --merge"
    )


def evaluate_and_report(config, output, kind):
    """Evaluates each run, prints a table and writes the report.

    Args:
        config: `Config`.
        output: pathlib.Path of the report.
        kind: `OfTestImages` or `OfPictures` of `evaluations`.
    """
    from keras_genmodels.reports import page, tables
    from keras_genmodels.runs import seeds

    groups = evaluated_runs.runs_of(config)
    # Now, as an evaluation takes minutes. Averages of pictures are printed.
    kept = [
        path
        for path, group in groups.items()
        if group
        and not config.input
        and evaluated_runs.is_writable(path, output)
    ]
    runs = evaluated_runs.evaluate_all(groups, kind, output)
    page.write(output, with_other_sections(runs))
    found = {name: run.evaluation for name, run in page.named(runs).items()}
    for warning in tables.warnings(found):
        print(f"{warning}\n")
    shown = seeds.averages(groups, found)
    evaluated_runs.write_averages(groups, shown, kept)
    print_tables(tables.tables(shown), output)
    print(f"\n{len(runs)} run{'s' * (len(runs) > 1)} in {output}")


def with_other_sections(runs):
    """Adds to a single run what else was measured of its model."""
    from keras_genmodels.runs.evaluate_pictures import with_other_sections

    if len(runs) > 1:
        return runs
    found = with_other_sections(runs[0].metrics, runs[0].evaluation)
    return [dataclasses.replace(runs[0], evaluation=found)]


def print_tables(tables, output):
    """Prints tables, and of long ones where they are."""
    from keras_genmodels.reports.tables import as_text

    short = [table for table in tables if len(table.rows) <= _MOST_ROWS]
    print(as_text(short))
    for table in tables:
        if table not in short:
            print(f"\n{table.title}: {len(table.rows)} rows in {output}")


def check_flags(config):
    """Checks the flags; returns the path of the report."""
    evaluated_runs.check_distinct(config.workdir)
    picture_flags.check(config, _NOT_OF_PICTURES)
    if config.input is None and config.num_images < _LEAST_IMAGES:
        raise guard.WrongFlags(
            f"--num_images={config.num_images} must be at least "
            f"{_LEAST_IMAGES} without --input"
        )
    if config.shard and config.merge:
        raise guard.WrongFlags("--shard excludes --merge")
    if (config.shard or config.merge) and len(config.workdir) > 1:
        raise guard.WrongFlags("--shard and --merge take a single --workdir")
    if config.shard:
        return output_flag.path(config, "evaluation.npz", (".npz",))
    if config.output is None:
        if len(config.workdir) > 1:
            raise guard.WrongFlags(
                "several --workdir require --output, such as compare.html"
            )
        return pathlib.Path(config.workdir[0], "report.html")
    if not config.output.endswith(".html"):
        raise guard.WrongFlags(f"--output={config.output} must end in .html")
    return pathlib.Path(config.output)


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
