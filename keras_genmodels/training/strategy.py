"""The devices and machines of a training, as a `tf.distribute.Strategy`."""

import contextlib
import json
import os
import threading

import tensorflow as tf

from keras_genmodels.core import private_api, xla
from keras_genmodels.core.model_config import copy_model

NAMES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
# Seconds that a worker waits at the start for the others, and after which it
# says so.
START_TIMEOUT = 600
_PATIENCE = 10


def build(name="auto", tpu_address="", batch_size=None):
    """Builds a strategy; a multi-worker one before anything of TensorFlow.

    Args:
        name: "one_device"; "mirrored", all GPUs of this machine, or all
            logical CPU devices without a GPU; "multi_worker", the workers
            that the environment variable TF_CONFIG lists; "tpu", which is
            untested; or "auto": "multi_worker" if TF_CONFIG lists several
            workers, else "mirrored" if there are several GPUs that can share
            a batch equally, else "one_device".
        tpu_address: str, name or address of the TPU; by default that of the
            environment variable TPU_NAME; "local" on a TPU machine.
        batch_size: int, images per step, for "auto"; None for any.

    Returns:
        `tf.distribute.Strategy`; the default one for one device.

    Raises:
        ValueError: for another name, for a cluster or TPU that TF_CONFIG or
            the address does not describe, and if other workers do not start
            within 10 minutes.
    """
    if name not in NAMES:
        raise ValueError(f"strategy must be one of {NAMES}, got {name!r}")
    if name == "auto":
        name = _choose(batch_size)
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(_local_devices())
    if name == "multi_worker":
        return _multi_worker()
    if name == "tpu":
        return _tpu(tpu_address)
    return tf.distribute.get_strategy()


def of_model(strategy, model, batch_size=None):
    """Returns the strategy of a training.

    Args:
        strategy: a `tf.distribute.Strategy`, or a name for `build`.
        batch_size: as of `build`.
        model: a Keras model. If it was built in the scope of a strategy, that
            is "auto".

    Raises:
        ValueError: as `build`.
    """
    if not isinstance(strategy, str):
        return strategy
    own = model.distribute_strategy
    if strategy == "auto" and own.num_replicas_in_sync > 1:
        return own
    return build(strategy, batch_size=batch_size)


def replicate(model, strategy):
    """Returns a model whose weights are on all replicas of a strategy.

    Args:
        model: a Keras model.
        strategy: a `tf.distribute.Strategy`.

    Returns:
        the model itself if it was built in the scope of the strategy, else a
        copy of it.
    """
    if model.distribute_strategy is strategy:
        return model
    with strategy.scope():
        return copy_model(model)


def without_xla(jit_compile):
    """Returns False, the one `jit_compile` for several replicas.

    Keras compiles one function for all replicas, and XLA fails where it uses
    the weights of several devices.

    Raises:
        ValueError: for True.
    """
    if xla.read(jit_compile) is True:
        raise ValueError(
            "jit_compile=True requires one replica: Keras cannot use XLA on "
            "several"
        )
    return False


def check_batch_size(batch_size, strategy):
    """Raises ValueError unless all replicas get equal parts of a batch."""
    num_replicas = strategy.num_replicas_in_sync
    if batch_size % num_replicas:
        raise ValueError(
            f"batch_size={batch_size} is the global batch, which "
            f"{num_replicas} replicas cannot share equally: give a multiple "
            f"of {num_replicas}, or strategy=one_device"
        )


def check_single_worker(what):
    """Raises ValueError if TF_CONFIG lists several workers.

    Args:
        what: str, what cannot be done on several workers.
    """
    if _other_workers(_read_cluster()):
        raise ValueError(
            f"{what} on one worker only, and TF_CONFIG lists several: unset "
            "TF_CONFIG, and start the command once"
        )


def _choose(batch_size):
    """Returns the name of the strategy for "auto"."""
    if _other_workers(_read_cluster()):
        return "multi_worker"
    num_gpus = len(tf.config.list_logical_devices("GPU"))
    if num_gpus > 1 and batch_size is not None and batch_size % num_gpus:
        nearest = max(1, round(batch_size / num_gpus)) * num_gpus
        print(
            f"{num_gpus} GPUs cannot share batch_size={batch_size} equally: "
            f"training on one; batch_size={nearest} uses all",
            flush=True,
        )
        return "one_device"
    return "mirrored" if num_gpus > 1 else "one_device"


def _local_devices():
    for kind in ("GPU", "CPU"):
        if devices := tf.config.list_logical_devices(kind):
            return [device.name for device in devices]
    return None


def _multi_worker():
    cluster = _read_cluster()
    if cluster is None:
        raise ValueError(
            "strategy=multi_worker requires the environment variable "
            "TF_CONFIG, which lists the workers; see docs/distributed.md"
        )
    others = ", ".join(_other_workers(cluster))
    try:
        with _names_when_slow(others):
            private_api.limit_wait_for_workers(START_TIMEOUT)
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the workers of TF_CONFIG did not all start within "
            f"{START_TIMEOUT} seconds ({reason}): start the same command for "
            f"{others}; see docs/distributed.md"
        ) from error


@contextlib.contextmanager
def _names_when_slow(others):
    """Prints whom this process waits for, if the block takes long."""
    timer = threading.Timer(
        _PATIENCE,
        lambda: print(f"Waiting for the other workers: {others}", flush=True),
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _other_workers(cluster):
    """Lists the addresses of the other workers of a cluster, or of None."""
    if cluster is None:
        return []
    own = cluster["task"]["type"], int(cluster["task"]["index"])
    return [
        address
        for kind, addresses in cluster["cluster"].items()
        for index, address in enumerate(addresses)
        if (kind, index) != own
    ]


def _read_cluster():
    """Returns the content of TF_CONFIG, or None if it is not set.

    Raises:
        ValueError: unless it lists workers, and says which of them this is.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        addresses = cluster[task["type"]]
        is_right = (
            cluster.keys() <= {"chief", "worker"}
            and isinstance(addresses, list)
            and 0 <= int(task["index"]) < len(addresses)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        is_right = False
    if not is_right:
        raise ValueError(
            f"TF_CONFIG must be JSON such as {_EXAMPLE}, got {text[:200]}"
        )
    return config


_EXAMPLE = (
    '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def _tpu(address):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            address or os.environ.get("TPU_NAME", "")
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"no TPU at {address or 'TPU_NAME'} ({reason}): give the address "
            "of one, or another strategy"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
