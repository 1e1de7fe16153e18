"""All private and undocumented parts of Keras that this package uses.

`tests/core/test_private_api.py` fails where a new version of Keras or
TensorFlow lacks one of them.
"""

import contextlib
import functools

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.data.ops import multi_device_iterator_ops
from tensorflow.python.eager import context
from tensorflow.python.ops import control_flow_util


class BuiltByConstructor:
    """Mixin for a Keras model all of whose weights its constructor creates."""

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds nothing.

        On several replicas Keras would average the parts of a batch here,
        which fails for parts of unequal size.
        """


class ReplicatedAdam(keras.optimizers.Adam):
    """Adam on several replicas, which clips the sum of their gradients.

    Keras clips the gradients of each replica, and adds them up after that.
    """

    def _clip_gradients(self, grads):
        replica = tf.distribute.get_replica_context()
        return super()._clip_gradients(
            replica.all_reduce(tf.distribute.ReduceOp.SUM, grads)
        )

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


def flatten_layers(model):
    """Returns a Keras model and its layers at every depth, as an iterator."""
    return model._flatten_layers()


@contextlib.contextmanager
def without_rewriting():
    """Makes functions that are called in the block round as eager operations.

    TensorFlow's arithmetic optimisation would replace x / sqrt(y), for
    example, by x * rsqrt(y). It is left out of functions whose first call is
    in the block.
    """
    own = context.context()
    before = own.function_call_options
    own.function_call_options = _without_rewriting(
        before.executor_type, before.config_proto_serialized
    )
    try:
        yield
    finally:
        own.function_call_options = before


@functools.cache
def _without_rewriting(executor_type, serialized):
    config = config_pb2.ConfigProto.FromString(serialized or b"")
    options = config.graph_options.rewrite_options
    options.arithmetic_optimization = rewriter_config_pb2.RewriterConfig.OFF
    return context.FunctionCallOptions(executor_type, config)


def is_traced_for_xla():
    """Returns whether a function with `jit_compile=True` is being traced."""
    if tf.executing_eagerly():
        return False
    return control_flow_util.GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    )


def is_within_a_layer():
    """Returns whether the `__call__` of a Keras layer is running."""
    return global_state.get_global_attribute("current_call_ctx") is not None


@contextlib.contextmanager
def in_inference(layer):
    """Makes layers within the block run as in inference.

    Within the `call` of a layer they would inherit its `training`.

    Args:
        layer: the Keras layer whose `call` this is.
    """
    context = layer._get_call_context()
    before = context.get_value("training")
    context.set_value("training", False)
    try:
        yield
    finally:
        context.set_value("training", before)


def use_one_replica(model):
    """Makes the verbs of a model, such as `predict`, run on one replica.

    By default they run on all replicas of the strategy in whose scope the
    model was built, each with other rows.
    """
    model._distribute_strategy = None


@functools.cache
def stop_autotuning_on_replicas():
    """Makes TensorFlow not autotune the queue of batches of each replica.

    Its length is fixed, so that there is nothing to tune. The autotuner sleeps
    for powers of two of 10 ms, and deleting an iterator waits for it: after the
    last step for up to as long as all steps took.
    """
    create = multi_device_iterator_ops._create_device_dataset
    options = tf.data.Options()
    options.autotune.enabled = False

    @functools.wraps(create)
    def create_untuned(*args, **kwargs):
        return create(*args, **kwargs).with_options(options)

    multi_device_iterator_ops._create_device_dataset = create_untuned


def limit_wait_for_workers(seconds):
    """Limits how long a multi-worker strategy waits for workers to start.

    TensorFlow's own limit is an hour. To be called before the strategy is
    built.

    Args:
        seconds: number > 0.
    """
    own = context.context()
    configure = own.configure_coordination_service

    @functools.wraps(configure)
    def configure_with_limit(*args, **kwargs):
        timeout = {"cluster_register_timeout_in_ms": int(1000 * seconds)}
        configure(*args, **{**kwargs, **timeout})
        # Else the first worker counts as started without the others, and
        # waits for them after that, for an hour.
        own.coordination_service.cluster_register_with_barrier = True

    own.configure_coordination_service = configure_with_limit


def training_step(optimizer):
    """Returns how many batches an optimizer has seen, an integer tensor.

    With `gradient_accumulation_steps`, `optimizer.iterations` counts updates,
    of which several batches share one.

    Args:
        optimizer: a Keras optimizer, or a `LossScaleOptimizer` of one.
    """
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer._iterations.value


def skip_training_calls(model, num):
    """Makes the first `num` calls of a model's training function do nothing.

    Keras calls that function for each execution of steps, but it can only
    start `fit` at an epoch, not within one.

    Args:
        model: a compiled Keras model.
        num: int >= 0.
    """
    model.make_train_function()
    train = model.train_function
    left = num

    def train_function(iterator):
        nonlocal left
        if left:
            left -= 1
            return {}
        return train(iterator)

    model.train_function = train_function
