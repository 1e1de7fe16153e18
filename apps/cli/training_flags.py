"""The flags of every training app, and the run that they describe.

A flag whose name is an argument of `runs.train`, or of `training.fit.Options`,
is passed there.
"""

import dataclasses
import types

from absl import flags

from . import choices, data_flags, flag_types, guard
from . import config as config_lib

# Flags that run.json holds elsewhere than among the settings.
_NOT_SETTINGS = (
    "workdir",
    "dataset",
    "data_dir",
    "image_size",
    "validation_split",
    "white_level",
    "in_memory",
    "color",
    "patch_size",
    "patches_per_epoch",
    "smallest_scale",
    "binarization",
    "seed",
    "seeds",
    "epochs",
    # It chooses --sigma.
    "for",
    # A run may go on with other devices.
    "strategy",
    "tpu_address",
)
# Flags that also apply to a model that only adapts to the data.
_ALWAYS = ("workdir", "seed", "dtype_policy")


def define_flags(default_workdir, default_steps):
    """Defines the flags that every training app has, those of the data too.

    Args:
        default_workdir: default of --workdir.
        default_steps: steps of a run without --epochs, for the help.
    """
    data_flags.define_flags()
    flag_types.define_path("workdir", default_workdir, "Where results go.")
    flags.DEFINE_integer(
        "epochs",
        None,
        "Epochs in total, over all starts of the run (default: as many as "
        f"make {default_steps} steps, at least 20). A larger number extends a "
        "finished run; a cosine schedule then continues as in the longer run.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "batch_size",
        128,
        "Images per step, on all devices together.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "learning_rate",
        1e-3,
        "Learning rate of Adam, after the warm-up.",
        lower_bound=1e-12,
    )
    flags.DEFINE_integer(
        "learning_rate_warmup_steps",
        0,
        "Number of first steps over which the learning rate grows linearly "
        "from 0.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "gradient_clip_norm",
        0.0,
        "Clip the global norm of the gradients to this; 0 for no clipping. A "
        "few times the usual norm keeps one outlier batch from undoing a "
        "training.",
        lower_bound=0,
    )
    flags.DEFINE_enum(
        "learning_rate_schedule",
        "cosine",
        choices.LEARNING_RATE_SCHEDULES,
        "Cosine decay to zero over the run, or a constant learning rate.",
    )
    flags.DEFINE_float(
        "ema_momentum",
        None,
        "Momentum of the exponential moving average of the weights; 0 for no "
        "averaging (default: 0 with a cosine schedule, which gained nothing "
        "from it on the digits, else a horizon of a tenth of the run, at most "
        "1000 steps).",
        lower_bound=0,
        upper_bound=0.99999,
    )
    flags.DEFINE_integer(
        "early_stopping_patience",
        0,
        "Stop after this many epochs without a better validation loss; 0: "
        "never.",
        lower_bound=0,
    )
    flag_types.define_seed(
        "Seed of the initial weights, the data order and every draw."
    )
    flag_types.define_seeds(
        "seeds",
        "Make a run with each of these seeds in place of --seed, such as "
        "0,1,2: in seed_0, seed_1 and seed_2 of --workdir. The same command "
        "resumes them; evaluate --workdir gives mean and spread.",
    )
    flags.DEFINE_integer(
        "checkpoint_every",
        1000,
        "Steps between checkpoints; an interruption loses at most these.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "dtype_policy",
        "float32",
        ["float32", "float64", "mixed_bfloat16"],
        "Keras' dtype policy of the networks.",
    )
    flag_types.define_auto_or_bool(
        "jit_compile",
        "auto",
        "Compile the training step with XLA. auto: on a GPU, and on a CPU for "
        "networks without convolutions, where it was measured to be faster.",
    )
    flags.DEFINE_enum(
        "strategy",
        "auto",
        choices.STRATEGIES,
        "Devices of the training, by tf.distribute: all GPUs of this machine "
        "(mirrored), the workers that TF_CONFIG lists, or a TPU (untested). "
        "auto: multi_worker if TF_CONFIG lists several workers, mirrored if "
        "there are several GPUs that can share --batch_size equally. See "
        "docs/distributed.md.",
    )
    flags.DEFINE_string(
        "tpu_address",
        "",
        "Name or address of the TPU, 'local' on a TPU machine (default: the "
        "value of the environment variable TPU_NAME).",
    )
    flag_types.define_path(
        "init_from", None, "Start from the weights of this model.keras."
    )


def only_trained():
    """Lists the flags of `define_flags` that only apply to a training."""
    own = flags.FLAGS.flags_by_module_dict()[__name__]
    return [flag.name for flag in own if flag.name not in _ALWAYS]


def read(module):
    """Reads the flags of a training app.

    Args:
        module: `__name__` of the app's module.

    Returns:
        `Config`.

    Raises:
        WrongFlags: if flags contradict each other.
    """
    config = config_lib.Config.read(module)
    if config.early_stopping_patience and not config.validation_split:
        raise guard.WrongFlags(
            "--early_stopping_patience requires --validation_split above 0"
        )
    if config.seeds and "seed" in config.present:
        raise guard.WrongFlags("--seed excludes --seeds")
    if config.tpu_address and config.strategy != "tpu":
        raise guard.WrongFlags("--tpu_address requires --strategy=tpu")
    return config


def _build_strategy(config, only_adapts):
    from keras_genmodels.core.errors import user_errors
    from keras_genmodels.training import strategy

    with user_errors():
        if only_adapts:
            strategy.check_single_worker("this denoiser adapts to the data")
        return strategy.build(
            config.strategy,
            config.tpu_address,
            None if only_adapts else config.batch_size,
        )


def start_tensorflow(config, only_adapts=False):
    """Starts TensorFlow on the devices of --strategy, which it returns.

    Args:
        config: `Config`.
        only_adapts: whether the model only adapts to the data, which several
            workers cannot do together.
    """
    return guard.load_tensorflow(
        connect=lambda: _build_strategy(config, only_adapts)
    )


def train(build, config, load=data_flags.load, strategy=None):
    """Makes the run that the flags describe, or one for each of --seeds.

    Args:
        build: function of the `Config` and a `datasets.ImageDataset` that
            returns the untrained model; called after Keras' seed and dtype
            policy are set.
        config: `Config`.
        load: function of the `Config` that returns the data set.
        strategy: what `start_tensorflow` returned, if it was called before.
    """
    if strategy is None:
        strategy = start_tensorflow(config)
    from keras_genmodels.runs import seeds

    if not config.seeds:
        seeds.check_single(config.workdir)
        _train(build, config, load, strategy)
        return
    seeds.check_folder(config.workdir)
    for seed in config.seeds:
        workdir = str(seeds.workdir_of(config.workdir, seed))
        print(f"--seed={seed} --workdir={workdir}", flush=True)
        values = {"seed": seed, "seeds": None, "workdir": workdir}
        one = types.MappingProxyType({**config.values, **values})
        _train(build, dataclasses.replace(config, values=one), load, strategy)
    print(
        f"{len(config.seeds)} runs in {config.workdir}; mean and spread: "
        f"python -m apps.evaluate --workdir={config.workdir}"
    )


def _train(build, config, load, strategy):
    """Makes one run, by `runs.train`."""
    import keras

    from keras_genmodels import runs
    from keras_genmodels.core.errors import user_errors

    keras.config.set_dtype_policy(config.dtype_policy)
    keras.utils.set_random_seed(config.seed)
    data = load(config)
    with user_errors():
        model = build(config, data)
    given = {**config.values, "strategy": strategy}
    runs.train(
        model,
        data,
        config.workdir,
        **{
            name: given[name]
            for name in runs.arguments_for(model)
            if name in given
        },
        command=runs.Command(
            config.program,
            {k: v for k, v in config.values.items() if k not in _NOT_SETTINGS},
            dict(config.defaults),
        ),
        # Keras' own lines for --verbosity=0 (info) and more.
        verbose=2 if flags.FLAGS.verbosity >= 0 else 1,
    )
