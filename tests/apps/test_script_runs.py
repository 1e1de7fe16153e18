"""Runs that a script made with `runs.train`, one of each family.

The tests of generate, encode and restore use such runs, too.
"""

import functools
import json

import numpy as np
import pytest
from support.app_runs import run, succeed
from support.cheap_training import without_xla_and_figures
from support.evaluated_runs import SHAPE, digits
from support.small_vaes import make_vae

import keras_genmodels as kgm
from keras_genmodels import datasets, runs

pytestmark = pytest.mark.usefixtures("without_xla")

SLOW = pytest.mark.slow
TINY = {"epochs": 1, "jit_compile": False, "verbose": 0}


# The quick tests export runs that no script made, in test_export.py.
@SLOW
@pytest.mark.parametrize("kind", ["vae", "learned", "linear"])
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


def make_learned():
    network = kgm.mlp_denoiser(SHAPE, hidden_sizes=(8,))
    return kgm.DenoisingAutoencoder(network)


@pytest.mark.parametrize(
    ("make", "training", "section"),
    [
        pytest.param(make_vae, TINY, "likelihood", id="vae", marks=SLOW),
        pytest.param(make_learned, TINY, "denoising", id="learned", marks=SLOW),
        pytest.param(
            functools.partial(kgm.LinearDenoiser, rank=5),
            {},
            "denoising",
            id="linear",
            marks=SLOW,
        ),
    ],
)
def test_a_run_of_a_script_is_evaluated(tmp_path, make, training, section):
    """On images without labels, as it takes long to train a classifier."""
    np.savez(tmp_path / "x.npz", image=digits().train.images)
    workdir = runs.Workdir(tmp_path / "run")
    data = datasets.load(f"{tmp_path}/x.npz")
    with without_xla_and_figures():
        runs.train(make(), data, workdir, **training)
    succeed(run("evaluate", f"--workdir={workdir}", "--num_images=20"))
    metrics = json.loads(workdir.metrics.read_text())
    assert metrics["evaluation"]["sections"][section]["measures"]
    assert (workdir.path / "report.html").exists()
