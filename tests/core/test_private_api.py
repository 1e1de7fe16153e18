"""What the package uses of Keras and TensorFlow without a promise of theirs.

A failure names what a new version has changed: find another way in
`core/private_api.py` or in the file that the test names.
"""

import ast
import importlib
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops
from tensorflow.python.eager import context

import keras_genmodels
from keras_genmodels.core import private_api
from keras_genmodels.export import loader

PACKAGE = pathlib.Path(keras_genmodels.__file__).parent
ALLOWED = {
    # Of named tuples: public, in spite of the underscore.
    *("_asdict", "_fields", "_make", "_replace"),
    # Weights that `AdaptedDenoiser` sets by name.
    *("_data", "_eigenvalues", "_eigenvectors"),
}


@pytest.fixture
def model():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model = keras.Sequential([keras.Input((2,)), inner, keras.layers.ReLU()])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    "name",
    [
        "_flatten_layers",
        "_get_call_context",
        "_maybe_symbolic_build",
        "make_train_function",
    ],
)
def test_keras_models_still_have(model, name):
    assert hasattr(model, name), f"keras.Model.{name} is gone"


def test_layers_are_found_at_every_depth(model):
    found = [*private_api.flatten_layers(model)]
    inner = model.layers[0]
    assert found[0] is model
    assert {model.layers[1], inner, inner.layers[0]} <= {*found}


def test_functions_know_that_xla_compiles_them():
    assert not private_api.is_traced_for_xla()
    for jit_compile in (False, True):

        @tf.function(jit_compile=jit_compile)
        def found():
            own = private_api.is_traced_for_xla()
            body = tf.cond(
                tf.constant(True),
                lambda: tf.constant(private_api.is_traced_for_xla()),
                lambda: tf.constant(False),
            )
            return tf.constant(own), body

        assert [bool(it) for it in found()] == [jit_compile] * 2


def test_the_training_step_counts_batches_not_updates():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    scaled = keras.optimizers.LossScaleOptimizer(optimizer)
    weight = keras.Variable(1.0)
    for step in range(3):
        assert int(private_api.training_step(optimizer)) == step
        assert int(private_api.training_step(scaled)) == step
        optimizer.apply([keras.ops.ones(())], [weight])


def test_fit_calls_the_training_function_that_was_replaced(model):
    private_api.skip_training_calls(model, 3)
    model.fit(np.ones((5, 2)), np.ones((5, 2)), batch_size=1, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 2


@pytest.mark.parametrize(
    "name", ["_clip_gradients", "_all_reduce_sum_gradients"]
)
def test_keras_optimizers_still_have(name):
    assert hasattr(keras.optimizers.Adam, name), f"{name} is gone"


def test_every_worker_waits_for_the_others_no_longer_than_the_limit(
    monkeypatch,
):
    own = context.context()
    # What the block sets, the end of the test undoes.
    for name in (
        "configure_coordination_service",
        "_coordination_service_config",
    ):
        monkeypatch.setattr(own, name, getattr(own, name))
    private_api.limit_wait_for_workers(3)
    own.configure_coordination_service("standalone", "/job:worker")
    found = own.coordination_service
    assert found.service_type == "standalone"
    assert found.cluster_register_timeout_in_ms == 3000
    assert found.cluster_register_with_barrier


def test_no_iterator_over_replicas_waits_for_the_autotuner():
    private_api.stop_autotuning_on_replicas()
    iterator = multi_device_iterator_ops.OwnedMultiDeviceIterator(
        tf.data.Dataset.range(3), devices=["CPU:0"]
    )
    assert [int(item[0]) for item in iterator] == [0, 1, 2]
    (own,) = iterator._device_iterators
    assert own._dataset.options().autotune.enabled is False


def test_tensorflow_still_has_the_functions_of_the_standalone_loader():
    """`export/loader.py` calls the C library, and must import nothing else."""
    library = loader._open_library()
    missing = [name for name in loader._FUNCTIONS if not hasattr(library, name)]
    assert not missing, f"the C library of TensorFlow lacks {missing}"


def test_the_protobufs_of_saved_models_are_where_they_were():
    importlib.import_module("tensorflow.core.protobuf.meta_graph_pb2")


def test_other_files_use_no_private_names_of_other_packages():
    used, own = {}, set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name):
                own.add(node.id)
            elif isinstance(node, ast.Attribute):
                if isinstance(node.ctx, ast.Store):
                    own.add(node.attr)
                elif node.attr.startswith("_") and node.attr[1] != "_":
                    used.setdefault(node.attr, set()).add(path.name)
    foreign = {
        name: files
        for name, files in used.items()
        if name not in own | ALLOWED and files != {"private_api.py"}
    }
    # One function of C++, checked above with the other functions.
    foreign.pop("_ZN10tensorflow21DisableXlaCompilationEv", None)
    assert not foreign
