"""What the tests share: quiet TensorFlow, policies that do not leak."""

import atexit
import concurrent.futures
import functools
import gc
import os
import shutil
import signal
import tempfile
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# As many processes run tests as there are cores, or more.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# A shell's background jobs ignore Ctrl-C, and so would the apps they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Prepared data sets go here, and not into the user's home.
os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="keras_genmodels-")
os.environ["KERAS_GENMODELS_CACHE"] = os.path.join(
    os.environ["TFDS_DATA_DIR"], "images"
)

import pytest

# So that its asserts tell what they compared.
pytest.register_assert_rewrite("support.app_runs", "support.signature_calls")

# The process that gives tests to others needs no TensorFlow: what imports it
# is imported by the fixtures.

atexit.register(shutil.rmtree, os.environ["TFDS_DATA_DIR"])


def pytest_collection_finish():
    """Leaves TensorFlow's million objects out of every garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def kernels_that_stay():
    """Lets `tf.random.set_seed` keep the kernels of all operations.

    It drops them for the sake of those that draw from a state of their own.
    There is none here, and every test would make its kernels and those of
    traced functions again: a fifth of the time of the quick tests.
    """
    from tensorflow.python.eager import context

    with mock.patch.object(context.pywrap_tfe, "TFE_ContextClearCaches"):
        yield


@pytest.fixture(autouse=True)
def fixed_seed():
    """Makes initial weights the same in every run."""
    import keras

    keras.utils.set_random_seed(0)


def _under(policy):
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture
def float64():
    """Runs a test under a float64 policy."""
    yield from _under("float64")


@pytest.fixture
def bfloat16():
    """Runs a test under the mixed bfloat16 policy."""
    yield from _under("mixed_bfloat16")


@pytest.fixture(
    params=[True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["eager", "graph"],
)
def run_eagerly(request):
    """True, and False if slow: XLA compiles longer than a few steps take."""
    return request.param


@pytest.fixture
def without_xla(monkeypatch):
    """Skips XLA, whose compilation takes longer than a small computation."""
    from keras_genmodels.core import xla

    monkeypatch.setattr(xla, "should_compile", lambda _: False)


@pytest.fixture(scope="module")
def launch():
    """Runs apps in parallel, at most two at once.

    `launch(app, *args).result()` is what `run` returns.
    """
    from support.app_runs import run

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield functools.partial(pool.submit, run)
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("apps")


@pytest.fixture(scope="module")
def data_dir(folder):
    """A `--data_dir`, so that nothing is written to the home."""
    path = folder / "tfds"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder that the processes of pytest-xdist share."""
    root = tmp_path_factory.getbasetemp()
    return root if worker_id == "master" else root.parent


@pytest.fixture(scope="session")
def exports(shared):
    """Exported models by kind, each made when first asked for.

    The processes of pytest-xdist share them: do not change their folder.
    """
    from support.exported_models import Exports

    return Exports(shared / "models")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Gives what headless Chromium writes when it opens a page."""
    from support.browser import opener

    return opener(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="session")
def finished(shared):
    """Returns, for a kind, the workdir of a finished run.

    The processes of pytest-xdist share them: do not change their folders.
    """
    from support.script_runs import trainer

    return trainer(shared / "finished")


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    """Returns a function of a kind to its evaluated run and evaluation."""
    from support.evaluated_runs import evaluator

    return evaluator(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="module")
def in_process():
    """Undoes what a server in this process does to the others' tests."""
    from keras_genmodels.export import loader

    yield
    loader._open_library()._ZN10tensorflow20EnableXlaCompilationEv()


@pytest.fixture(scope="module")
def refusals(request, folder, launch, trained):
    """Starts the selected refusals of a file together."""
    from support.app_runs import start_refusals

    cases = [
        next(iter(item.callspec.params.values()))
        for item in request.session.items
        if item.module is request.module and "refusals" in item.fixturenames
    ]
    return start_refusals(cases, folder, launch, trained)


@pytest.fixture(scope="module", autouse=True)
def early(request):
    """Starts the refusals before the tests that wait for other apps."""
    if any(
        item.module is request.module and "refusals" in item.fixturenames
        for item in request.session.items
    ):
        request.getfixturevalue("refusals")
