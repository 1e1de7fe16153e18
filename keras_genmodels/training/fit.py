"""Trains a model; a run that is killed and repeated ends with equal weights.

The data order and every draw derive from (seed, step), and a checkpoint holds
everything else.
"""

import contextlib
import dataclasses
import functools
import math

import keras
import tensorflow as tf

from keras_genmodels.core import (
    allocator,
    batch_parts,
    deprecation,
    private_api,
    xla,
)
from keras_genmodels.core.self_supervised import SelfSupervised
from keras_genmodels.training import strategy as strategy_lib
from keras_genmodels.training.callbacks import (
    BestWeights,
    Interrupts,
    NonFiniteLoss,
    Pictures,
)
from keras_genmodels.training.checkpoints import Checkpoints, RunState
from keras_genmodels.training.errors import NotFiniteError, TrainingError
from keras_genmodels.training.progress import Progress
from keras_genmodels.training.workers import Workers

__all__ = [
    "NotFiniteError",
    "Options",
    "TrainingError",
    "compile_model",
    "fit",
    "is_trainable",
    "steps_per_epoch",
]

SCHEDULES = ("cosine", "constant")
_STEPS_PER_EXECUTION = 16


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train.

    Args:
        epochs: int, epochs in total, over all starts of the run.
        steps_per_epoch: int, training steps in an epoch.
        learning_rate: of Adam, > 0, after the warm-up.
        learning_rate_warmup_steps: int in [0, number of steps), over which the
            learning rate grows linearly from 0.
        gradient_clip_norm: largest global norm of the gradients of a step,
            which are scaled down to it; 0 for no clipping.
        learning_rate_schedule: "cosine" (decay to zero over the rest of the
            run) or "constant".
        ema_momentum: momentum in [0, 1) of the moving average of the weights;
            0 for no averaging. None: 0 with a cosine schedule, whose end
            averages too, else a horizon of a tenth of the run, at most 1000
            steps.
        early_stopping_patience: int, epochs without a better validation loss
            after which the run stops; 0 never stops early.
        checkpoint_every: int, steps between checkpoints.
        jit_compile: whether XLA compiles the step: a bool, or "auto" for
            `core.xla.should_compile`; False on several replicas, for which
            Keras cannot use it.
        strategy: a `tf.distribute.Strategy`, or a name for `strategy.build`:
            the devices of the training. Each of its replicas computes an
            equal part of a batch.

    Raises:
        ValueError: for a value out of range.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float = 1e-3
    learning_rate_warmup_steps: int = 0
    gradient_clip_norm: float = 0.0
    learning_rate_schedule: str = "cosine"
    ema_momentum: float | None = None
    early_stopping_patience: int = 0
    checkpoint_every: int = 1000
    jit_compile: str | bool = "auto"
    strategy: object = "auto"

    def __post_init__(self):
        momentum = self.ema_momentum
        warmup, steps = self.learning_rate_warmup_steps, self.num_steps
        rules = {
            "epochs": (self.epochs >= 1, ">= 1"),
            "steps_per_epoch": (self.steps_per_epoch >= 1, ">= 1"),
            "checkpoint_every": (self.checkpoint_every >= 1, ">= 1"),
            "early_stopping_patience": (
                self.early_stopping_patience >= 0,
                ">= 0",
            ),
            "learning_rate": (self.learning_rate > 0, "> 0"),
            "learning_rate_warmup_steps": (
                0 <= warmup < steps,
                f"in [0, {steps}), {steps} being the steps of the run",
            ),
            "learning_rate_schedule": (
                self.learning_rate_schedule in SCHEDULES,
                f"one of {SCHEDULES}",
            ),
            "gradient_clip_norm": (self.gradient_clip_norm >= 0, ">= 0"),
            "ema_momentum": (
                momentum is None or 0 <= momentum < 1,
                "None or in [0, 1)",
            ),
            "strategy": (
                self.strategy in strategy_lib.NAMES
                or isinstance(self.strategy, tf.distribute.Strategy),
                f"one of {strategy_lib.NAMES}, or a tf.distribute.Strategy",
            ),
        }
        for name, (is_right, allowed) in rules.items():
            if not is_right:
                raise ValueError(
                    f"{name} must be {allowed}, got {getattr(self, name)!r}"
                )
        xla.check(self.jit_compile)

    @property
    def num_steps(self):
        """Training steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def schedule(self):
        """`learning_rate_schedule`: deprecated."""
        deprecation.warn("schedule", "learning_rate_schedule")
        return self.learning_rate_schedule


Options.__init__ = deprecation.accept_old_arguments(
    {"schedule": "learning_rate_schedule"}
)(Options.__init__)


def fit(model, workdir, options, *, batches, validation, draw=None, verbose=1):
    """Trains a model, from the last checkpoint in the workdir if there is one.

    Args:
        model: an untrained Keras model that brings its own loss.
        workdir: a `Workdir`; checkpoints and TensorBoard events go there.
        options: an `Options`.
        batches: function of a step and a `core.batch_parts.Part` that returns
            an endless `tf.data.Dataset` of the arguments of `model.fit`, with
            that part of each batch, starting with that step. A batch must
            depend on its step alone. Replicas share it equally.
        validation: finite `tf.data.Dataset` that decides which epoch is the
            best, the same at each pass; None for the last epoch.
        draw: function of the model that returns a dict of uint8 pictures, and
            of floats, for TensorBoard.
        verbose: 1 prints the progress (a bar on a terminal, else about 20
            lines), 2 Keras' own line for each epoch, 0 nothing.

    Returns:
        dict: `epochs` and `steps` made, `best_epoch` (from 1),
        `validation_loss` (None without validation), `training_seconds`. The
        model has the weights of the best epoch, averaged if options say so.

    Raises:
        ValueError: for a strategy that is not there, and XLA on several
            replicas.
        NotFiniteError: if a loss or a weight is not finite; the checkpoint
            before that is kept.
        TrainingError: if there are checkpoints and none can be read, and if
            another worker ends.
        OSError: if the disk is full.
    """
    # Without it, a worker with a small network spends half of its time on a CPU
    # on receiving memory from the system.
    allocator.keep_freed_memory()
    strategy = strategy_lib.of_model(options.strategy, model)
    with Workers(strategy).raising_lost_workers():
        options = dataclasses.replace(options, strategy=strategy)
        return _train(
            model, workdir, options, batches, validation, draw, verbose
        )


def _train(model, workdir, options, batches, validation, draw, verbose):
    """Trains as `fit` does, with a strategy that is built."""
    strategy = options.strategy
    is_chief = Workers(strategy).is_chief
    verbose = verbose if is_chief else 0
    replicated = strategy_lib.replicate(model, strategy)
    compile_model(replicated, options)
    state = RunState(replicated)
    best = BestWeights(state, options.early_stopping_patience)
    checkpoints = Checkpoints(
        state,
        workdir.checkpoints,
        options.checkpoint_every,
        options.steps_per_epoch,
        strategy,
        _steps_per_execution(options),
    )
    step = checkpoints.restore()
    if step < options.num_steps and not best.exhausted:
        callbacks = [NonFiniteLoss(state), best, checkpoints]
        if is_chief:
            callbacks += _tensorboard(workdir.tensorboard, draw)
        data = _data(batches, step, replicated)
        _fit(state, options, data, validation, callbacks, verbose)
    if best.exhausted and verbose:
        print(
            f"Stopped early: no better validation loss for {best.patience} "
            f"epochs after epoch {int(state.best_epoch)}",
            flush=True,
        )
    # Also those of its copy on the replicas, if it is one.
    for each in {id(it): it for it in (replicated, model)}.values():
        each.set_weights(state.best_weights)
    return _report(state, options)


def _tensorboard(directory, draw):
    yield keras.callbacks.TensorBoard(directory, write_graph=False)
    if draw:
        yield Pictures(directory, draw)


def _data(batches, step, model):
    """Returns what `model.fit` takes, from the batch of a step on."""
    are_several = Workers(model.distribute_strategy).are_several
    # Of other models Keras divides whole batches.
    if are_several and isinstance(model, SelfSupervised):
        return batch_parts.PartialBatches(functools.partial(batches, step))
    return batches(step, batch_parts.WHOLE)


def _fit(state, options, data, validation, callbacks, verbose):
    """Calls Keras' `fit` so that it starts at the step of `state`."""
    model = state.model
    epoch, steps_done = divmod(state.step, options.steps_per_epoch)
    private_api.skip_training_calls(
        model, steps_done // model.steps_per_execution
    )
    interrupts = Interrupts()
    with interrupts.caught(), contextlib.ExitStack() as stack:
        if verbose == 1:
            progress = Progress(state, options.steps_per_epoch)
            stack.callback(progress.close)
            callbacks = [*callbacks, progress]
        model.fit(
            data,
            epochs=options.epochs,
            initial_epoch=epoch,
            steps_per_epoch=options.steps_per_epoch,
            validation_data=validation,
            callbacks=[interrupts, *callbacks],
            shuffle=False,
            verbose=2 if verbose == 2 else 0,
        )


def _report(state, options):
    best_loss = float(state.best_loss.numpy())
    return {
        "epochs": state.step // options.steps_per_epoch,
        "steps": state.step,
        "best_epoch": int(state.best_epoch.numpy()),
        "validation_loss": best_loss if math.isfinite(best_loss) else None,
        "training_seconds": round(float(state.seconds.numpy()), 1),
    }


def is_trainable(model):
    """Returns whether a Keras model brings a loss that `fit` can minimise."""
    return type(model).compute_loss is not keras.Model.compute_loss


def steps_per_epoch(num_examples, batch_size):
    """Returns the number of steps of an epoch, about one pass over the data.

    A large number is rounded to a multiple of 16, so that Keras can make 16
    steps in one execution; the next epoch continues with the data where this
    one ended.

    Raises:
        ValueError: if a batch is larger than the data.
    """
    if batch_size > num_examples:
        raise ValueError(
            f"batch_size={batch_size} is more than the {num_examples} training "
            "images: give a smaller one"
        )
    steps = round(num_examples / batch_size)
    if steps < 10 * _STEPS_PER_EXECUTION:
        return steps
    return _STEPS_PER_EXECUTION * round(steps / _STEPS_PER_EXECUTION)


def with_strategy(options, model, batch_size):
    """Returns options with a strategy, built if options only name one.

    Args:
        options: an `Options`.
        model: a Keras model.
        batch_size: int, images per step of all replicas together.

    Raises:
        ValueError: for a strategy that is not there, a batch that replicas
            cannot share equally, and XLA on several replicas.
    """
    strategy = strategy_lib.of_model(options.strategy, model, batch_size)
    if strategy.num_replicas_in_sync > 1:
        strategy_lib.check_batch_size(batch_size, strategy)
        strategy_lib.without_xla(options.jit_compile)
    return dataclasses.replace(options, strategy=strategy)


def compile_model(model, options):
    """Compiles a model as `fit` trains it.

    Args:
        model: a Keras model that brings its own loss.
        options: an `Options`.

    Raises:
        ValueError: for XLA on several replicas.
    """
    momentum = _ema_momentum(options)
    strategy = model.distribute_strategy
    several = strategy.num_replicas_in_sync > 1
    jit_compile = options.jit_compile
    if several:
        jit_compile = strategy_lib.without_xla(jit_compile)
    optimizer = private_api.ReplicatedAdam if several else keras.optimizers.Adam
    with strategy.scope():
        model.compile(
            optimizer(
                _learning_rate(options),
                global_clipnorm=options.gradient_clip_norm or None,
                use_ema=momentum > 0,
                ema_momentum=momentum,
            ),
            jit_compile=xla.resolve(jit_compile, model),
            # Keras' loop over several steps fails on several replicas.
            steps_per_execution=1 if several else _steps_per_execution(options),
        )


def _learning_rate(options):
    warmup = options.learning_rate_warmup_steps
    if not warmup and options.learning_rate_schedule == "constant":
        return options.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else options.learning_rate,
        options.num_steps - warmup,
        alpha=0.0 if options.learning_rate_schedule == "cosine" else 1.0,
        warmup_target=options.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def _ema_momentum(options):
    """Returns the momentum; by default 0 if the learning rate falls to 0."""
    if options.ema_momentum is not None:
        return options.ema_momentum
    if options.learning_rate_schedule == "cosine":
        return 0.0
    horizon = min(1000, max(2, options.num_steps / 10))
    return 1 - 1 / horizon


def _steps_per_execution(options):
    """Returns the largest divisor of an epoch that is not above 16."""
    most = min(_STEPS_PER_EXECUTION, options.checkpoint_every)
    return next(
        n for n in range(most, 0, -1) if options.steps_per_epoch % n == 0
    )
