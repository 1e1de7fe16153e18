"""Exports of denoisers of images of any size."""

import numpy as np
import pytest
import tensorflow as tf
from support.exported_models import make, settings

import keras_genmodels as kgm
from keras_genmodels.core import xla
from keras_genmodels.export import (
    check_table,
    example_requests,
    loader,
    read_description,
    row_blocks,
    summary,
)
from keras_genmodels.export.fields import checked
from keras_genmodels.export.signatures import (
    describe,
    settings_of,
    signatures_of,
)


@pytest.fixture(scope="module")
def model():
    return make("any_size")


@pytest.fixture(scope="module")
def signatures(model):
    return signatures_of(model, settings_of(model, settings("any_size")))


def description_of(model, signatures):
    """Returns what model.json would say of the inputs."""
    described = {
        name: {
            "inputs": {k: v.to_json() for k, v in signature.fields.items()},
            "outputs": {},
        }
        for name, signature in signatures.items()
    }
    described["serving_default"] = described["denoise"]
    return {
        "signatures": described,
        "settings": {"max_rows": 9, "jit_compile": False},
        **describe(model),
    }


def test_it_denoises_and_restores_and_draws_nothing(signatures):
    assert [*signatures] == ["denoise", "noise", "restore", "restore_with"]
    for signature in signatures.values():
        assert signature.specs()["image"].shape.as_list() == [None] * 3 + [1]


def test_sizes_beyond_those_of_the_export_are_refused(signatures):
    fields = {"image": signatures["denoise"].fields["image"]}
    spec = {"image": tf.TensorSpec(None, tf.float32, "image")}

    @tf.function(input_signature=[spec])
    def run(inputs):
        return checked(fields, inputs, 10)["image"]

    for height, width in ((2, 2), (2, 300), (24, 25), (3, 17)):
        x = tf.zeros((2, height, width, 1))
        assert run({"image": x}).shape == x.shape
    for shape, words, code in (
        ((1, 24, 26, 1), r"at most 600 pixels, got \[24 26\]", "pixels"),
        ((0, 2**40, 2**40, 1), "at most 600 pixels", "pixels"),
        ((1, 1, 9, 1), r"\[batch, at least 2, at least 2, 1\]", "shape"),
        ((1, 9, 0, 1), "at least 2", "shape"),
        ((1, 9, 9, 2), "at least 2", "shape"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=words) as it:
            run({"image": tf.zeros(shape)})
        assert f"image:{code}" in str(it.value)


def test_examples_have_a_size_and_wrong_sizes_are_sent(model, signatures):
    description = description_of(model, signatures)
    inputs = example_requests.valid_inputs(description, "denoise", 3)
    assert inputs["image"].shape == (3, 2, 7, 1)
    wrong = {
        request.problem: request.inputs["image"].shape
        for request in example_requests.invalid_requests(description)
        if request.signature == "denoise"
    }
    assert wrong["too many pixels"] == (2, 2, 301, 1)
    assert wrong["too small a side"] == (2, 1, 7, 1)
    table = check_table.Table({**description, "name": "a"}, {}, {})
    table.description["package_version"] = "1"
    assert "images of any size, 1 channel, exp" in table.text(0, (1,))


def test_settings_are_of_sizes_and_not_of_generating(model):
    assert settings_of(model, {})["max_pixels"] == 2**20
    for given, words in (
        ({"num_steps": 5}, "not a setting of a DenoisingAutoencoder of images"),
        ({"max_pixels": 3}, r"max_pixels must be an int in \[4, "),
    ):
        with pytest.raises(kgm.UserError, match=words):
            settings_of(model, given)
    with pytest.raises(kgm.UserError, match="max_pixels is not a setting"):
        settings_of(make("rank"), {"max_pixels": 5})


def test_restoring_is_denoising_once_unless_more_steps_are_asked_for(model):
    found = settings_of(model, {})
    assert (found["step_size"], found["max_steps"]) == (1, 100)
    assert found["max_rows"] == 64
    x = np.random.default_rng(0).random((3, 9, 8, 1), np.float32)
    # The second is changed by less than the tolerance of a loop.
    x[1] = 0.5 + 1e-4 * x[1]
    signatures = signatures_of(model, found)
    once = signatures["restore"].compute(image=x)
    np.testing.assert_array_equal(once["num_steps"], 1)
    np.testing.assert_allclose(once["image"], model.denoise(x), atol=1e-6)
    limit = signatures["restore_with"].fields["max_steps"].values
    assert limit.contains(100.0) and not limit.contains(101.0)
    for given, step_size, steps in (
        ({"max_steps": 5}, 0.1, 5),
        ({"tolerance": 0.1}, 0.1, 100),
        ({"max_steps": 5, "step_size": 0.5}, 0.5, 5),
        ({"step_size": 0.5}, 0.5, 100),
        ({"max_steps": 1}, 1, 1),
    ):
        found = settings_of(model, given)
        assert (found["step_size"], found["max_steps"]) == (step_size, steps)
    for loop in ({"max_steps": 5}, {"tolerance": 0.1}):
        with pytest.raises(kgm.UserError, match="denoised once with a step"):
            settings_of(model, {"step_size": 1, **loop})


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_few_images_are_computed_at_a_time(rows):
    """Also in a graph, which does not know the sizes."""
    seen = []

    def compute(image, sigma):
        seen.append(tf.shape(image)[0] if tf.executing_eagerly() else None)
        return {
            "sum": image + sigma[:, tf.newaxis, tf.newaxis, tf.newaxis],
            "level": 2 * sigma,
        }

    run = row_blocks.in_blocks(compute, max_pixels=30)
    x = np.random.default_rng(0).random((rows, 2, 5, 1), np.float32)
    sigma = np.arange(rows, dtype=np.float32)
    expected = compute(x, sigma)
    spec = tf.TensorSpec((None, None, None, 1)), tf.TensorSpec((None,))
    compiled = tf.function(
        lambda image, sigma: run(image, sigma=sigma),
        input_signature=spec,
        autograph=False,
    )
    seen.clear()
    for found in (run(image=x, sigma=sigma), compiled(x, sigma)):
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
    sizes = [int(it) for it in seen if it is not None]
    assert max(sizes) == min(rows, 3) and sum(sizes) == rows
    # An image beyond the limit is a block of its own.
    large = np.zeros((2, 7, 5, 1), np.float32)
    assert run(image=large, sigma=sigma[:1].repeat(2))["sum"].shape[0] == 2


def test_xla_does_not_compile_for_each_size_unless_asked(model, monkeypatch):
    monkeypatch.setattr(xla, "should_compile", lambda _: True)
    assert not settings_of(model, {"jit_compile": "auto"})["jit_compile"]
    assert settings_of(model, {"jit_compile": True})["jit_compile"]


@pytest.mark.slow
def test_the_server_takes_any_size_and_does_not_batch(exports, session):
    model, version = exports["any_size"]
    run = session(version)
    for size in ((2, 2), (13, 40), (31, 17)):
        x = np.random.default_rng(0).random((3, *size, 1), np.float32)
        np.testing.assert_allclose(
            run("denoise", {"image": x})["denoised"],
            model.denoise(x),
            rtol=1e-5,
            atol=1e-6,
        )
        restored = run("restore", {"image": x})
        expected = kgm.restore(model, x, max_steps=12)
        np.testing.assert_allclose(restored["image"], expected.x, atol=1e-5)
    with pytest.raises(loader.RunError, match="at most 600 pixels") as error:
        run("restore", {"image": np.zeros((1, 30, 30, 1), np.float32)})
    assert error.value.code == loader.INVALID_ARGUMENT
    # The printed commands read the batching options of each version.
    assert not (version / "batching_params.pbtxt").exists()
    assert (exports.folder / "batching.config").exists()
    assert read_description(version)["settings"]["max_batch_size"] == 1
    said = summary.summary(version)
    assert "any size from 2x2 to 600 pixels" in said
    assert "does not batch" in said and "images of one size" in said
    assert "image float32 [batch, any, any, 1]" in said
