"""Whole runs in one process: what the apps' own tests do not reach."""

import numpy as np
import pytest
from small_cvaes import SHAPE, of_labels
from small_vaes import make_vae

import keras_genmodels as kgm
from keras_genmodels import datasets, latent_runs, runs, training
from keras_genmodels.workdir import Workdir


def tiny_data(num_train, num_test, labels=None, shape=(8, 8, 1)):
    count = num_train + num_test
    images = np.random.default_rng(0).integers(0, 256, (count, *shape))
    images = images.astype(np.uint8)
    first, rest = (
        (labels, labels)
        if labels is None
        else (np.int32(labels[:num_train]), np.int32(labels[num_train:]))
    )
    train = datasets.Split(images[:num_train], first)
    test = datasets.Split(images[num_train:], rest)
    return datasets.ImageDataset("tiny", train, None, test, None)


def train(model, data, workdir, binarization):
    return latent_runs.train(
        model,
        data,
        workdir,
        training.Options(epochs=1, steps_per_epoch=2, jit_compile="false"),
        binarization=binarization,
        batch_size=4,
        seed=0,
        verbose=0,
    )


def test_one_test_image_and_no_validation_are_enough(tmp_path):
    workdir = Workdir(tmp_path / "run")
    metrics = train(make_vae(), tiny_data(9, 1), workdir, "dynamic")
    assert metrics["is_likelihood"]
    assert metrics["test"]["num_examples"] == 1
    assert metrics["validation_loss"] is None
    assert "cross entropy" not in latent_runs.summary(workdir)
    options = training.Options(epochs=1, steps_per_epoch=2)
    assert runs.is_finished(workdir, options)
    assert type(workdir.load_model()) is kgm.VAE


def test_a_cross_entropy_is_called_by_its_name(tmp_path):
    likelihood = kgm.IndependentBernoulli((8, 8, 1), grey_values=True)
    plain = make_vae()
    model = kgm.VAE(plain.encoder, plain.decoder, plain.posterior, likelihood)
    workdir = Workdir(tmp_path / "run")
    assert not train(model, tiny_data(9, 4), workdir, "none")["is_likelihood"]
    assert "not a likelihood" in latent_runs.summary(workdir)


@pytest.mark.parametrize(
    ("labels", "told"),
    [([0, 1, 2] * 8, "A classifier reads"), ([1] * 24, "two values")],
)
def test_labels_are_judged_where_they_can_be(tmp_path, labels, told):
    data = tiny_data(12, 12, labels, SHAPE)
    workdir = Workdir(tmp_path / "run")
    metrics = train(of_labels(), data, workdir, "dynamic")
    assert told in latent_runs.summary(workdir)
    if len(set(labels)) > 1:
        found = metrics["labels"]
        for name in ("generated", "real"):
            assert 0 <= found[name]["accuracy"] <= 1
        assert found["num_labels"] == 3
        assert 0 < found["diversity"] < 2
    weighted = metrics["test"]["importance_weighted"]
    assert weighted["num_samples"] == 100
    assert weighted["log_likelihood"] > metrics["test"]["elbo"]


def test_what_a_run_is_about_to_do_is_told():
    told = runs.describe(
        tiny_data(9, 4),
        Workdir("/a/b"),
        training.Options(epochs=3, steps_per_epoch=2),
    )
    for part in ("9 training, 4 test", "8x8x1", "3 epochs of 2", "/a/b"):
        assert part in told


def test_data_are_told_apart():
    data, same = tiny_data(9, 4), tiny_data(9, 4)
    assert data.fingerprint() == same.fingerprint()
    assert data.fingerprint().startswith("9+4 images")
    changed = data.train.images.copy()
    changed[0, 0, 0, 0] ^= 1
    other = datasets.ImageDataset(
        "tiny", datasets.Split(changed, None), None, data.test, None
    )
    assert other.fingerprint() != data.fingerprint()


@pytest.mark.parametrize("times", [0, 1])
def test_a_folder_without_a_checkpoint_is_no_start(tmp_path, times):
    workdir = Workdir(tmp_path)
    workdir.checkpoints.mkdir()
    if times:
        train(make_vae(), tiny_data(9, 1), workdir, "dynamic")
    assert workdir.has_checkpoint() == bool(times)
