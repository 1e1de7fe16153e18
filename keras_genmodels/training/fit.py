"""(model, batches, workdir) in, a fitted model out; stoppable at any moment.

Data order and every draw derive from (seed, step), and a checkpoint holds all
the rest, so that a run that is killed and started again ends with the weights
of a run that was not.
"""

import dataclasses
import math

import keras

from keras_genmodels.core import xla
from keras_genmodels.core.errors import UserError
from keras_genmodels.training.callbacks import (
    BestWeights,
    Checkpoints,
    Interrupts,
    NonFiniteLoss,
    Pictures,
    RunState,
)

_STEPS_PER_EXECUTION = 16


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train.

    Args:
        epochs: how many epochs in all, over all starts of the run.
        steps_per_epoch: training steps in an epoch.
        learning_rate: of Adam, > 0, after the warm-up.
        learning_rate_warmup_steps: first steps, over which the learning rate
            grows linearly from 0, >= 0 and fewer than the run has.
        gradient_clip_norm: the gradients of a step are scaled down together,
            so that their norm over all weights is at most this; 0 never does.
        learning_rate_schedule: "cosine" (to zero over the rest of the run) or
            "constant".
        ema_momentum: of the weights' average, in [0, 1); 0 for none. None:
            none with a cosine schedule, which ends in an average of its own,
            else a horizon of a tenth of the run, at most 1000 steps.
        early_stopping_patience: stop after so many epochs without a better
            validation loss; 0 never stops early.
        checkpoint_every: steps between checkpoints.
        jit_compile: whether XLA compiles the step: a bool, or "auto" for
            `core.xla.should_compile`.
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

    def __post_init__(self):
        for name in ("epochs", "steps_per_epoch", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be >= 1, got {getattr(self, name)}"
                )
        if not self.learning_rate > 0:
            raise ValueError(
                f"learning_rate must be > 0, got {self.learning_rate}"
            )
        if not 0 <= self.learning_rate_warmup_steps < self.num_steps:
            raise UserError(
                "learning_rate_warmup_steps must be in [0, the run's "
                f"{self.num_steps} steps), got "
                f"{self.learning_rate_warmup_steps}"
            )
        if not self.gradient_clip_norm >= 0:
            raise ValueError(
                "gradient_clip_norm must be >= 0, got "
                f"{self.gradient_clip_norm}"
            )
        if self.learning_rate_schedule not in ("cosine", "constant"):
            raise ValueError(
                "learning_rate_schedule must be cosine or constant, got "
                f"{self.learning_rate_schedule!r}"
            )
        if self.jit_compile not in ("auto", True, False, "true", "false"):
            raise ValueError(
                'jit_compile must be "auto", True or False, got '
                f"{self.jit_compile!r}"
            )
        if self.ema_momentum is not None and not 0 <= self.ema_momentum < 1:
            raise ValueError(
                f"ema_momentum must be in [0, 1), got {self.ema_momentum}"
            )
        if self.early_stopping_patience < 0:
            raise ValueError(
                "early_stopping_patience must be >= 0, got "
                f"{self.early_stopping_patience}"
            )

    @property
    def num_steps(self):
        """Training steps of the whole run."""
        return self.epochs * self.steps_per_epoch


def fit(model, workdir, options, *, batches, validation, draw=None, verbose=1):
    """Trains a model, going on from the workdir's last checkpoint.

    Args:
        model: an untrained Keras model that brings its own loss.
        workdir: a `Workdir`; checkpoints and TensorBoard events go there.
        options: an `Options`.
        batches: function of a step, gives an endless `tf.data.Dataset` of
            what `model.fit` takes, from that step on; batch and step alone
            must decide what it holds.
        validation: finite `tf.data.Dataset` that decides which epoch was
            best, the same at each pass; None takes the last epoch.
        draw: function of the model that gives a dict of uint8 pictures, and
            of floats, for TensorBoard.
        verbose: as in Keras' `fit`.

    Returns:
        dict: `epochs` and `steps` made, `best_epoch` (from 1),
        `validation_loss` (None without validation), `training_seconds`. The
        model holds the best epoch's weights, averaged if they are at all.

    Raises:
        UserError: if the loss is not finite, a checkpoint can't be read or
            the disk is full; the last good checkpoint is kept.
    """
    compile_model(model, options)
    state = RunState(model)
    best = BestWeights(state, options.early_stopping_patience)
    checkpoints = Checkpoints(
        state,
        workdir.checkpoints,
        options.checkpoint_every,
        options.steps_per_epoch,
    )
    step = checkpoints.restore()
    if step < options.num_steps and not best.exhausted:
        _pass_over(model, step % options.steps_per_epoch)
        interrupts = Interrupts()
        with interrupts.caught():
            model.fit(
                batches(step),
                epochs=options.epochs,
                initial_epoch=step // options.steps_per_epoch,
                steps_per_epoch=options.steps_per_epoch,
                validation_data=validation,
                callbacks=[
                    interrupts,
                    NonFiniteLoss(state),
                    best,
                    checkpoints,
                    keras.callbacks.TensorBoard(
                        workdir.tensorboard, write_graph=False
                    ),
                    *([Pictures(workdir.tensorboard, draw)] if draw else []),
                ],
                shuffle=False,
                verbose=verbose,
            )
    if best.exhausted:
        print(
            f"Stopped early: no better validation loss for {best.patience} "
            f"epochs after epoch {int(state.best_epoch.numpy())}",
            flush=True,
        )
    model.set_weights(state.best_weights)
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
    """Gives the steps of an epoch: a pass over the data, rounded.

    Long ones are rounded to a multiple of 16, so that Keras can make 16 steps
    in one execution; the data goes on where the last epoch ended.

    Raises:
        UserError: if a batch is larger than the data.
    """
    if batch_size > num_examples:
        raise UserError(
            f"--batch_size={batch_size} is more than the {num_examples} "
            "training images: give a smaller one"
        )
    steps = round(num_examples / batch_size)
    if steps < 10 * _STEPS_PER_EXECUTION:
        return steps
    return _STEPS_PER_EXECUTION * round(steps / _STEPS_PER_EXECUTION)


def compile_model(model, options):
    """Compiles a model as `fit` trains it.

    Args:
        model: a Keras model that brings its own loss.
        options: an `Options`.
    """
    momentum = _ema_momentum(options)
    model.compile(
        keras.optimizers.Adam(
            _learning_rate(options),
            global_clipnorm=options.gradient_clip_norm or None,
            use_ema=momentum > 0,
            ema_momentum=momentum,
        ),
        jit_compile=xla.resolve(options.jit_compile, model),
        steps_per_execution=_steps_per_execution(options),
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
    """Resolves the default: none where the learning rate falls to zero."""
    if options.ema_momentum is not None:
        return options.ema_momentum
    if options.learning_rate_schedule == "cosine":
        return 0.0
    horizon = min(1000, max(2, options.num_steps / 10))
    return 1 - 1 / horizon


def _steps_per_execution(options):
    """Gives the largest divisor of an epoch that calls Python seldom enough."""
    most = min(_STEPS_PER_EXECUTION, options.checkpoint_every)
    return next(
        n for n in range(most, 0, -1) if options.steps_per_epoch % n == 0
    )


def _pass_over(model, num_steps):
    """Makes `fit` pass over the steps of its first epoch that are done.

    Keras can start at an epoch, not within one: the first calls of the
    training function do nothing, and the data starts behind them.
    """
    model.make_train_function()
    train = model.train_function
    left = num_steps // model.steps_per_execution

    def train_function(iterator):
        nonlocal left
        if left:
            left -= 1
            return {}
        return train(iterator)

    model.train_function = train_function
