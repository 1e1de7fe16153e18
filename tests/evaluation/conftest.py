"""All tests of this folder run without XLA."""

import pytest


@pytest.fixture(autouse=True)
def always_without_xla(without_xla):
    pass
