"""The benchmark of serving."""

import pytest
from support.app_runs import run_python


@pytest.mark.exhaustive
def test_the_benchmark_finds_no_answer_lost():
    process = run_python(
        *("benchmarks/serving.py", "--requests=50", "--warmup=50")
    )
    assert process.returncode == 0, process.stderr
    assert "50 of 50 requests answered to 8 clients" in process.stdout
    assert "one at a time" in process.stdout


@pytest.mark.parametrize(("after", "status"), [(119, 0), (121, 1)])
def test_growing_memory_ends_the_benchmark(after, status):
    script = (
        "from benchmarks import serving; "
        f"serving.check_memory(before=100, after={after})"
    )
    process = run_python("-c", script)
    assert process.returncode == status
    assert ("memory grew by 21.0 MB" in process.stderr) == bool(status)
