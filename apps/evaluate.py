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

import contextlib
import dataclasses
import os
import pathlib
import tempfile

from absl import flags

from .cli import (
    flag_types,
    guard,
    merging,
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
    "each image. 5000 are usual in papers, and take ten times as long.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "num_density_images",
    16,
    "With denoisers: number of test images whose log p(x) is computed; each "
    "takes a few hundred evaluations of the denoiser.",
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
        evaluate_and_report(config, output, OfPictures(config))
    else:
        evaluate_and_report(config, output, OfTestImages(config))


def settings_of(config):
    """Returns the `Settings` of the flags."""
    from keras_genmodels.runs.evaluate import Settings

    return Settings(
        config.num_images,
        config.num_samples,
        config.seed,
        num_density_images=config.num_density_images,
    )


def evaluate_shard(config, output):
    """Writes the numbers of the test images of --shard."""
    from keras_genmodels.core import files
    from keras_genmodels.runs import evaluate as model_evaluation
    from keras_genmodels.runs.workdir import Workdir

    runs_of(config)
    workdir, settings = Workdir(config.workdir[0]), settings_of(config)
    check_families(config, [model_evaluation.is_latent(workdir)])
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


def read_shards(config, workdir):
    """Returns the numbers of the files of --merge, None without it."""
    from keras_genmodels.runs import evaluate as model_evaluation

    if config.merge is None:
        return None
    archives = [(path, merging.read(path)) for path in config.merge]
    merging.check_shards(archives)
    path, first = archives[0]
    job = first.get(shard_flag.JOB)
    if job is None or job != shard_flag.checksum(config, workdir.model):
        raise guard.WrongFlags(
            f"--merge: {path} is no shard of the evaluation of this model "
            "with these flags by this version"
        )
    return model_evaluation.join_shards([arrays for _, arrays in archives])


class OfTestImages:
    """The evaluation on the test images of the runs.

    Args:
        config: `Config`.
    """

    def __init__(self, config):
        self._config = config
        self._settings = settings_of(config)

    def read_all(self, workdirs):
        """Returns the evaluations that are up to date; None for the others."""
        from keras_genmodels.runs.evaluate import is_latent, read_current

        found = [read_current(workdir, self._settings) for workdir in workdirs]
        latent = [is_latent(workdir) for workdir in workdirs]
        check_families(self._config, latent)
        self._computed = read_shards(self._config, workdirs[0])
        return found

    def evaluate(self, workdir, classifiers):
        """Evaluates a run; the folder of classifiers is that of all runs."""
        from keras_genmodels.runs.evaluate import evaluate

        data = workdir.read_run().load_data(self._config.data_dir)
        print(f"Evaluating {workdir}...", flush=True)
        return evaluate(
            workdir, data, self._settings, classifiers, self._computed
        )


class OfPictures:
    """The evaluation on the pictures of --input.

    Args:
        config: `Config`.
    """

    def __init__(self, config):
        self._settings = picture_flags.settings_of(config)

    def read_all(self, workdirs):
        """Returns the evaluations that are up to date; None for the others."""
        from keras_genmodels.runs import evaluate_pictures

        found = [
            evaluate_pictures.read_current(workdir, self._settings)
            for workdir in workdirs
        ]
        # Before the first one, which is checked as it starts, takes minutes.
        for workdir, earlier in zip(workdirs[1:], found[1:], strict=True):
            if earlier is None:
                evaluate_pictures.check(workdir, self._settings)
        return found

    def evaluate(self, workdir, classifiers):
        """Evaluates a run; there are no classifiers of pictures."""
        from keras_genmodels.runs import evaluate_pictures

        print(f"Evaluating {workdir}...", flush=True)
        return evaluate_pictures.evaluate(workdir, self._settings)


def evaluate_and_report(config, output, kind):
    """Evaluates each run, prints a table and writes the report.

    Args:
        config: `Config`.
        output: pathlib.Path of the report.
        kind: `OfTestImages` or `OfPictures`.
    """
    from keras_genmodels.reports import page
    from keras_genmodels.reports import tables as evaluation_tables
    from keras_genmodels.runs import seeds
    from keras_genmodels.runs.workdir import Workdir

    groups = runs_of(config)
    workdirs = [
        workdir
        for path, group in groups.items()
        for workdir in group or [Workdir(path)]
    ]
    check_distinct([str(workdir) for workdir in workdirs])
    # Now, as an evaluation takes minutes.
    kept = [
        path
        for path, group in groups.items()
        if group and not config.input and is_writable(path, output)
    ]
    # All of them first: a missing run ends the app before minutes pass.
    earlier = kind.read_all(workdirs)
    with contextlib.ExitStack() as stack:
        places = [writable(workdir, output, stack) for workdir in workdirs]
        classifiers = places[0].path / "classifiers"
        runs = [
            page.read(place, evaluate(kind, place, found, classifiers))
            for place, found in zip(places, earlier, strict=True)
        ]
    runs = [
        dataclasses.replace(run, path=str(workdir))
        for run, workdir in zip(runs, workdirs, strict=True)
    ]
    page.write(output, with_other_sections(runs))
    evaluations = {
        name: run.evaluation for name, run in page.named(runs).items()
    }
    for warning in evaluation_tables.warnings(evaluations):
        print(f"{warning}\n")
    shown = seeds.averages(groups, evaluations)
    write_averages(groups, shown, kept)
    tables = evaluation_tables.tables(shown)
    short = [it for it in tables if len(it.rows) <= _MOST_ROWS]
    print(evaluation_tables.as_text(short))
    for table in tables:
        if table not in short:
            print(f"\n{table.title}: {len(table.rows)} rows in {output}")
    print(f"\n{len(runs)} run{'s' * (len(runs) > 1)} in {output}")


def with_other_sections(runs):
    """Adds to a single run what else was measured of its model."""
    from keras_genmodels.runs.evaluate_pictures import with_other_sections

    if len(runs) > 1:
        return runs
    found = with_other_sections(runs[0].metrics, runs[0].evaluation)
    return [dataclasses.replace(runs[0], evaluation=found)]


def check_flags(config):
    """Checks the flags; returns the path of the report."""
    check_distinct(config.workdir)
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


def check_families(config, latent):
    """Checks that some run uses each flag of one family of models."""
    for name, is_used, family in (
        ("num_samples", any(latent), "latent-variable model"),
        ("num_density_images", not all(latent), "denoiser"),
    ):
        if name in config.present and not is_used:
            raise guard.WrongFlags(f"--{name} requires a {family}")


def check_distinct(paths):
    """Checks that no run is named twice."""
    if len({*paths}) < len(paths):
        raise guard.WrongFlags("--workdir names a run twice: name each once")


def runs_of(config):
    """Returns a dict of each --workdir to its runs of seeds, if it has such."""
    from keras_genmodels.runs import seeds

    groups = {path: seeds.runs_in(path) for path in config.workdir}
    for group in groups.values():
        seeds.check_alike(group)
    if config.shard or config.merge:
        for path, group in groups.items():
            if group:
                raise guard.WrongFlags(
                    f"--shard and --merge take a single run, and {path} holds "
                    f"those of several seeds: give one, such as {group[0]}"
                )
    return groups


def write_averages(groups, shown, kept):
    """Writes the averages of folders of runs of several seeds.

    Args:
        groups: dict from `runs_of`.
        shown: dict from `seeds.averages`.
        kept: paths of the folders to whose metrics.json averages are written;
            those of pictures are printed only.
    """
    from keras_genmodels.runs import seeds

    for path, average in zip(groups, shown.values(), strict=True):
        if path in kept:
            seeds.write(path, average)
            print(f"Mean and spread over {len(groups[path])} runs in {path}")


def is_writable(folder, output):
    """Returns whether a folder can be written to, unlike `output` if not."""
    if os.access(folder, os.W_OK):
        return True
    if output.parent.resolve() == pathlib.Path(folder).resolve():
        raise guard.WrongFlags(
            f"{folder} cannot be written to: give --output in another folder"
        )
    return False


def writable(workdir, output, stack):
    """Returns a run, or a temporary copy of one that cannot be written to."""
    from keras_genmodels.runs import evaluate as model_evaluation

    if is_writable(workdir.path, output):
        return workdir
    print(f"{workdir} cannot be written to: the results are in {output} only.")
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return model_evaluation.copy(workdir, folder)


def evaluate(kind, workdir, earlier, classifiers):
    """Evaluates a run, unless its evaluation is up to date."""
    if earlier is None:
        return kind.evaluate(workdir, classifiers)
    date = earlier["written"].replace("T", " ")
    print(f"{workdir} was evaluated before, with the same flags ({date}).")
    return earlier


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
