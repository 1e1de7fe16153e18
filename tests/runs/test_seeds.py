"""Runs of several seeds in one folder, averaged."""

import dataclasses

import numpy as np
import pytest

from keras_genmodels.core.errors import UserError
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics.estimates import Estimate
from keras_genmodels.reports import tables
from keras_genmodels.runs import seeds
from keras_genmodels.runs.description import RunDescription
from keras_genmodels.runs.workdir import Workdir

VALUES = {"elbo": [-3.0, -5.0, -1.0], "size": [2, 2, 2]}


def evaluation(i, **more):
    measures = {
        name: Measure(
            name,
            Estimate(float(values[i]), 0.5),
            "A meaning.",
            "nats",
            {"log N": Estimate(7.0, 0.1), "real": Estimate(float(i))},
        )
        for name, values in {**VALUES, **more}.items()
    }
    section = Section("Title", measures, [f"Note {i}.", "All."], [], "key")
    return {
        "settings": {"num_images": 9},
        "kind": "VAE",
        "dataset": "digits",
        "num_images": {"test": 9},
        "test_images": "abcd",
        "seconds": 1.5,
        "sections": {"likelihood": section.as_dict()},
    }


def runs(folder):
    for name in ("seed_10", "seed_2", "seed_0", "seed_x", "figures"):
        (folder / name).mkdir()
    return seeds.runs_in(folder)


def test_runs_of_seeds_are_found_by_their_names_in_order(tmp_path):
    names = [run.path.name for run in runs(tmp_path)]
    assert names == ["seed_0", "seed_2", "seed_10"]
    assert seeds.workdir_of(tmp_path, 2) == tmp_path / "seed_2"
    seeds.check_folder(tmp_path)
    with pytest.raises(UserError, match="several seeds: give one of them"):
        Workdir(tmp_path).load_model()
    # A run that has such folders is a run.
    (tmp_path / "flags.txt").write_text("--dataset=digits\n")
    assert seeds.runs_in(tmp_path) == []
    assert seeds.runs_in(tmp_path / "none") == []
    with pytest.raises(UserError, match="a run of its own"):
        seeds.check_folder(tmp_path)


def test_a_measure_is_the_mean_over_runs_with_its_error_and_spread(tmp_path):
    group = runs(tmp_path)
    found = seeds.averaged(group, [evaluation(i) for i in range(3)])
    section = found["sections"]["likelihood"]
    elbo, size = (section["measures"][name] for name in VALUES)
    assert elbo["value"] == -3
    assert elbo["standard_error"] == pytest.approx(2 / np.sqrt(3))
    assert elbo["references"][tables.SPREAD]["value"] == 2
    assert elbo["references"]["log N"] == Estimate(7.0, 0.1).as_dict()
    assert elbo["references"]["real"]["value"] == 1
    assert (size["value"], size["standard_error"]) == (2, None)
    assert size["references"][tables.SPREAD]["value"] == 0
    first, *notes = section["notes"]
    assert "3 runs (seed_0, seed_2, seed_10)" in first
    assert notes == ["All."]
    text = tables.as_text(tables.tables({"runs": found}))
    assert tables.SPREAD in text
    assert "-3.0 ± 1.2" in text
    seeds.write(tmp_path, found)
    written = Workdir(tmp_path).read_metrics()
    assert written["evaluation"]["sections"] == found["sections"]
    assert written["runs"] == ["seed_0", "seed_2", "seed_10"]
    assert len(seeds.runs_in(tmp_path)) == 3


def test_each_of_several_averages_has_its_spread(tmp_path):
    group = runs(tmp_path)
    one = seeds.averaged(group, [evaluation(i) for i in range(3)])
    other = seeds.averaged(group, [evaluation(i) for i in (0, 0, 1)])
    (table,) = tables.tables({"a": one, "alone": evaluation(1), "b": other})
    spreads = [f"{name}: {tables.SPREAD}" for name in "ab"]
    a, b = spreads
    assert table.header == ["a", a, "alone", "b", b, "log N"]
    elbo = dict(zip(table.header, table.rows[0].cells, strict=True))
    assert [elbo[name] for name in spreads] == ["2", "1.155"]


def test_sections_of_different_keys_have_no_mean(tmp_path):
    parts = [evaluation(i) for i in range(3)]
    parts[1]["sections"]["likelihood"]["key"] = "another"
    assert seeds.averaged(runs(tmp_path), parts)["sections"] == {}


def test_folders_of_one_name_are_named_by_their_paths(tmp_path):
    groups, evaluations = {}, {}
    for parent in ("a", "b"):
        folder = tmp_path / parent / "runs"
        folder.mkdir(parents=True)
        groups[str(folder)] = runs(folder)[:1]
        evaluations[f"{folder}/seed_0"] = evaluation(len(evaluations))
    groups["alone"], evaluations["alone"] = [], evaluation(2)
    found = seeds.averages(groups, evaluations)
    assert [*found] == [*groups]
    elbos = [
        it["sections"]["likelihood"]["measures"]["elbo"]["value"]
        for it in found.values()
    ]
    assert elbos == VALUES["elbo"]
    del groups["alone"], evaluations["alone"]
    path, group = groups.popitem()
    assert [*seeds.averages({path: group}, evaluations)] == ["runs"]


@pytest.mark.parametrize(
    "change",
    [{"epochs": 4}, {"settings": {"beta": 1.0}}, {"kind": "ConditionalVAE"}],
)
def test_runs_that_differ_in_more_than_the_seed_have_no_mean(tmp_path, change):
    group = runs(tmp_path)
    first = RunDescription(
        "VAE", "digits", "5 images", epochs=3, settings={"beta": 2.0}
    )
    for seed, run in enumerate(group):
        dataclasses.replace(first, seed=seed).write(run.run)
    seeds.check_alike(group)
    (tmp_path / "seed_11").mkdir()
    with pytest.raises(UserError, match="seed_11 was not begun"):
        seeds.check_alike(seeds.runs_in(tmp_path))
    dataclasses.replace(first, seed=9, **change).write(group[-1].run)
    (name,) = change
    with pytest.raises(UserError, match=rf"seed_10 differs .*(beta|{name})="):
        seeds.check_alike(group)


def test_a_measure_that_a_run_lacks_or_that_is_infinite_has_no_mean(tmp_path):
    parts = [evaluation(i, odd=[np.inf, -np.inf, 1]) for i in range(3)]
    del parts[1]["sections"]["likelihood"]["measures"]["size"]
    found = seeds.averaged(runs(tmp_path), parts)
    measures = found["sections"]["likelihood"]["measures"]
    assert {*measures} == {"elbo", "odd"}
    assert measures["odd"]["value"] is None
    assert "infinite" not in measures["odd"]
    alone = seeds.averaged(seeds.runs_in(tmp_path)[:1], parts[:1])
    measures = alone["sections"]["likelihood"]["measures"]
    assert measures["elbo"]["value"] == -3
    assert measures["elbo"]["standard_error"] is None
    assert tables.SPREAD not in measures["elbo"]["references"]
