"""model.json, as this version and as 0.2 wrote it."""

import json

import pytest
import tensorflow as tf
from support.exported_models import make, settings

import keras_genmodels as kgm
from keras_genmodels.export import export, read_description
from keras_genmodels.export.values import (
    CLEAN_PIXELS,
    Binary,
    Integers,
    Interval,
    Levels,
    NoisyPixels,
    from_json,
    labels,
)

PIXELS_OF_0_2 = {
    Binary(): "0 or 1",
    Interval(0, 1): "in [0, 1]",
    Levels(): "k / 255 for an integer k in [0, 255]",
    Interval(): "finite",
}


NOT_IN_0_2 = ("generate_with", "log_density")


def as_0_2_wrote_it(description):
    """Removes what 0.2 did not write, and restores what it did."""
    old = {key: value for key, value in description.items() if key != "format"}
    old["num_labels"] = old.pop("num_classes")
    old["known"] = old.pop("has_observed_mask")
    old["pixels"] = PIXELS_OF_0_2[from_json(old["pixels"])]
    old["signatures"] = {
        name: {
            "inputs": {
                key: {"dtype": spec["dtype"], "shape": spec["shape"]}
                for key, spec in signature["inputs"].items()
            },
            "outputs": signature["outputs"],
        }
        for name, signature in old["signatures"].items()
        if name not in NOT_IN_0_2
    }
    return old


def as_0_2_accepted(description):
    """Replaces the values that 0.2 refused less of: it took any scale."""
    new = json.loads(json.dumps(description))
    for name in NOT_IN_0_2:
        new["signatures"].pop(name, None)
    for signature in new["signatures"].values():
        for name, spec in signature["inputs"].items():
            for key in ("values", "example"):
                if spec[key]["code"] in ("pixel_scale", "noisy_pixels"):
                    spec[key] = Interval().to_json()
            if name == "sigma":
                spec["values"] = Interval(0, bounds="()").to_json()
    return new


def write(folder, description):
    (folder / "assets.extra").mkdir(exist_ok=True)
    path = folder / "assets.extra" / "model.json"
    path.write_text(json.dumps(description))


@pytest.fixture
def described(exports, monkeypatch, tmp_path):
    """Returns a function of a kind to its description.

    The kinds that other quick tests need are exported; of the rest the
    signatures are traced, but not written.
    """

    def describe(kind):
        if kind in ("vae", "labels"):
            return read_description(exports[kind][1])
        monkeypatch.setattr(tf.saved_model, "save", lambda *_, **__: None)
        model = make(kind)
        folder = tmp_path / "traced"
        version = export(model, folder, kind, warmup=False, **settings(kind))
        return read_description(version)

    return describe


@pytest.mark.parametrize(
    "kind",
    [
        "vae",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("labels", "completion", "range")
        ),
    ],
)
def test_a_description_of_0_2_is_read_in_the_present_format(
    kind, described, tmp_path
):
    description = described(kind)
    write(tmp_path, as_0_2_wrote_it(description))
    assert read_description(tmp_path) == as_0_2_accepted(description)


def test_a_newer_format_is_refused(exports, tmp_path):
    description = read_description(exports["vae"][1])
    write(tmp_path, {**description, "format": 3})
    with pytest.raises(kgm.UserError, match="format 3"):
        read_description(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        Interval(0, 2, "()"),
        Integers(0, 7),
        labels(3, True),
        Interval(),
        CLEAN_PIXELS,
        NoisyPixels(1.5, has_sigma=True),
    ],
)
def test_values_are_rebuilt_from_json(values):
    content = json.loads(json.dumps(values.to_json()))
    assert from_json(content) == values
