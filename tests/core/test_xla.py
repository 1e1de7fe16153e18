"""The values of jit_compile."""

import keras
import pytest
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.core import xla


@pytest.mark.parametrize("has_gpu", [False, True])
def test_auto_compiles_on_a_gpu_and_models_without_convolutions(
    monkeypatch, has_gpu
):
    devices = ["GPU:0"] if has_gpu else []
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: devices)
    mlp = kgm.mlp_encoder((4, 4, 1), 2, (3,))
    conv = kgm.conv_encoder((8, 8, 1), 2, 2)
    nested = keras.Sequential([keras.Input((8, 8, 1)), conv])
    found = [xla.resolve("auto", m) for m in (mlp, conv, nested, None)]
    assert found == [True, has_gpu, has_gpu, has_gpu]


def test_old_values_warn_and_others_are_refused():
    assert xla.resolve(True, None) is True
    for old, new in (("true", True), ("false", False), (None, False)):
        with pytest.warns(DeprecationWarning, match="jit_compile"):
            assert xla.resolve(old) is new
    with pytest.raises(ValueError, match="got 'yes'"):
        xla.resolve("yes")
