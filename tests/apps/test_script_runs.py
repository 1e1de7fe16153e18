"""Runs that a script made with `runs.train`, one of each family.

The tests of generate, encode, restore and evaluate use such runs, too.
"""

import pytest
from support.app_runs import run, succeed


@pytest.mark.parametrize(
    "kind", ["vae", "learned", pytest.param("linear", marks=pytest.mark.slow)]
)
def test_a_run_of_a_script_is_exported(finished, tmp_path, kind):
    said = succeed(
        run(
            "export",
            f"--workdir={finished(kind)}",
            "--name=model",
            f"--export_dir={tmp_path}",
            "--nowarmup",
        )
    )
    version = tmp_path / "model" / "1"
    assert str(version) in said
    assert (version / "saved_model.pb").exists()
