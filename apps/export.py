"""Exports a trained model for TensorFlow Serving, or checks an export.

  python -m apps.export --workdir=DIR --name=vae
  python -m apps.export --check=saved_models/vae/1 --workdir=DIR

The first command writes <export_dir>/<name>/<next integer>/, a SavedModel that
loads without this package, and models.config and batching.config in
<export_dir>. It prints the signatures and the commands that start TensorFlow
Serving, and takes about 10 seconds; so does --check, or a minute for a
convolutional denoiser.

--check loads a version with TensorFlow's C++ loader in a process without
TensorFlow's Python, Keras or TFP, replays its warm-up records, compares every
signature at batch sizes 1, 3 and 257 with TensorFlow's Python loader and, with
--workdir, with the model, and sends wrong inputs, which must be refused. It
does not run the tensorflow_model_server binary.
"""

from absl import flags

from .cli import choices, flag_types, guard
from .cli.config import Config

flag_types.define_path("workdir", None, "Folder of a finished run.")
guard.define_import_flag()
flags.DEFINE_string(
    "name",
    None,
    "The model's name on the server: letters, digits, _, . and -, not digits "
    "only.",
)
flag_types.define_path(
    "export_dir", "saved_models", "Folder of all exported models."
)
flags.DEFINE_string(
    "serving_root",
    None,
    "Absolute path of --export_dir on the server, such as /models, for all "
    "models in models.config (default: the path on this machine).",
)
flags.DEFINE_bool(
    "jit_compile",
    False,
    "Compile with XLA, which a stock server refuses on a CPU.",
)
flags.DEFINE_bool("warmup", True, "Write warm-up records.")
flags.DEFINE_integer(
    "max_rows",
    None,
    "Maximum number of rows of a request (default: 1024; 64 for images of any "
    "size).",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
# The settings of one family of models: None leaves the default to the export.
flags.DEFINE_integer(
    "num_samples",
    None,
    "VAE: number of importance samples of log_likelihood (default: 100).",
    lower_bound=1,
    upper_bound=10**6,
)
flags.DEFINE_float(
    "step_size",
    None,
    "Denoiser: step size of restore, in (0, 2) (default: 0.1; for images of "
    "any size 1, which denoises once, unless --max_steps or --tolerance is "
    "given).",
)
flags.DEFINE_integer(
    "max_steps",
    None,
    "Denoiser: maximum number of steps of restore, and of a request to "
    "restore_with (default: 100).",
    lower_bound=1,
    upper_bound=10**6,
)
flags.DEFINE_integer(
    "max_pixels",
    None,
    "Denoiser of images of any size: maximum number of pixels of an image, "
    "height times width (default: 1048576). The server refuses larger ones, "
    "and denoises no more pixels at a time.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
flags.DEFINE_float(
    "tolerance",
    None,
    "Denoiser: restore stops once the root mean square of D(x) - x is at most "
    "this (default: 1e-3).",
    lower_bound=0,
)
flags.DEFINE_enum(
    "solver",
    None,
    choices.SOLVERS,
    "Denoiser that receives sigma: solver of generate (default: dpmpp_2m).",
)
flags.DEFINE_enum(
    "schedule",
    None,
    choices.NOISE_SCHEDULES,
    "Denoiser that receives sigma: noise levels of generate (default: "
    "geometric).",
)
flags.DEFINE_integer(
    "num_steps",
    None,
    "Denoiser: number of evaluations of generate (default: 20; heun: 19, or 20 "
    "for one of latents), or their maximum if it does not receive sigma "
    "(default: 100), and a fifth of the limit of a request to generate_with.",
    lower_bound=1,
    upper_bound=10**5,
)
flags.DEFINE_float(
    "stochasticity",
    None,
    "Denoiser: amount of noise that generate adds in each step, in [0, 1) "
    "(default: 0).",
    lower_bound=0,
    upper_bound=0.999,
)
flag_types.define_path(
    "check", None, "Check this version, <export_dir>/<name>/<integer>."
)

_SETTINGS = (
    "jit_compile",
    "max_rows",
    "num_samples",
    "step_size",
    "max_steps",
    "max_pixels",
    "tolerance",
    "solver",
    "schedule",
    "num_steps",
    "stochasticity",
)
_OF_EXPORT = ("name", "export_dir", "serving_root", "warmup", *_SETTINGS)


def main():
    """Exports, or checks."""
    config = Config.read(__name__)
    if config.check:
        config.forbid(_OF_EXPORT, "an export (no --check)")
        check_version(config)
    else:
        check_flags(config)
        export_model(config)


def check_flags(config):
    """Checks the flags of an export, before anything is loaded."""
    for name in ("workdir", "name"):
        if not config.values[name]:
            raise guard.WrongFlags(f"--{name} is needed, or --check")
    if config.serving_root and not config.serving_root.startswith("/"):
        raise guard.WrongFlags(
            f"--serving_root={config.serving_root} must be an absolute path, "
            "such as /models"
        )
    if config.step_size is not None and not 0 < config.step_size < 2:
        raise guard.WrongFlags(
            f"--step_size must be in (0, 2), got {config.step_size}"
        )


def export_model(config):
    """Exports the model of --workdir, and prints how to serve it."""
    guard.load_tensorflow(config.import_module)
    from keras_genmodels.export import check_name, export, summary
    from keras_genmodels.runs.workdir import Workdir

    check_name(config.name)
    workdir = Workdir(config.workdir)
    model = workdir.load_model()
    metrics = workdir.read_metrics() or {}
    # The evaluations are long, and clients do not read them.
    for name in ("evaluation", "pictures"):
        metrics.pop(name, None)
    version = export(
        model,
        config.export_dir,
        config.name,
        serving_root=config.serving_root,
        metrics=metrics,
        warmup=config.warmup,
        **{name: config.values[name] for name in _SETTINGS},
    )
    print(summary.summary(version, config.serving_root))


def check_version(config):
    """Checks --check and prints the result.

    Raises:
        UserError: for the first problem.
    """
    guard.load_tensorflow(config.import_module)
    from keras_genmodels.core.errors import UserError
    from keras_genmodels.export.check import check_version as check
    from keras_genmodels.runs.workdir import Workdir

    model = Workdir(config.workdir).load_model() if config.workdir else None
    report = check(config.check, model)
    print(report.table)
    if report.problems:
        more = len(report.problems) - 1
        raise UserError(
            f"{config.check}: {report.problems[0]}"
            f"{f', and {more} more' if more else ''}; export it again"
        )
    print("No problems found.")


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
