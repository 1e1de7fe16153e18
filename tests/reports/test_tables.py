"""Tables of the evaluations of one run and of several."""

import math

from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics.estimates import Estimate
from keras_genmodels.reports import tables as evaluation_tables


def tables_of(**runs):
    evaluations = {
        name: {"sections": {k: section.as_dict() for k, section in run.items()}}
        for name, run in runs.items()
    }
    return evaluation_tables.tables(evaluations)


def denoising(value, exact=17.0, notes=()):
    references = {"noisy": Estimate(12.1, 0.1), "exact": Estimate(exact, 0.1)}
    measure = Measure(
        "PSNR", Estimate(value, 0.1), "Higher is better.", "dB", references
    )
    return Section(
        "Denoising",
        {"psnr": measure},
        ["50 test images.", *notes],
        ["References: noisy and exact."],
    )


def samples(value):
    references = {"noise": Estimate(0.0, 0.01)}
    measure = Measure(
        "Precision", Estimate(value, 0.02), "1 is best.", "", references
    )
    return Section("Samples", {"precision": measure})


def test_a_run_has_a_column_and_so_have_its_references():
    (table,) = tables_of(a={"denoising": denoising(18.0)})
    assert table.header == ["a", "noisy", "exact"]
    assert table.notes == ["50 test images.", "References: noisy and exact."]
    (row,) = table.rows
    assert row.label == "PSNR, dB"
    assert row.cells == ["18.00 ± 0.10", "12.10 ± 0.10", "17.00 ± 0.10"]


def test_a_section_has_columns_of_the_runs_that_have_it():
    one = {"denoising": denoising(18.0), "samples": samples(0.5)}
    first, second = tables_of(a=one, b={"samples": samples(0.6)})
    assert first.header == ["a", "noisy", "exact"]
    assert second.header == ["a", "b", "noise"]
    assert second.rows[0].cells[:2] == ["0.500 ± 0.020", "0.600 ± 0.020"]


def test_references_and_their_notes_are_left_out_where_runs_differ():
    other = denoising(18.0, exact=18.0, notes=["Another note."])
    (table,) = tables_of(
        a={"denoising": denoising(18.0)}, b={"denoising": other}
    )
    assert table.header == ["a", "b", "noisy"]
    assert table.notes == ["50 test images.", "b: Another note."]


def test_sections_of_different_keys_have_separate_tables():
    kinds = ("Likelihood of 256 levels", "Density of grey values")
    elbo = {"elbo": Measure("Elbo", Estimate(-20.0, 1.0), "Higher.", "nats")}
    runs = {
        name: {"likelihood": Section(kind, elbo, key=kind[:7])}
        for name, kind in zip("ab", kinds, strict=True)
    }
    found = [(table.title, table.header) for table in tables_of(**runs)]
    assert found == [(kinds[0], ["a"]), (kinds[1], ["b"])]


def test_sections_of_equal_keys_share_a_table_whatever_their_titles():
    old = {**samples(0.5).as_dict(), "title": "Generated images"}
    runs = {"a": samples(0.4).as_dict(), "b": old}
    evaluations = {k: {"sections": {"samples": v}} for k, v in runs.items()}
    (table,) = evaluation_tables.tables(evaluations)
    assert table.header == ["a", "b", "noise"]
    del runs["a"]["key"], runs["b"]["key"]
    assert len(evaluation_tables.tables(evaluations)) == 2


def test_infinite_numbers_are_written_as_such():
    """Such as the PSNR of a perfect denoiser."""
    values = [math.inf, -math.inf, math.nan, 2.5]
    measures = {
        f"psnr/{row}": Measure("PSNR", Estimate(value), "Why.")
        for row, value in enumerate(values)
    }
    (table,) = tables_of(a={"x": Section("Denoising", measures)})
    cells = [row.cells for row in table.rows]
    assert cells == [["infinite"], ["-infinite"], ["not finite"], ["2.5"]]


def test_a_table_is_aligned_in_a_terminal():
    found = tables_of(a={"samples": samples(0.5)}, b={"samples": samples(1.0)})
    lines = evaluation_tables.as_text(found).splitlines()
    assert lines == [
        "Samples",
        "                       a              b          noise",
        "Precision  0.500 ± 0.020  1.000 ± 0.020  0.000 ± 0.010",
    ]
