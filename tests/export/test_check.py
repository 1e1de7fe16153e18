"""What the check of an exported version tries, and what it would find."""

import json

import pytest
from support.exported_models import DATA, WALK, make

import keras_genmodels as kgm
from keras_genmodels.export import (
    check,
    example_requests,
    export,
    read_description,
)
from keras_genmodels.export.check import check_version
from keras_genmodels.export.loader import RunError
from keras_genmodels.export.replay import replay


def test_the_check_tries_what_it_can(exports):
    description = read_description(exports["wiener"][1])
    tried = {
        (wrong.field, wrong.what)
        for wrong in example_requests.wrong_inputs(description)
        if wrong.signature == "denoise"
    }
    assert tried == {
        *(("image", f"{what} rows") for what in ("no", "too many")),
        *(("image", what) for what in ("another rank", "another size")),
        *(("image", what) for what in ("nan", "inf")),
        *(("sigma", what) for what in ("another rank", "too few rows")),
        *(("sigma", what) for what in ("nan", "0", "-1", "inf")),
    }
    description["settings"]["max_rows"] = 2**31 - 1
    assert all(
        wrong.what != "too many rows"
        for wrong in example_requests.wrong_inputs(description)
    )


def test_the_check_finds_another_model_and_rows_that_depend_on_others(
    exports, monkeypatch
):
    def uneven(*args):
        answers = replay(*args)
        for answer in answers:
            if not isinstance(answer, RunError) and len(answer) == 1:
                (values,) = answer.values()
                values += 2e-5 * (len(values) == 257)
        return answers

    monkeypatch.setattr(check, "replay", uneven)
    version = exports["wiener"][1]
    other = kgm.LinearDenoiser()
    other.adapt(DATA[::-1] ** 2)
    problems = check_version(version, other).problems
    assert {told.rpartition("(")[2] for told in problems} == {
        "to eager)",
        "rows alone)",
    }
    with pytest.raises(kgm.UserError, match="made from a LinearDenoiser"):
        check_version(version, make("exact"))


def test_the_check_of_rows_one_by_one_finds_missing_files(tmp_path):
    (tmp_path / "batching.config").write_text(
        "max_batch_size { value: 1 }\nallowed_batch_sizes: 1\n"
    )
    model = make("rank")
    version = export(model, tmp_path, "name", max_rows=1, warmup=False, **WALK)
    assert check_version(version, model).problems == []
    told = version / "assets.extra" / "model.json"
    description = read_description(version)
    # One signature is enough to look for them.
    description["signatures"] = {
        "denoise": description["signatures"]["denoise"]
    }
    told.write_text(json.dumps({**description, "warmup": True}))
    report = check_version(version)
    assert report.problems == ["there are no warm-up records"]
    with pytest.raises(kgm.UserError, match="no version that `export` wrote"):
        check_version(tmp_path)
    (version / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(kgm.UserError, match=r"can't load .*/1: "):
        check_version(version)
