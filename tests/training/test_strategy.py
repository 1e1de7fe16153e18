"""Trainings on several devices equal those on one."""

import json

import numpy as np
import pytest
import tensorflow as tf
from support import app_runs, replica_runs
from support.forks import Fork
from support.small_vaes import make_vae

from keras_genmodels.training import fit, strategy

EQUAL = {"rtol": 1e-5, "atol": 1e-9}


def assert_equal_weights(one, other):
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, **EQUAL)


@pytest.fixture(scope="module")
def on_one():
    kinds = [*replica_runs.KINDS]
    return Fork(replica_runs.train, kinds, "one_device").result()


@pytest.mark.parametrize(
    "num_replicas",
    [
        pytest.param(2, marks=pytest.mark.slow),
        pytest.param(3, marks=pytest.mark.exhaustive),
    ],
)
def test_a_hundred_steps_of_several_replicas_equal_those_of_one(
    on_one, num_replicas
):
    kinds = [*replica_runs.KINDS]
    several = Fork(
        replica_runs.train, kinds, "mirrored", num_devices=num_replicas
    ).result()
    for kind, (weights, report) in on_one.items():
        assert report["steps"] == 100
        assert_equal_weights(several[kind][0], weights)
        loss = several[kind][1].pop("validation_loss")
        assert loss == pytest.approx(report["validation_loss"], rel=1e-5)
        assert several[kind][1].items() <= report.items()


@pytest.mark.slow
def test_replicas_train_on_the_patches_of_one_device():
    one, several = Fork(
        replica_runs.train_on_patches, "one_device", "mirrored", num_devices=2
    ).result()
    assert_equal_weights(several, one)


@pytest.mark.slow
def test_a_run_on_replicas_is_that_of_one_device_and_goes_on_there(tmp_path):
    one, several = (
        Fork(
            replica_runs.run_and_resume,
            name,
            str(tmp_path / name),
            num_devices=2,
        ).result()
        for name in ("one_device", "mirrored")
    )
    for (metrics, weights), (known, expected) in zip(several, one, strict=True):
        assert_equal_weights(weights, expected)
        measures, expected = (
            it["sections"]["likelihood"]["measures"] for it in (metrics, known)
        )
        assert measures.keys() == expected.keys()
        for name in ("elbo", "rate", "distortion"):
            value = expected[name]["value"]
            assert measures[name]["value"] == pytest.approx(value, rel=1e-5)


@pytest.mark.slow
def test_an_app_trains_on_replicas_as_on_one_device(tmp_path):
    flags = (
        "--network=mlp",
        "--hidden_sizes=8",
        "--dtype_policy=float64",
        "--epochs=1",
        "--jit_compile=false",
    )
    calls = [
        Fork(
            replica_runs.run_app,
            "train_vae",
            f"--workdir={tmp_path / name}",
            f"--strategy={name}",
            *flags,
            num_devices=2,
        )
        for name in ("one_device", "mirrored")
    ]
    assert [call.result() for call in calls] == [None, None]
    one, several = (
        app_runs.weights(tmp_path / name) for name in ("one_device", "mirrored")
    )
    assert one.keys() == several.keys()
    for name, weight in one.items():
        np.testing.assert_allclose(several[name], weight, **EQUAL)


@pytest.mark.slow
def test_replicas_do_not_accumulate_gradients():
    message = Fork(replica_runs.accumulated, num_devices=2).result()
    assert "gradient_accumulation_steps requires one replica" in message


@pytest.mark.slow
def test_rows_that_replicas_cannot_share_equally_count_equally():
    one = Fork(replica_runs.first_step_of_keras, "one_device").result()
    several = Fork(
        replica_runs.first_step_of_keras, "mirrored", num_devices=4
    ).result()
    assert_equal_weights(several[0], one[0])
    assert several[1] == pytest.approx(one[1], rel=1e-6)


def test_a_batch_that_replicas_cannot_share_equally_is_refused():
    two = tf.distribute.MirroredStrategy(["CPU:0"])
    strategy.check_batch_size(7, two)

    class Three:
        num_replicas_in_sync = 3

    strategy.check_batch_size(12, Three)
    with pytest.raises(ValueError, match=r"batch_size=16 .* 3 replicas"):
        strategy.check_batch_size(16, Three)


def test_xla_is_off_on_several_replicas_and_refused():
    assert strategy.without_xla("auto") is False
    assert strategy.without_xla(False) is False
    with pytest.raises(ValueError, match="jit_compile"):
        strategy.without_xla(True)


@pytest.mark.slow
def test_runs_refuse_what_replicas_cannot_do():
    wrong = {"batch_size": 128}, {"batch_size": 126, "jit_compile": True}
    found = Fork(replica_runs.refusals, *wrong, num_devices=3).result()
    assert "batch_size=128" in found[0] and "multiple of 3" in found[0]
    assert "jit_compile" in found[1]


def test_a_strategy_has_a_known_name():
    with pytest.raises(ValueError, match=r"strategy must .*multi_worker"):
        fit.Options(epochs=1, steps_per_epoch=1, strategy="all")


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "{}",
        {"cluster": {"worker": ["a:1"]}},
        {"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}},
        {
            "cluster": {"worker": ["a:1"], "ps": ["b:1"]},
            "task": {"type": "worker", "index": 0},
        },
        {
            "cluster": {"worker": ["a:1", "b:1"]},
            "task": {"type": "worker", "index": 2},
        },
    ],
)
def test_a_wrong_cluster_is_refused(monkeypatch, config):
    text = config if isinstance(config, str) else json.dumps(config)
    monkeypatch.setenv("TF_CONFIG", text)
    for name in ("auto", "multi_worker"):
        with pytest.raises(ValueError, match="TF_CONFIG must be JSON"):
            strategy.build(name)


def test_auto_uses_gpus_that_can_share_a_batch_equally(monkeypatch, capsys):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind: [kind] * 3
    )
    assert strategy._choose(129) == strategy._choose(None) == "mirrored"
    assert not capsys.readouterr().out
    assert strategy._choose(128) == "one_device"
    assert "batch_size=129" in capsys.readouterr().out


def test_what_one_worker_does_is_refused_on_several(monkeypatch):
    cluster = {"worker": ["a:1", "b:1"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": cluster, "task": task})
    )
    with pytest.raises(ValueError, match="this adapts on one worker"):
        strategy.check_single_worker("this adapts")
    cluster = {"worker": ["a:1"]}
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": cluster, "task": task})
    )
    strategy.check_single_worker("this adapts")


def test_several_workers_require_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG"):
        strategy.build("multi_worker")


def test_a_model_keeps_the_strategy_of_its_scope():
    model = make_vae()
    assert strategy.of_model("auto", model) is tf.distribute.get_strategy()
    assert strategy.replicate(model, tf.distribute.get_strategy()) is model
