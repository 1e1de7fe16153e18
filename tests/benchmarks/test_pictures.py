"""The benchmark of large pictures runs, and measures what it names."""

import re

import pytest
from support.app_runs import run_python

LINE = re.compile(
    r"(\w+): (\S+) megapixels/s \((\S+) to (\S+)\), peak (\d+) MB"
)


@pytest.mark.slow
def test_tiles_and_non_local_means_are_timed_with_their_memory():
    process = run_python(
        *("benchmarks/pictures.py", "--megapixels=0.02", "--rounds=2"),
        *("--filters=2,4", "--blocks=1", "--max_pixels=9000"),
        "--only=keras,keras_bfloat16,nlm",
    )
    assert process.returncode == 0, process.stderr
    found = {line[0]: line[1:] for line in LINE.findall(process.stdout)}
    assert {*found} == {"keras", "keras_bfloat16", "nlm"}
    for median, lowest, highest, megabytes in found.values():
        assert 0 < float(lowest) <= float(median) <= float(highest)
        assert 0 < int(megabytes) < 2000
    differs = re.search(
        r"keras_bfloat16: \S+ times as fast as keras, its result differs by at "
        r"most (\S+)",
        process.stdout,
    )
    assert float(differs[1]) < 0.05
