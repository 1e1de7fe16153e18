"""What the check of an exported version tries, and what it finds."""

import json
import shutil

import pytest
from support.exported_models import DATA, WALK, make

import keras_genmodels as kgm
from keras_genmodels.export import (
    check,
    example_requests,
    export,
    read_description,
    warmup,
)
from keras_genmodels.export.check import check_version
from keras_genmodels.export.loader import RunError
from keras_genmodels.export.replay import replay


def test_every_kind_of_wrong_input_is_sent(exports):
    description = read_description(exports["wiener"][1])
    highest = description["sigma_range"][1]
    image_limit, sigma_limit = 11 + 8 * highest, 10 * highest + 1
    sent = {
        (request.field, request.problem)
        for request in example_requests.invalid_requests(description)
        if request.signature == "denoise"
    }
    assert sent == {
        *(("image", f"{what} rows") for what in ("no", "too many")),
        *(("image", what) for what in ("another rank", "another size")),
        *(("image", what) for what in ("nan", "inf")),
        ("image", f"{image_limit:g}"),
        ("image", f"{-image_limit:g}"),
        *(("sigma", what) for what in ("another rank", "too few rows")),
        *(("sigma", what) for what in ("nan", "0", "-1", "inf")),
        ("sigma", f"{sigma_limit:g}"),
    }
    description["settings"]["max_rows"] = 2**31 - 1
    assert all(
        request.problem != "too many rows"
        for request in example_requests.invalid_requests(description)
    )


@pytest.mark.slow
def test_the_check_finds_another_model_and_rows_that_depend_on_others(
    exports, monkeypatch
):
    def uneven(*args):
        answers = replay(*args)
        for answer in answers:
            if not isinstance(answer, RunError) and len(answer) == 1:
                (values,) = answer.values()
                values += 2e-5 * (len(values) == 33)
        return answers

    monkeypatch.setattr(check, "replay", uneven)
    version = exports["wiener"][1]
    other = kgm.LinearDenoiser()
    other.adapt(DATA[::-1] ** 2)
    problems = check_version(version, other, sizes=(1, 33)).problems
    assert {problem.rpartition("(")[2] for problem in problems} == {
        "to eager)",
        "rows alone)",
    }
    with pytest.raises(kgm.UserError, match="made from a LinearDenoiser"):
        check_version(version, make("exact"))


@pytest.mark.slow
def test_the_check_works_for_a_single_row(tmp_path):
    (tmp_path / "batching.config").write_text(
        "max_batch_size { value: 1 }\nallowed_batch_sizes: 1\n"
    )
    model = make("rank")
    version = export(model, tmp_path, "name", max_rows=1, warmup=False, **WALK)
    assert check_version(version, model, sizes=(1, 3)).problems == []
    (version / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(kgm.UserError, match=r"cannot load .*/1: "):
        check_version(version)


@pytest.mark.slow
def test_the_check_finds_missing_files(exports, tmp_path):
    version = shutil.copytree(exports["wiener"][1], tmp_path / "1")
    extra = version / "assets.extra"
    (extra / warmup.FILE).unlink()
    description = read_description(version)
    one = {"denoise": description["signatures"]["denoise"]}
    (extra / "model.json").write_text(
        json.dumps({**description, "signatures": one})
    )
    assert check_version(version, sizes=(1, 2)).problems == [
        "there are no warm-up records"
    ]
    with pytest.raises(kgm.UserError, match="no version that `export` wrote"):
        check_version(tmp_path)
