"""What the tests of attractors share."""

import pytest
from support.closed_forms import STORED, adapted

from keras_genmodels.denoisers import EmpiricalDenoiser


@pytest.fixture(scope="module")
def exact():
    """The exact denoiser of STORED."""
    return adapted(EmpiricalDenoiser(), STORED)
