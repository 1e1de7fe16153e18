"""Exports a trained model for TensorFlow Serving, or checks an export.

  python -m apps.export --workdir=DIR --name=vae
  python -m apps.export --check=saved_models/vae/1 --workdir=DIR

The first writes <export_dir>/<name>/<next integer>/, a SavedModel that loads
without this package, and beside the models models.config and batching.config;
it prints the signatures and the lines that start TensorFlow Serving. That
takes about 10 seconds, and --check as long, or a minute for a denoiser of
convolutions.

--check loads a version by TensorFlow's own C++ loader in a process without
TensorFlow's Python, Keras or TFP, replays its warm-up records, compares every
signature at batch sizes 1, 3 and 257 with TensorFlow's Python loader and, with
--workdir, with the model, and sends wrong inputs, which have to be refused. It
is not the tensorflow_model_server binary.
"""

from absl import flags

from .cli import flag_types, guard

FLAGS = flags.FLAGS

flag_types.define_path("workdir", None, "A finished run.")
flags.DEFINE_string(
    "name",
    None,
    "The model's name on the server: letters, digits, _, . and -, not digits "
    "alone.",
)
flag_types.define_path("export_dir", "saved_models", "Of all exports.")
flags.DEFINE_string(
    "serving_root",
    None,
    "Absolute path of --export_dir where the server runs, such as /models "
    "(default: where it is here). models.config gets it for all models.",
)
flags.DEFINE_bool(
    "jit_compile",
    False,
    "Compile with XLA, which a stock server refuses on a CPU.",
)
flags.DEFINE_bool("warmup", True, "Write warm-up records.")
flags.DEFINE_integer(
    "max_rows",
    1024,
    "The most rows of a request.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer(
    "num_samples",
    100,
    "Of a VAE: draws that log_likelihood weighs for each image.",
    lower_bound=1,
    upper_bound=10**6,
)
flags.DEFINE_float(
    "step_size", 0.1, "Of a denoiser: of restore's loop, in (0, 2)."
)
flags.DEFINE_integer(
    "max_steps",
    100,
    "Of a denoiser: the most steps of restore, and that restore_with may be "
    "asked for.",
    lower_bound=1,
    upper_bound=10**6,
)
flags.DEFINE_float(
    "tolerance",
    1e-3,
    "Of a denoiser: restore stops where the root mean square of D(x) - x is "
    "at most that.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "num_steps",
    100,
    "Of a denoiser: steps of generate's walk.",
    lower_bound=1,
    upper_bound=10**5,
)
flags.DEFINE_float(
    "stochasticity",
    0.0,
    "Of a denoiser: how much noise generate puts back, in [0, 1).",
    lower_bound=0,
    upper_bound=0.999,
)
flag_types.define_path(
    "check", None, "Check this version, <export_dir>/<name>/<integer>."
)

_OF_VAE = ("num_samples",)
_OF_DENOISER = (
    "step_size",
    "max_steps",
    "tolerance",
    "num_steps",
    "stochasticity",
)
_OF_EXPORT = (
    "name",
    "export_dir",
    "serving_root",
    "jit_compile",
    "warmup",
    "max_rows",
    *_OF_VAE,
    *_OF_DENOISER,
)


def main():
    """Exports, or checks."""
    if FLAGS.check:
        guard.forbid_flags(_OF_EXPORT, "exporting (no --check)")
        check_version()
    else:
        check_flags()
        export_model()


def check_flags():
    """Refuses what can't be exported, before anything is loaded."""
    for name in ("workdir", "name"):
        if not FLAGS[name].value:
            raise guard.WrongFlags(f"--{name} is needed, or --check")
    if FLAGS.serving_root and not FLAGS.serving_root.startswith("/"):
        raise guard.WrongFlags(
            f"--serving_root={FLAGS.serving_root} must be an absolute path, "
            "such as /models"
        )
    if not 0 < FLAGS.step_size < 2:
        raise guard.WrongFlags(
            f"--step_size must be in (0, 2), got {FLAGS.step_size}"
        )


def export_model():
    """Exports the model of --workdir, and tells how to serve it."""
    guard.load_tensorflow()
    from keras_genmodels.export import check_name, export, summary
    from keras_genmodels.runs.workdir import Workdir

    check_name(FLAGS.name)
    workdir = Workdir(FLAGS.workdir)
    model = workdir.load_model()
    # Its evaluation is long, and no client reads it.
    metrics = workdir.read_metrics() or {}
    metrics.pop("evaluation", None)
    version = export(
        model,
        FLAGS.export_dir,
        FLAGS.name,
        serving_root=FLAGS.serving_root,
        metrics=metrics,
        warmup=FLAGS.warmup,
        max_rows=FLAGS.max_rows,
        jit_compile=FLAGS.jit_compile,
        **settings_for(model),
    )
    print(summary.summary(version, FLAGS.serving_root))


def settings_for(model):
    """Gives the flags that go with the kind of model; refuses the others."""
    from keras_genmodels.denoisers import Denoiser

    own, others, whose = _OF_VAE, _OF_DENOISER, "a denoiser"
    if isinstance(model, Denoiser):
        own, others, whose = others, own, "a VAE"
    guard.forbid_flags(others, whose)
    return {name: FLAGS[name].value for name in own}


def check_version():
    """Checks --check and prints what was found.

    Raises:
        UserError: if something is not as it should be.
    """
    guard.load_tensorflow()
    from keras_genmodels.core.errors import UserError
    from keras_genmodels.export.check import check_version as check
    from keras_genmodels.runs.workdir import Workdir

    model = Workdir(FLAGS.workdir).load_model() if FLAGS.workdir else None
    report = check(FLAGS.check, model)
    print(report.table)
    if report.problems:
        more = len(report.problems) - 1
        raise UserError(
            f"{FLAGS.check}: {report.problems[0]}"
            f"{f', and {more} more' if more else ''}; export it again"
        )
    print("All is as it should be.")


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
