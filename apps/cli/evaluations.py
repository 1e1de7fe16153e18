"""What `apps.evaluate` measures: the test images of runs, or pictures."""

from . import guard, merging, picture_flags, shard_flag

# Flags that some kinds of models have no use for.
_OF_SOME_KINDS = ("num_samples", "num_density_images")
# The kind of runs that also take pictures.
_DENOISER = "DenoisingAutoencoder"
# Arguments of the evaluation on pictures that are flags.
_ARGUMENTS = ("estimate_sigma", "max_pixels", "peers", "white_level")


def settings_of(config):
    """Returns the `Settings` of the flags."""
    from keras_genmodels.runs.evaluate import Settings

    return Settings(
        config.num_images,
        config.num_samples,
        config.seed,
        num_density_images=config.num_density_images,
    )


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
        from keras_genmodels.runs.evaluate import read_current

        found = [read_current(workdir, self._settings) for workdir in workdirs]
        check_used(self._config, workdirs)
        self._computed = read_shards(self._config, workdirs[0])
        return found

    def evaluate(self, workdir, classifiers):
        """Evaluates a run; the folder of classifiers is that of all runs."""
        from keras_genmodels.runs.evaluate import evaluate

        run = workdir.read_run()
        data = run.load_data(self._config.data_dir)
        print(f"Evaluating {workdir}...", flush=True)
        if run.kind == _DENOISER and run.source and run.source.patch_size:
            print(
                "Its test images are patches; --input=skimage, or a folder of "
                "pictures, measures whole ones."
            )
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
                with guard.naming_flags(*_ARGUMENTS):
                    evaluate_pictures.check(workdir, self._settings)
        return found

    def evaluate(self, workdir, classifiers):
        """Evaluates a run; there are no classifiers of pictures."""
        from keras_genmodels.runs import evaluate_pictures

        print(f"Evaluating {workdir}...", flush=True)
        with guard.naming_flags(*_ARGUMENTS):
            return evaluate_pictures.evaluate(workdir, self._settings)


def check_used(config, workdirs):
    """Checks that each flag of some kinds of models has an effect on a run."""
    from keras_genmodels.runs.evaluate import unused_settings

    reasons = {name: {} for name in _OF_SOME_KINDS if name in config.present}
    asked = {"num_samples": config.num_samples}
    asked = asked if "num_samples" in reasons else {}
    for workdir in workdirs:
        if not reasons:  # So that models are not loaded for nothing.
            return
        unused = unused_settings(workdir, **asked)
        reasons = {
            name: {**earlier, unused[name]: workdir}
            for name, earlier in reasons.items()
            if name in unused
        }
    for name, of_runs in reasons.items():
        # One run for each reason, of possibly many seeds.
        listed = "; ".join(f"{run}: {why}" for why, run in of_runs.items())
        others = ", nor on the others" if len(workdirs) > len(of_runs) else ""
        raise guard.WrongFlags(f"--{name} has no effect on {listed}{others}")


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
