"""Evaluations as tables, of one run and of several."""

import copy
import dataclasses
import math

from support.evaluated_runs import (
    digits,
)
from support.small_vaes import make_vae

from keras_genmodels.evaluation import latent, samples, sections
from keras_genmodels.metrics import estimates
from keras_genmodels.reports import tables as evaluation_tables


def tables_of(**evaluations):
    return {t.title: t for t in evaluation_tables.tables(evaluations)}


def test_tables_show_the_references_that_all_have_alike(evaluated):
    one, other = evaluated("linear")[1], evaluated("vae")[1]
    references = ["noisy", "V V'", "Wiener", "exact"]
    denoising = tables_of(this=one)["Denoising"]
    assert denoising.header == ["this", *references]
    assert "Ranks of V V'" in " ".join(denoising.notes)
    tables = tables_of(a=one, b=other)
    assert tables["Denoising"] == dataclasses.replace(
        denoising, header=["a", *references]
    )
    assert tables["Samples"].header == ["a", "b", "test images", "noise"]
    changed = copy.deepcopy(one)
    for measure in changed["sections"]["denoising"]["measures"].values():
        if "exact" in measure["references"]:
            measure["references"]["exact"]["value"] += 1
    changed["sections"]["denoising"]["notes"] = ["Of its own."]
    denoising = tables_of(a=one, b=changed)["Denoising"]
    assert denoising.header == ["a", "b", *references[:-1]]
    told = [note for note in denoising.notes if ": " in note]
    assert told[0].startswith("a: Over 50 test images")
    assert "b: Of its own." in told
    # What is beside it is told only if it is.
    assert not any("exact posterior mean" in note for note in denoising.notes)


def test_numbers_that_do_not_compare_stand_in_tables_of_their_own(evaluated):
    drawn = evaluated("vae")[1]
    model = make_vae(likelihood="gaussian")
    split = samples.first(digits().test, 20)
    section = latent.bounds(
        model, split, binarization="none", num_samples=3, seed=0
    )
    density = {"sections": {"likelihood": section.as_dict()}}
    likelihood, other, *_ = evaluation_tables.tables({"a": drawn, "b": density})
    assert likelihood.title == "Likelihood of drawn pixels"
    assert likelihood.header == ["a"]
    assert other.title == "Density of grey values"
    assert other.header == ["b"]


def test_what_is_infinite_is_told():
    """As the PSNR of a perfect denoiser."""
    values = [math.inf, -math.inf, math.nan, 2.5]
    found = {
        f"psnr/{row}": sections.Measure("PSNR", estimates.Estimate(x), "Why.")
        for row, x in enumerate(values)
    }
    section = sections.Section("Denoising", found).as_dict()
    (table,) = evaluation_tables.tables({"a": {"sections": {"x": section}}})
    cells = [row.cells for row in table.rows]
    assert cells == [["infinite"], ["-infinite"], ["not finite"], ["2.5"]]


def test_a_table_is_aligned_in_a_terminal(evaluated):
    tables = tables_of(a=evaluated("linear")[1], b=evaluated("vae")[1])
    text = evaluation_tables.as_text([*tables.values()])
    precision = next(r for r in tables["Samples"].rows if "Prec" in r.label)
    (line,) = [s for s in text.splitlines() if s.startswith("Precision")]
    assert all(cell in line for cell in precision.cells)
