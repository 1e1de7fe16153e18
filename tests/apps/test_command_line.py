"""What every app does before and after its work: help, wrong flags, silence."""

import resource
import shutil

import numpy as np
import pytest
from support.app_runs import (
    ROOT,
    assert_refused,
    run_each_without_tensorflow,
    run_python,
    run_without_tensorflow,
    succeed,
)

from apps.cli import guard
from keras_genmodels.core.errors import UserError

# Flags of paths, by app.
PATHS = {
    "train_vae": ("workdir", "data_dir", "init_from"),
    "train_cvae": ("workdir", "data_dir", "init_from"),
    "train_hvae": ("workdir", "data_dir", "init_from"),
    "train_dae": ("workdir", "data_dir", "init_from"),
    "evaluate": ("workdir", "data_dir", "output"),
    "generate": ("workdir", "data_dir", "input", "output", "trajectory"),
    "encode": ("workdir", "data_dir", "input", "output"),
    "restore": ("workdir", "data_dir", "input", "output"),
    "export": ("workdir", "export_dir", "check"),
    "serve": ("export_dir",),
    "query": ("input", "output"),
}


def seconds_of_children():
    """Returns the processor seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("app", PATHS)
def test_help_is_printed_within_a_second_without_tensorflow(app):
    before = seconds_of_children()
    text = succeed(run_without_tensorflow(app, "--help"))
    # The machine may be busy.
    assert seconds_of_children() - before < 1
    assert f"python -m apps.{app}" in text
    assert f"--{PATHS[app][0]}" in text


WRONG = {
    "train_vae": [
        (["--nonsense=1"], "--help"),
        (["digits"], "flags"),
        (["--epochs=0"], "positive"),
        (["--latent_size=0"], "positive"),
        (["--beta=nan"], "number"),
        (["--image_size=abc"], "integers"),
        (["--likelihood=foo"], "discretized_logistic"),
        (["--observation_stddev=0.1"], "requires --likelihood=gaussian"),
        (["--hidden_sizes=20"], "requires --network=mlp"),
        (["--filters=8", "--network=mlp"], "requires --network=conv or resnet"),
        (["--residual_blocks=2"], "requires --network=resnet"),
        (["--residual_blocks=-1", "--network=resnet"], ">= 0"),
        (["--hidden_sizes=8", "--network=resnet"], "requires --network=mlp"),
        (["--doubly_reparameterized"], "--num_importance_samples above 1"),
        (
            ["--beta=0.5", "--num_importance_samples=5"],
            "requires --num_importance_samples=1",
        ),
        (
            ["--early_stopping_patience=1", "--validation_split=0"],
            "requires --validation_split",
        ),
        (["--num_couplings=2", "--prior=vamp"], "requires --prior=flow"),
        (["--prior=flow", "--latent_size=1"], "requires --latent_size"),
        (["--free_bits=1", "--prior=flow"], "requires --prior=standard"),
        (["--free_bits=1", "--beta=0"], "--beta above 0"),
        (["--rate_warmup_steps=9", "--beta=0"], "--beta above 0"),
        (["--free_bits=1", "--posterior=full"], "--posterior=diagonal"),
        (
            ["--free_bits=1", "--num_importance_samples=2"],
            "requires --num_importance_samples=1",
        ),
        (["--seeds=0,0"], "different seeds"),
        (["--seed=1", "--seeds=0,1"], "excludes --seeds"),
        (["--strategy=gpus"], "multi_worker"),
        (["--tpu_address=local"], "requires --strategy=tpu"),
    ],
    "train_hvae": [
        (["--latent_sizes=8"], "two or more"),
        (["--latent_sizes=8,0"], "positive"),
        (["--prior=flow", "--latent_sizes=8,1"], "last of --latent_sizes"),
        (["--num_couplings=2"], "requires --prior=flow"),
        (["--num_logistics=2"], "requires --likelihood=logistic_mixture"),
        (
            ["--free_bits=1", "--num_importance_samples=2"],
            "requires --num_importance_samples=1",
        ),
    ],
    "train_cvae": [
        (["--num_quadrants=4"], "[1, 3]"),
        (["--num_quadrants=2"], "requires --condition=quadrants"),
        (["--condition=left"], "quadrants"),
        (["--label_dropout=1"], "0.99"),
        (
            ["--label_dropout=0.1", "--condition=quadrants"],
            "requires --condition=label",
        ),
        (
            ["--prior=vamp", "--condition=quadrants"],
            "requires --condition=label",
        ),
        (
            ["--likelihood=logistic_mixture", "--condition=quadrants"],
            "requires --condition=label",
        ),
        (["--num_components=2"], "requires --prior=mixture"),
        (["--free_bits=1", "--prior=learned"], "requires --prior=standard"),
    ],
    "train_dae": [
        (["--sigma=2,1"], "LOWEST,HIGHEST"),
        (["--sigma=0"], "> 0"),
        (["--sigma=nan"], "finite"),
        (["--blind", "--sigma=0.1"], "LOWEST,HIGHEST"),
        (["--rank=3"], "requires --denoiser=linear"),
        (["--denoiser=exact", "--nocenter"], "requires --denoiser=linear"),
        (["--hidden_sizes=8"], "requires --network=mlp"),
        (["--num_noise_draws=0"], "positive"),
        (["--epochs=3", "--denoiser=exact"], "requires --denoiser=learned"),
        (["--network=bias_free_unet"], "requires --blind"),
        (["--filters=8", "--network=mlp"], "requires --network=unet"),
        (["--for=restoring", "--sigma=0.1,1"], "--for excludes --sigma"),
        (["--for=restoring", "--blind"], "--for excludes --blind"),
        (
            ["--for=restoring", "--data_dir=x", "--patch_size=8"],
            "--for excludes --patch_size",
        ),
        (["--for=restoring", "--denoiser=exact"], "--for requires"),
        (["--for=restoring", "--latents_of=x"], "--for requires"),
        (["--stem_stride=2", "--latents_of=x"], "--stem_stride requires"),
        (["--stem_stride=3"], "must be a power of 2"),
        (
            ["--stem_stride=4", "--data_dir=x", "--patch_size=8"],
            "at least 16, as --filters has 3 levels after --stem_stride=4",
        ),
    ],
    "evaluate": [
        (["--workdir=b"], "--output"),
        (["--workdir=a", "--workdir=./a"], "twice"),
        (["--output=page.pdf"], ".html"),
        (["--num_images=3"], "20"),
        (["--shard=0/2", "--merge=a.npz"], "excludes --merge"),
        (["--shard=0/2", "--output=a.html"], ".npz"),
    ],
    "generate": [
        (["--num_images=0"], "positive"),
        (["--num_completions=0"], "positive"),
        (["--output=/x/a.jpg"], ".png or .npz"),
        (["--guidance=-1"], "non-negative"),
        (["--sigma=0.5"], "LOWEST,HIGHEST"),
        (["--stochasticity=1"], "0.999"),
        (["--solver=rk4"], "dpmpp_2m"),
        (["--trajectory=walk.png"], ".gif"),
        (["--output=/tmp/new/x.png", "--input=/tmp"], "lies in --input"),
        (["--shard=3"], "INDEX/COUNT"),
        (["--output=/x/a.png", "--shard=0/2"], ".npz with --shard"),
        (["--trajectory=walk.gif", "--shard=0/2"], "a run without --shard"),
        (["--merge=a.npz", "--output=c.npz"], "only --output"),
        (["--data_dir=/x", "--input=/y.png"], "requires --input=train"),
    ],
    "encode": [
        (["--output=/x/a.png"], ".npz"),
        (["--shard=16/16"], "such as 3/16"),
        (["--shard=3/0"], "such as 3/16"),
        (["--data_dir=/x", "--input=/y.png"], "requires --input=train"),
    ],
    "restore": [
        (["--sigma=-1"], "> 0"),
        (["--step_size=2"], "(0, 2)"),
        (["--step_size=0"], "(0, 2)"),
        (["--max_steps=0"], "positive"),
        (["--add_noise=-1"], "non-negative"),
        (["--tolerance=1e-3", "--step_size=1", "--max_steps=1"], "above 1"),
        (["--data_dir=/x", "--input=/y.png"], "requires --input=train"),
        (["--data_dir=/x", "--input=/y.npz"], "requires --input=train"),
        (["--white_level=0", "--input=/y.png"], "[1, 65535]"),
        (["--white_level=9"], "requires --input of pictures"),
        (["--white_level=9", "--input=/y.npz"], "requires --input of pictures"),
        (["--output=/tmp/restored", "--input=/tmp"], "lies in --input"),
    ],
}


@pytest.mark.parametrize("app", WRONG)
def test_a_wrong_flag_is_named_without_tensorflow(tmp_path, app):
    workdir = tmp_path / "workdir"
    commands = [[f"--workdir={workdir}", *flags] for flags, _ in WRONG[app]]
    runs = run_each_without_tensorflow(app, commands)
    for process, (flags, message) in zip(runs, WRONG[app], strict=True):
        name = flags[0].partition("=")[0].strip("-")
        assert_refused(process, app, name, message)
    assert not workdir.exists()


def test_errors_of_the_library_name_the_flag_of_an_argument():
    message = "max_pixels/max_pixels.png is large (max_pixels=9): max_pixels is"
    with (
        pytest.raises(UserError) as refused,
        guard.naming_flags("max_pixels", "seed"),
    ):
        raise UserError(message)
    assert str(refused.value) == (
        "max_pixels/max_pixels.png is large (--max_pixels=9): --max_pixels is"
    )


def test_results_that_would_replace_the_input_are_refused(tmp_path):
    for app, source, output in (
        ("restore", "out/images", "out"),
        ("restore", "out/images/a.png", "out"),
        ("restore", "out/steps.png", "out"),
        ("encode", "in.npz", "in.npz"),
        ("generate", "a.png", "./a.png"),
        ("generate", "a.npz", "a.npz"),
    ):
        process = run_without_tensorflow(
            app,
            f"--input={tmp_path / source}",
            f"--output={tmp_path}/{output}",
        )
        assert_refused(process, app, "--output would replace")


def test_results_may_not_join_the_pictures_of_a_url(tmp_path):
    process = run_without_tensorflow(
        "restore", f"--input={tmp_path.as_uri()}", f"--output={tmp_path}/out"
    )
    assert_refused(process, "restore", f"lies in --input={tmp_path}")


TRAIN = ["--dataset={}/x.npz", "--epochs=1", "--batch_size=8"]


@pytest.mark.parametrize(
    ("app", "flags"),
    [
        *(
            pytest.param(app, flags, marks=pytest.mark.slow)
            for app, flags in (
                ("train_dae", [*TRAIN, "--network=mlp"]),
                ("restore", ["--sigma=0.3", "--num_images=9", "--output={}/r"]),
                ("export", ["--name=vae", "--export_dir={}"]),
            )
        ),
        *(
            pytest.param(app, flags, marks=pytest.mark.exhaustive)
            for app, flags in (
                ("train_vae", TRAIN),
                (
                    "train_cvae",
                    [*TRAIN, "--condition=quadrants", "--network=mlp"],
                ),
                ("generate", ["--output={}/a.png"]),
                ("encode", ["--output={}/z.npz"]),
            )
        ),
    ],
)
def test_an_app_writes_nothing_to_standard_error(
    app, flags, finished, tmp_path
):
    """In a process of its own, which imports TensorFlow and compiles by XLA.

    For evaluate, test_evaluate.py checks it on a read-only run.
    """
    workdir = tmp_path / "workdir"
    if not app.startswith("train_"):
        kind = "learned" if app == "restore" else "vae"
        shutil.copytree(finished(kind), workdir)
    image = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", image=image)
    flags = [flag.format(tmp_path) for flag in flags]
    succeed(run_python("-m", f"apps.{app}", f"--workdir={workdir}", *flags))


@pytest.mark.parametrize(
    "app",
    [
        "train_vae",
        *(pytest.param(a, marks=pytest.mark.slow) for a in [*PATHS][1:]),
    ],
)
def test_a_remote_path_is_refused(app):
    for name in PATHS[app]:
        process = run_without_tensorflow(app, f"--{name}=s3://bucket/run")
        assert_refused(process, app, name, "s3 address")
    assert not (ROOT / "s3:").exists()
