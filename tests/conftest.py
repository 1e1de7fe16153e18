"""What the tests share: quiet TensorFlow, policies that do not leak."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Prepared data sets go here, and not into the user's home.
os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="keras_genmodels-")

import keras
import pytest

atexit.register(shutil.rmtree, os.environ["TFDS_DATA_DIR"])


@pytest.fixture(autouse=True)
def fixed_seed():
    """Makes initial weights the same in every run."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def float64():
    """Runs a test under a float64 policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture
def bfloat16():
    """Runs a test under the mixed bfloat16 policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)
