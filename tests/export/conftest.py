"""What the tests of exports share."""

import contextlib

import pytest

from keras_genmodels.export import loader


@pytest.fixture
def session():
    """Loads a version with TensorFlow's C++ loader; returns its `run`."""
    with contextlib.ExitStack() as stack:
        yield lambda version: stack.enter_context(loader.Loader(version)).run
    # Other tests of this process compile.
    loader._open_library()._ZN10tensorflow20EnableXlaCompilationEv()
