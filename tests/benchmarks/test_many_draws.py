"""Bounds by many draws that are known of some images only."""

import re

import numpy as np
import pytest
from absl import flags

from benchmarks import many_draws

flags.FLAGS(["many_draws"])


def save(path, values, first=0):
    rows = np.array([first, first + len(values), 50])
    np.savez(path, **{many_draws.NAME: values, "shard_rows": rows})
    return str(path)


def test_the_gain_of_some_images_is_that_of_all(tmp_path, capsys):
    few = np.random.default_rng(0).normal(-20, 3, 50)
    paths = [
        save(tmp_path / "few.npz", few),
        save(tmp_path / "many.npz", few[:10] + 0.5),
    ]
    many_draws.report(*paths)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "gain by many draws: 0.500 ± 0.000, 10 images"
    found, error = map(float, re.findall(r"[\d.]+", lines[2]))
    assert found == pytest.approx(-few.mean() - 0.5, abs=1e-3)
    assert error == pytest.approx(few.std(ddof=1) / np.sqrt(50), abs=1e-3)


def test_both_files_must_be_given():
    with pytest.raises(SystemExit, match="takes two files"):
        many_draws.main([])


def test_files_that_are_no_pair_are_refused(tmp_path):
    few = save(tmp_path / "few.npz", np.zeros(5))
    many = save(tmp_path / "many.npz", np.zeros(9))
    later = save(tmp_path / "later.npz", np.zeros(3), first=5)
    for paths, text in (
        ([few, many], "9 images, more than the 5"),
        ([few, later], "of the first images"),
    ):
        with pytest.raises(SystemExit, match=text):
            many_draws.report(*paths)
