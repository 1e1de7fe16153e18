"""The benchmark of generated images measures any walk of a run."""

import re

import pytest
from support.app_runs import run, run_python, succeed


@pytest.mark.slow
def test_a_white_start_lacks_the_variance_of_the_data(tmp_path):
    """At the level 1.5 the noisy data are still wider than N(m, sigma^2 I)."""
    flags = "--for=restoring", "--network=mlp", "--epochs=30"
    succeed(run("train_dae", *flags, f"--workdir={tmp_path / 'run'}"))
    kept = {}
    for flag in ("--nowhite_start", "--white_start"):
        process = run_python(
            *("benchmarks/generated_images.py", f"--workdir={tmp_path}/run"),
            *("--num_images=400", "--solver=euler", "--num_steps=50"),
            *("--rounds=1", flag),
        )
        assert process.returncode == 0, process.stderr
        assert "360 samples and as many images" in process.stdout
        for name in ("Precision", "Coverage", "Frechet classifier distance"):
            pattern = rf"{name}: \S+ \+- \S+ \(test images \S+\)"
            assert re.search(pattern, process.stdout)
        kept[flag] = float(re.search(r"in all (\S+)", process.stdout).group(1))
    assert kept["--white_start"] < 0.9 * kept["--nowhite_start"] < 1


@pytest.mark.slow
def test_a_model_of_labels_draws_by_those_of_the_test_images(tmp_path):
    """Strong guidance makes images whose label a classifier finds."""
    flags = "--network=mlp", "--condition=label", "--epochs=10"
    succeed(run("train_dae", *flags, f"--workdir={tmp_path / 'run'}"))
    benchmark = "benchmarks/generated_images.py", f"--workdir={tmp_path}/run"
    process = run_python(*benchmark, "--num_images=200", "--rounds=1")
    assert process.returncode == 0, process.stderr
    shares = {
        name: [float(share) for share in found.split()]
        for name, found in re.findall(
            r"labels of (\w+), %: (.*)", process.stdout
        )
    }
    for drawn, real in zip(shares["samples"], shares["test"], strict=True):
        assert abs(drawn - real) < 8
    too_many = run_python(*benchmark, "--num_images=361")
    assert too_many.returncode == 1
    assert too_many.stderr.endswith("--num_images: there are 360 test labels\n")
