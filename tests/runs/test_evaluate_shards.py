"""Numbers of test images that are computed in shards, and then joined."""

from unittest import mock

import numpy as np
import pytest
from support.evaluated_runs import LEVEL, SETTINGS, digits, finish

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.evaluation import NotMeasured, model
from keras_genmodels.metrics import denoising
from keras_genmodels.runs import evaluate
from keras_genmodels.runs.workdir import Workdir


def in_two(num):
    return range(num // 2), range(num // 2, num)


def computed_in_two(workdir, data):
    """Returns the numbers of all test images, computed in two parts."""
    return evaluate.join_shards(
        [
            evaluate.evaluate_shard(
                workdir, data, SETTINGS, lambda num, k=k: in_two(num)[k]
            )
            for k in range(2)
        ]
    )


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("vae", marks=pytest.mark.slow),
        pytest.param("linear", marks=pytest.mark.exhaustive),
    ],
)
def test_joined_parts_have_the_averages_of_all_images(evaluated, kind):
    workdir, whole = evaluated(kind)
    with mock.patch.object(denoising, "NOISE_LEVELS", (LEVEL,)):
        joined = computed_in_two(workdir, digits())
        averaged = model._averaged(
            workdir.load_model(),
            digits().train.images,
            digits().test,
            SETTINGS,
            evaluate._binarization(workdir),
        )
        assert joined.keys() == averaged.keys()
        for name, section in averaged.items():
            # The steps of the ODE of another batch in float32 have errors up
            # to 1e-3 nats.
            nats = 1e-3 if name == "density" else 1e-7
            found = section.section(joined[name]).as_dict()
            expected = whole["sections"][name]
            assert found["notes"] == expected["notes"]
            assert found["measures"].keys() == expected["measures"].keys()
            for key, measure in found["measures"].items():
                check_same(measure, expected["measures"][key], nats)


def check_same(found, expected, nats):
    assert found["label"] == expected["label"]
    assert found["references"].keys() == expected["references"].keys()
    pairs = [(found, expected)] + [
        (estimate, expected["references"][name])
        for name, estimate in found["references"].items()
    ]
    for one, other in pairs:
        assert one["value"] == pytest.approx(other["value"], 1e-5, nats)
        error = other["standard_error"]
        assert one["standard_error"] == (
            error and pytest.approx(error, 1e-5, nats)
        )


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_a_quantity_that_no_part_can_measure_stays_out(tmp_path, monkeypatch):
    monkeypatch.setattr(denoising, "NOISE_LEVELS", (LEVEL,))
    tiny = datasets.Split(digits().train.images[:9, :4, :4], None)
    data = datasets.ImageDataset("tiny", tiny, None, tiny, None)
    denoiser = kgm.LinearDenoiser(rank=2)
    denoiser.adapt(tiny.images)
    workdir = finish(denoiser, Workdir(tmp_path), data=data)
    joined = computed_in_two(workdir, data)
    # The density needs a denoiser that receives sigma.
    assert [*joined] == ["denoising"]
    ssim = joined["denoising"][f"ssim/{LEVEL:g}"]
    assert isinstance(ssim, NotMeasured)
    assert "7 x 7" in str(ssim)


def test_a_part_without_images_of_a_section_is_joined():
    shards = [
        {"denoising/psnr/1/": np.arange(3), "density/a": np.arange(2)},
        {"denoising/psnr/1/": np.arange(2), "shard_rows": np.arange(3)},
    ]
    joined = evaluate.join_shards(shards)
    assert joined["denoising"]["psnr/1/"].tolist() == [0, 1, 2, 0, 1]
    assert joined["density"]["a"].tolist() == [0, 1]
    assert [*joined] == ["denoising", "density"]
