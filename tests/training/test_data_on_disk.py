"""Trainings on images on disk: memory, resuming, and the same results."""

import dataclasses

import keras
import numpy as np
import pytest
from support import disk_runs
from support.cheap_training import without_xla_and_figures
from support.forks import Fork

import keras_genmodels as kgm
from keras_genmodels import datasets, runs
from keras_genmodels.core import memory
from keras_genmodels.core.disk_arrays import DiskArray
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import cache
from keras_genmodels.denoisers import EmpiricalDenoiser, LinearDenoiser
from keras_genmodels.evaluation import comparison
from keras_genmodels.evaluation.denoising import _References

MEGABYTE = 10**6


@pytest.fixture(autouse=True)
def prepared(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))


def load(in_memory):
    return datasets.load("digits", in_memory=in_memory)


@pytest.mark.slow
def test_a_training_holds_no_data_in_memory(tmp_path):
    disk_runs.save_sparse(tmp_path / "x.npy", 400 * MEGABYTE)
    arguments = str(tmp_path / "x.npy"), str(tmp_path / "run"), 20, False
    before, peak = Fork(disk_runs.train, *arguments).result()
    assert peak - before < 250 * MEGABYTE


@pytest.mark.exhaustive
def test_a_training_on_two_gigabytes_takes_less_than_one_and_a_half(tmp_path):
    disk_runs.save_sparse(tmp_path / "x.npy", 2000 * MEGABYTE)
    arguments = str(tmp_path / "x.npy"), str(tmp_path / "run"), 500, True
    _, peak = Fork(disk_runs.train, *arguments).result()
    print(f"peak of RssAnon: {peak / MEGABYTE:.0f} MB")
    assert peak < 1500 * MEGABYTE


@pytest.mark.slow
def test_a_run_from_disk_goes_on_in_memory_to_the_last_bit(tmp_path):
    def train(name, epochs, in_memory):
        keras.utils.set_random_seed(0)
        model = kgm.DenoisingAutoencoder(
            kgm.mlp_denoiser((8, 8, 1), hidden_sizes=(8,))
        )
        with without_xla_and_figures():
            metrics = runs.train(
                model,
                load(in_memory),
                tmp_path / name,
                epochs=epochs,
                learning_rate_schedule="constant",
                ema_momentum=0,
                verbose=0,
            )
        return [*model.get_weights()], metrics["test"]["sections"]

    weights, sections = train("memory", 2, True)
    train("disk", 1, False)
    run = runs.Workdir(tmp_path / "disk").read_run()
    assert run.source.in_memory is False
    assert isinstance(run.load_data().test.images, DiskArray)
    assert isinstance(run.load_data(in_memory=True).test.images, np.ndarray)
    resumed, found = train("disk", 2, True)
    for mine, theirs in zip(resumed, weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert found == sections
    assert "in_memory" not in (tmp_path / "disk" / "run.json").read_text()


def test_what_adapts_reads_the_same_from_disk():
    found = []
    for in_memory in (True, False):
        model = LinearDenoiser()
        model.adapt(load(in_memory).train.images)
        found.append(model.get_weights())
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_exact_denoiser_is_refused_where_data_do_not_fit(
    tmp_path, monkeypatch
):
    data = load(False)
    monkeypatch.setattr(memory, "available", lambda: 2 * 1000 * 64)
    with pytest.raises(UserError, match=r"digits: .*all of them at once"):
        runs.train(EmpiricalDenoiser(), data, tmp_path / "run", verbose=0)
    references = _References(LinearDenoiser(), data.train.images, [0.1])
    assert "Wiener" in references.at(0.1) and "exact" not in references.at(0.1)
    assert any("more than half" in note for note in references.notes)


@pytest.mark.slow
def test_samples_are_compared_with_the_same_images_from_disk():
    found = []
    for in_memory in (True, False):
        data = load(in_memory)
        everything = comparison.all_training_images(data)
        images = comparison.comparison(
            data, everything, 20, "threshold", seed=0
        )
        for field in dataclasses.fields(images):
            value = getattr(images, field.name)
            if isinstance(value, datasets.Split):
                value = np.asarray(value.images)
            found.append(value)
        found += [np.asarray(everything.images), everything.labels]
        found.append(
            datasets.ImageDataset(
                "all", everything, None, data.test
            ).fingerprint()
        )
    half = len(found) // 2
    for mine, theirs in zip(found[:half], found[half:], strict=True):
        np.testing.assert_array_equal(mine, theirs)
