"""The app train_hvae, and all that other apps do with its run."""

import numpy as np
import pytest
from support.app_runs import (
    SIDE,
    measures,
    metrics,
    picture,
    run,
    save_unlabelled,
    succeed,
)

from keras_genmodels.runs.workdir import Workdir

TINY = (
    "--network=gated_mlp",
    "--hidden_sizes=16,12",
    "--latent_sizes=3,2",
    "--jit_compile=false",
    "--epochs=1",
)


@pytest.mark.slow
def test_a_run_of_two_layers_is_made_and_left_as_it_is(tmp_path):
    flags = [
        f"--workdir={tmp_path / 'run'}",
        save_unlabelled(tmp_path / "images.npz"),
        *TINY,
    ]
    succeed(run("train_hvae", *flags))
    model = Workdir(tmp_path / "run").load_model()
    assert model.latent_sizes == (3, 2)
    information = measures(tmp_path / "run", "likelihood")["information"]
    log_num = information["references"]["log N"]["value"]
    assert -1 < information["value"] <= log_num
    assert "finished" in succeed(run("train_hvae", *flags))


@pytest.mark.slow
def test_a_run_is_evaluated_generated_from_encoded_and_exported(tmp_path):
    workdir, images = tmp_path / "run", save_unlabelled(tmp_path / "images.npz")
    flags = [f"--workdir={workdir}"]
    train = [*flags, *TINY, images, "--prior=vamp", "--num_pseudo_inputs=20"]
    succeed(run("train_hvae", *train))
    model = Workdir(workdir).load_model()
    assert model.latent_sizes == (3, 2)
    test = measures(workdir, "likelihood")
    assert test["latent_size"]["value"] == 5
    assert test["elbo"]["value"] < test["log_likelihood"]["value"]
    names = {path.stem for path in (workdir / "figures").glob("*.png")}
    assert names == {"reconstructions", "samples", "interpolation"}

    few = ["--num_images=20", "--num_samples=10"]
    said = succeed(run("evaluate", *flags, *few))
    sections = metrics(workdir)["evaluation"]["sections"]
    found = sections["likelihood"]["measures"]
    assert found["latent_size"]["value"] == 5
    assert found["inference_gap"]["label"] in said

    sheet = tmp_path / "samples.png"
    succeed(
        run(
            "generate",
            f"--workdir={workdir}",
            "--num_images=4",
            f"--output={sheet}",
        )
    )
    assert np.ptp(picture(sheet)) > 0
    codes = tmp_path / "z.npz"
    succeed(run("encode", f"--workdir={workdir}", f"--output={codes}"))
    encoded = np.load(codes)
    assert {*encoded} == {"z"}
    assert encoded["z"].shape == (30, 5)
    images = model.decode(encoded["z"][:2]).mean()
    assert images.shape == (2, SIDE, SIDE, 1)
    exports = tmp_path / "exports"
    succeed(
        run(
            "export",
            f"--workdir={workdir}",
            "--name=hvae",
            f"--export_dir={exports}",
            "--nowarmup",
        )
    )
    assert (exports / "hvae" / "1" / "saved_model.pb").exists()
