"""Trainings for tests of what follows a training."""

import contextlib
from unittest import mock

from keras_genmodels.core import xla
from keras_genmodels.runs import denoiser, latent


@contextlib.contextmanager
def without_xla_and_figures():
    """Skips what takes longer than the training of a small model."""
    with (
        mock.patch.object(xla, "should_compile", return_value=False),
        mock.patch.object(latent, "_draw", return_value={}),
        mock.patch.object(denoiser, "_draw", return_value={}),
    ):
        yield
