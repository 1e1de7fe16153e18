"""Runs of several --seeds, and their evaluation."""

import types

import pytest
from support.app_runs import (
    assert_refused,
    assert_same_weights,
    contents,
    metrics,
    run,
    save_unlabelled,
    succeed,
)

from apps.cli import training_flags
from apps.cli.config import Config
from keras_genmodels.core.errors import UserError
from keras_genmodels.metrics.estimates import as_text
from keras_genmodels.reports.tables import SPREAD
from keras_genmodels.runs import seeds
from keras_genmodels.runs.description import RunDescription

TINY = (
    "--network=mlp",
    "--hidden_sizes=8",
    "--latent_size=3",
    "--jit_compile=false",
    "--epochs=1",
)


def test_each_seed_has_a_workdir_and_nothing_else_of_its_own(
    monkeypatch, tmp_path, capsys
):
    made, values = [], {"seed": 0, "seeds": (3, 1), "workdir": f"{tmp_path}"}
    config = Config(
        "train_vae",
        types.MappingProxyType({**values, "beta": 2.0}),
        types.MappingProxyType({}),
        frozenset(),
    )
    monkeypatch.setattr(
        training_flags,
        "_train",
        lambda build, config, *rest: made.append(config),
    )
    training_flags.train(None, config, strategy="strategy")
    for seed, one in zip((3, 1), made, strict=True):
        assert dict(one.values) == {
            "seed": seed,
            "seeds": None,
            "workdir": str(tmp_path / f"seed_{seed}"),
            "beta": 2.0,
        }
    assert f"apps.evaluate --workdir={tmp_path}" in capsys.readouterr().out
    one = made[0]
    training_flags.train(None, one, strategy="strategy")
    assert made[-1] is one
    folder = seeds.workdir_of(tmp_path, 3)
    folder.mkdir()
    description = RunDescription("VAE", "digits", "5 images")
    description.write(folder / "run.json")
    with pytest.raises(UserError, match="seed_3: give another"):
        training_flags.train(
            None, one.replace(workdir=f"{tmp_path}"), strategy="strategy"
        )
    assert made[-1] is one


@pytest.mark.slow
def test_each_seed_makes_a_run_and_evaluate_averages_them(tmp_path):
    flags = [save_unlabelled(tmp_path / "images.npz"), *TINY]
    several = [f"--workdir={tmp_path / 'runs'}", "--seeds=0,5", *flags]
    said = succeed(run("train_vae", *several))
    folders = [tmp_path / "runs" / name for name in ("seed_0", "seed_5")]
    assert all(f"Results in {folder}" in said for folder in folders)
    alone = tmp_path / "alone"
    succeed(run("train_vae", f"--workdir={alone}", "--seed=5", *flags))
    assert_same_weights(alone, folders[1])
    before = contents(tmp_path / "runs")
    again = succeed(run("train_vae", *several))
    assert again.count("This run is finished") == 2
    assert contents(tmp_path / "runs") == before
    process = run("train_vae", f"--workdir={alone}", "--seeds=1", *flags)
    assert_refused(process, "train_vae", "a run of its own")

    where = f"--workdir={tmp_path / 'runs'}"
    few = ["--num_images=20", "--num_samples=3"]
    said = succeed(run("evaluate", where, *few))
    each = [
        metrics(folder)["evaluation"]["sections"]["likelihood"]["measures"]
        for folder in folders
    ]
    found = metrics(tmp_path / "runs")["evaluation"]["sections"]["likelihood"]
    elbo = found["measures"]["elbo"]
    one, other = (measures["elbo"]["value"] for measures in each)
    assert elbo["value"] == pytest.approx((one + other) / 2)
    spread = elbo["references"][SPREAD]["value"]
    assert spread == pytest.approx(abs(one - other) / 2**0.5)
    assert as_text(elbo["value"], elbo["standard_error"]) in said
    assert (tmp_path / "runs" / "report.html").exists()
    process = run("evaluate", where, "--shard=0/2", *few)
    assert_refused(process, "evaluate", "several seeds")
    process = run("generate", where, f"--output={tmp_path / 'x.png'}")
    assert_refused(process, "generate", "several seeds")
