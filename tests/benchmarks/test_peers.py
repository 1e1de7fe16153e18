"""The benchmark against PyTorch."""

import importlib.util

import pytest
from support.app_runs import run_python

TABLE = """
from absl import flags
from benchmarks import peers
flags.FLAGS(["peers"])
rows = {
    "vae": {"keras": [30, 10, 20], "pytorch": [20, 20, 10], "pythae": [5] * 3},
    "forward_float32": {"keras": [4] * 3},
}
print(peers.table(rows, ["keras", "pytorch", "pythae"]))
print(*peers.left_out({"pythae": "pythae"}))
"""


def test_ratios_are_to_the_fastest_peer():
    process = run_python("-c", TABLE)
    assert process.stdout.splitlines() == [
        "| images/s | this package | PyTorch | pythae | ratio to the fastest "
        "peer |",
        "|---|---|---|---|---|",
        "| VAE, training, float32 | 20 | 20 | 5 | 1.50 (0.50 to 2.00) |",
        "| U-Net, forward, float32 | 4 | - | - | - |",
        "Left out, with what is not installed: pythae (pythae).",
    ]
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_all_tasks_are_measured_and_missing_peers_named():
    process = run_python(
        *("benchmarks/peers.py", "--rounds=1", "--seconds=0.001"),
        *("--batch_size=2", "--filters=4,8", "--blocks=1", "--vae_steps=2"),
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert sum(line.startswith(("| U-Net", "| VAE")) for line in lines) == 5
    assert "tensorflow 2." in process.stdout
    for package in ("torch", "pythae"):
        is_missing = importlib.util.find_spec(package) is None
        assert (f"({package})" in lines[-1]) == is_missing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--write", "--blocks=1"], "leave out --blocks"),
        (["--write", "--tasks=vae"], "leave out --tasks"),
        (["--tasks=vae", "--filters=4,8"], "--filters has no effect"),
    ],
)
def test_a_table_of_other_sizes_is_not_written(flags, message):
    process = run_python("benchmarks/peers.py", *flags)
    assert process.returncode == 1
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
