"""The benchmark of lowered programs, of which JAX runs the second half."""

import importlib.util
import json
import lzma

import numpy as np
import pytest
from support.app_runs import ROOT, run_python

# Quick ones: with six sets of inputs, with class labels, one that changes
# variables, and one in bfloat16.
PROGRAMS = ("exact", "conditional", "vae_8", "forward_bfloat16_4")


@pytest.fixture
def arrays(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import accelerator_arrays

    return accelerator_arrays


@pytest.fixture
def runs(arrays):
    import accelerator_run

    return accelerator_run


def events(part, content, sigma=0.5):
    return {
        "kind": "events",
        "part": part,
        "content": content,
        "sigma": sigma,
        "num": 90,
        "side": 8,
        "batch_size": 4,
    }


def test_arrays_are_described_by_seeds_or_values(arrays):
    spec = {"kind": "normal", "shape": [40, 40], "seed": 3, "std": 2.0}
    value = arrays.make(spec)
    assert value.dtype == np.float32
    assert 1.9 < value.std() < 2.1
    np.testing.assert_array_equal(value, arrays.make(spec))
    for small in (np.arange(3), np.float32(0.1), np.zeros((2, 3), bool)):
        made = arrays.make(arrays.describe(small))
        assert made.dtype == small.dtype
        np.testing.assert_array_equal(made, small)
    with pytest.raises(ValueError, match="not made from a seed"):
        arrays.describe(value)


@pytest.mark.parametrize("content", ["near-duplicates", "bright images"])
def test_the_error_of_the_exact_denoiser_is_by_float64(arrays, content):
    data, noisy, sigma, mean, half_squares = (
        arrays.make(events(part, content))
        for part in ("data", "noisy", "sigma", "mean", "half_squares")
    )
    assert data.dtype == np.uint8
    np.testing.assert_array_equal(sigma, np.full(4, 0.5))
    values, flat = data / 255, noisy.reshape(4, -1).astype(np.float64)
    centred = values - mean.reshape(-1)
    np.testing.assert_allclose(half_squares, (centred**2).sum(1) / 2)
    distances = np.square(flat[:, None] - values).sum(-1)
    weights = np.exp(-(distances - distances.min(1, keepdims=True)) / 0.5)
    posterior = weights @ values / weights.sum(1, keepdims=True)
    assert arrays.posterior_error(posterior, data, noisy, 0.5) < 1e-12
    # One row is off by a tenth of the distance of the farthest image.
    farthest = np.linalg.norm(posterior[2] - values, axis=1).max()
    posterior[2, 5] += 0.1 * farthest
    error = arrays.posterior_error(posterior, data, noisy, 0.5)
    assert error == pytest.approx(0.1)


def test_outputs_are_compared_with_samples(arrays):
    value = np.arange(1000.0)
    expected = arrays.sample(value).tolist()
    assert len(expected) == 32
    assert arrays.difference(value, expected) == 0
    value[-1] += 99.9
    assert arrays.difference(value, expected) == pytest.approx(0.1)
    value[0] = np.nan
    assert arrays.difference(value, expected) == np.inf


def test_rows_have_the_median_and_replace_the_table_of_the_page(runs):
    row = runs.Row("a program", [0.5, 1e-3, 2e-3], 4e9, 0.02, 0.01)
    assert str(row) == "| a program | 2 | 2 | 2.0e-02 |"
    assert row.problem == "differs by 2.0e-02, allowed 0.01"
    assert row._replace(difference=0.01).problem is None
    assert row._replace(difference=np.nan).problem is not None
    assert "| - |" in str(row._replace(operations=None))


def test_a_folder_without_programs_is_refused(tmp_path):
    process = run_python("benchmarks/accelerator_run.py", str(tmp_path))
    assert process.returncode == 2
    assert "write it by accelerator.py --folder" in process.stderr


@pytest.fixture(scope="module")
def lowered(tmp_path_factory):
    """Lowers small programs; returns their folder and what is described."""
    folder = tmp_path_factory.mktemp("lowered")
    process = run_python(
        "benchmarks/accelerator.py",
        *("--small", f"--folder={folder}", f"--programs={','.join(PROGRAMS)}"),
    )
    assert process.returncode == 0, process.stderr
    return folder, json.loads((folder / "programs.json").read_text())


@pytest.mark.slow
def test_programs_are_lowered_and_described(lowered, arrays):
    folder, described = lowered
    assert described["failed"] == {}
    programs = dict(zip(PROGRAMS, described["programs"], strict=True))
    assert len(programs["exact"]["cases"]) == 6
    # Three layers each: weights and biases, and both moments of Adam.
    assert len(programs["vae_8"]["updates"]) >= 3 * 2 * 6
    assert programs["forward_bfloat16_4"]["updates"] == {}
    for program in programs.values():
        assert (folder / program["file"]).stat().st_size < 50_000
        for spec in program["inputs"]:
            assert np.isfinite(arrays.make(spec)).all()


@pytest.mark.exhaustive
def test_all_programs_are_lowered(tmp_path):
    process = run_python(
        "benchmarks/accelerator.py", "--small", f"--folder={tmp_path}"
    )
    assert process.returncode == 0, process.stdout
    assert len([*tmp_path.glob("*.xz")]) >= 18


needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed"
)


@needs_jax
@pytest.mark.slow
def test_jax_computes_the_same(lowered):
    folder, _ = lowered
    process = run_python("benchmarks/accelerator_run.py", folder, "--runs=1")
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    rows = [line.split(" | ") for line in lines if line.endswith(" |")][1:]
    assert len(rows) == len(PROGRAMS) + 5
    # Rounding; XLA's versions differ most in that of bfloat16.
    for title, *_, difference in rows:
        limit = 1e-2 if "bfloat16" in title else 1e-5
        assert float(difference.strip(" |")) < limit, title


@needs_jax
@pytest.mark.slow
def test_programs_that_fail_or_differ_are_named(lowered, tmp_path):
    folder, described = lowered
    programs = dict(zip(PROGRAMS, described["programs"], strict=True))
    conditional, forward = (
        programs[name] for name in ("conditional", "forward_bfloat16_4")
    )
    values = [value + 1 for value in conditional["outputs"][0]]
    content = {
        **described,
        "programs": [{**conditional, "outputs": [values]}, forward],
        "failed": {"another": "OverflowError: too large"},
    }
    (tmp_path / "programs.json").write_text(json.dumps(content))
    code = (folder / conditional["file"]).read_bytes()
    (tmp_path / conditional["file"]).write_bytes(code)
    (tmp_path / forward["file"]).write_bytes(lzma.compress(b"not a program"))
    process = run_python("benchmarks/accelerator_run.py", tmp_path, "--runs=1")
    assert process.returncode == 1
    failed = [
        line
        for line in process.stdout.splitlines()
        if line.startswith("Failed: ")
    ]
    assert failed[0] == "Failed: another: not lowered: OverflowError: too large"
    assert failed[1].startswith("Failed: 16 conditional samples: differs by")
    assert failed[2].startswith(f"Failed: {forward['title']}: ")
    for small, message in (
        (True, "programs of full"),
        (False, "an accelerator"),
    ):
        text = json.dumps({**content, "small": small})
        (tmp_path / "programs.json").write_text(text)
        refused = run_python(
            "benchmarks/accelerator_run.py", tmp_path, "--write"
        )
        assert f"--write requires {message}" in refused.stderr


@needs_jax
@pytest.mark.slow
def test_programs_without_time_are_named(lowered):
    folder, _ = lowered
    process = run_python("benchmarks/accelerator_run.py", folder, "--seconds=0")
    assert process.returncode == 0, process.stderr
    assert "Left out for lack of time: exact denoiser;" in process.stdout
