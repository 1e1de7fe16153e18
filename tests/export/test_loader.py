"""The ctypes loader against `tf.saved_model.load`."""

import concurrent.futures
import json
import shutil
import subprocess
import sys

import numpy as np
import psutil
import pytest
import tensorflow as tf

from keras_genmodels.export import loader as loader_lib
from keras_genmodels.export.loader import Loader, LoadError, RunError
from keras_genmodels.export.replay import replay

RNG = np.random.default_rng(0)


class Module(tf.Module):
    """Signatures of several inputs, outputs and dtypes."""

    def __init__(self):
        self.kernel = tf.Variable(RNG.random((4, 3), np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
    def project(self, x):
        message = "x must be >= 0"
        check = tf.debugging.assert_greater_equal(x, 0.0, message)
        with tf.control_dependencies([check]):
            x = tf.identity(x)
        return {"y": x @ self.kernel, "total": tf.reduce_sum(x, 1)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float64, "a"),
            tf.TensorSpec([None], tf.int64, "b"),
            tf.TensorSpec([None, 2], tf.int32, "c"),
            tf.TensorSpec([None], tf.bool, "d"),
        ]
    )
    def types(self, a, b, c, d):
        return {"a": a + 1, "b": 2 * b, "c": c[:, ::-1], "d": ~d}

    @tf.function(input_signature=[tf.TensorSpec([None], name="x")])
    def megabyte(self, x):
        return {"y": tf.tile(x[:, tf.newaxis], [1, 2**18])}

    @tf.function(
        input_signature=[tf.TensorSpec([None], name="x")], jit_compile=True
    )
    def compiled(self, x):
        return {"y": x + 1}


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "module" / "1"
    module = Module()
    tf.saved_model.save(
        module,
        path,
        {
            "serving_default": module.project,
            "project": module.project,
            "types": module.types,
            "megabyte": module.megabyte,
            "compiled": module.compiled,
        },
    )
    return path


@pytest.fixture(scope="module")
def loader(version):
    with Loader(version) as loaded:
        yield loaded
    # Other tests of this process compile.
    loader_lib._open_library()._ZN10tensorflow20EnableXlaCompilationEv()


def rows(num):
    return RNG.random((num, 4), np.float32)


def assert_refused(run, code, *expected):
    with pytest.raises(RunError) as refused:
        run()
    assert refused.value.code == code
    for words in expected:
        assert words in refused.value.message


def test_signatures(loader):
    assert loader.signatures.keys() == {
        *("serving_default", "project", "types", "megabyte", "compiled")
    }
    signature = loader.signatures["types"]
    found = {k: (v.dtype, v.shape) for k, v in signature.inputs.items()}
    assert found == {
        "a": (np.float64, (None,)),
        "b": (np.int64, (None,)),
        "c": (np.int32, (None, 2)),
        "d": (np.bool_, (None,)),
    }
    assert loader.signatures["project"].outputs["y"].shape == (None, 3)


@pytest.mark.parametrize("num", [1, 3, 257, 0])
@pytest.mark.parametrize("name", ["project", ""])
def test_equals_tensorflow(loader, version, num, name):
    x = rows(num)
    signatures = tf.saved_model.load(version).signatures
    expected = signatures[name or "serving_default"](x=tf.constant(x))
    found = loader.run(name, {"x": x})
    assert found.keys() == expected.keys() == {"y", "total"}
    for key, value in expected.items():
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], value)


def test_all_dtypes(loader):
    given = {
        "a": RNG.random(3),
        "b": np.array([2**40, -1, 0]),
        "c": np.arange(6, dtype=np.int32).reshape(3, 2),
        "d": np.array([True, False, True]),
    }
    found = loader.run("types", given)
    np.testing.assert_array_equal(found["a"], given["a"] + 1)
    np.testing.assert_array_equal(found["b"], 2 * given["b"])
    np.testing.assert_array_equal(found["c"], given["c"][:, ::-1])
    np.testing.assert_array_equal(found["d"], ~given["d"])
    assert {k: v.dtype for k, v in found.items()} == {
        k: v.dtype for k, v in given.items()
    }


def test_memory_layout_does_not_matter(loader):
    x = rows(6)
    expected = loader.run("project", {"x": x[::2]})["y"]
    for same in (np.asfortranarray(x[::2]), np.repeat(x, 2, 0)[::4]):
        assert not same.flags.c_contiguous
        found = loader.run("project", {"x": same})["y"]
        np.testing.assert_array_equal(found, expected)


def test_a_refusal_does_not_affect_the_next_run(loader):
    x = rows(2)
    expected = loader.run("project", {"x": x})["y"]
    refused = [
        ("project", {"x": -x}, 3, "x must be >= 0"),
        ("project", {"x": x[:, :3]}, 3, "[2,3]"),
        ("project", {"x": x[0]}, 3, "dimension"),
        ("project", {"x": np.float32(1)}, 3, "dimension"),
        ("project", {"x": x.astype(int)}, 3, "x must be of dtype float32"),
        ("project", {"x": np.array(["a"])}, 3, "x must be of dtype float32"),
        ("project", {}, 3, "Missing but required: {x}"),
        ("project", {"x": x, "z": x}, 3, "Sent extra: {z}"),
        ("other", {"x": x}, 9, 'signature key "other" not found'),
    ]
    for name, given, code, message in refused:
        assert_refused(lambda n=name, g=given: loader.run(n, g), code, message)
        found = loader.run("project", {"x": x})["y"]
        np.testing.assert_array_equal(found, expected)


def test_xla_is_disabled_as_in_the_server(loader):
    x = np.ones(1, np.float32)
    assert_refused(lambda: loader.run("compiled", {"x": x}), 13, "XLA")


def test_threads_get_their_own_answers(loader):
    asked = [rows(num) for num in range(1, 40)]

    def total(x):
        return loader.run("project", {"x": x})["total"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for x, found in zip(asked, pool.map(total, asked), strict=True):
            np.testing.assert_allclose(found, x.sum(1), rtol=1e-6)


@pytest.mark.slow
def test_memory_is_freed(loader):
    """Outputs of 1 MB and refusals leave nothing behind."""
    x, process = np.ones(1, np.float32), psutil.Process()

    def runs(count):
        for _ in range(count):
            assert loader.run("megabyte", {"x": x})["y"].nbytes == 2**20
            with pytest.raises(RunError):
                loader.run("megabyte", {"x": x[:, np.newaxis]})
        return process.memory_info().rss

    before = runs(50)
    assert runs(2000) - before < 50 * 2**20


def test_a_closed_model_refuses(version):
    with Loader(version) as closed:
        pass
    closed.close()
    assert_refused(lambda: closed.run("project", {"x": rows(1)}), 9, "closed")


def damage(path, content):
    (path / "saved_model.pb").write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / "saved_model.pb").unlink(),
        lambda path: damage(path, b""),
        lambda path: damage(path, b"no protobuf"),
        lambda path: damage(
            path, (path / "saved_model.pb").read_bytes()[:-1000]
        ),
        lambda path: (path / "variables" / "variables.index").write_bytes(b""),
    ],
    ids=["missing", "empty", "text", "cut", "variables"],
)
def test_a_damaged_version_raises_instead_of_crashing(version, tmp_path, spoil):
    copy = shutil.copytree(version, tmp_path / "2")
    spoil(copy)
    with pytest.raises(LoadError, match=str(copy)):
        Loader(copy)


def test_without_variables_a_run_is_refused(version, tmp_path):
    """TensorFlow loads it as a model without variables."""
    copy = shutil.copytree(version, tmp_path / "2")
    shutil.rmtree(copy / "variables")
    with Loader(copy) as loaded, pytest.raises(RunError, match="ariable"):
        loaded.run("project", {"x": rows(1)})


def test_replay_answers_in_another_process(version):
    x = rows(3)
    answers = replay(
        version,
        [("", {"x": x}), ("project", {"x": -x}), ("project", {"x": x[:1]})],
    )
    expected = x @ tf.saved_model.load(version).kernel.numpy()
    np.testing.assert_allclose(answers[0]["y"], expected, rtol=1e-5)
    assert answers[1].code == 3
    assert "x must be >= 0" in answers[1].message
    np.testing.assert_allclose(answers[2]["y"], expected[:1], rtol=1e-5)


@pytest.mark.slow
def test_replay_reports_a_folder_without_a_model(tmp_path):
    with pytest.raises(LoadError, match=f"{tmp_path} cannot be loaded"):
        replay(tmp_path, [])


def test_replay_has_a_timeout(version):
    with pytest.raises(LoadError, match=r"not all .* within 0\.1 s"):
        replay(version, [("project", {"x": rows(1)})], timeout=0.1)


def test_the_script_imports_nothing_but_numpy(version, tmp_path):
    asked, answered = tmp_path / "in", tmp_path / "out"
    asked.mkdir(), answered.mkdir()
    np.savez(asked / "0000.npz", __signature__=np.array("project"), x=rows(1))
    process = subprocess.run(
        [
            *(sys.executable, "-P", "-c"),
            "import json, runpy, sys; path = sys.argv.pop(1); "
            "runpy.run_path(path, run_name='__main__'); "
            "print(json.dumps(sorted(sys.modules)))",
            *(loader_lib.__file__, version, asked, answered),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {name.partition(".")[0] for name in json.loads(process.stdout)}
    assert "numpy" in modules
    assert not modules & {
        *("tensorflow", "keras", "tensorflow_probability", "keras_genmodels"),
        *("tf_keras", "grpc", "google"),
    }
    assert (answered / "0000.npz").exists()
