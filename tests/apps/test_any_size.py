"""The apps on a run of a denoiser of images of any size."""

import numpy as np
import PIL.Image
import pytest
from support.app_runs import (
    assert_refused,
    run,
    run_without_tensorflow,
    succeed,
)
from support.evaluated_runs import digits
from support.html_page import Page

import keras_genmodels as kgm
from keras_genmodels import datasets, runs, serving

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run that a script made."""
    folder = tmp_path_factory.mktemp("any_size")
    np.savez(folder / "x.npz", image=digits().train.images)
    data = datasets.load(f"{folder}/x.npz")
    folder = runs.Workdir(folder / "run")
    network = kgm.unet((None, None, 1), filters=(4, 8), blocks=1)
    denoiser = kgm.DenoisingAutoencoder(network)
    runs.train(denoiser, data, folder, epochs=1, jit_compile=False, verbose=0)
    return folder


def restore(workdir, source, output, *flags):
    return run(
        "restore",
        f"--workdir={workdir}",
        f"--input={source}",
        f"--output={output}",
        *flags,
    )


def save(path, height, width):
    rng = np.random.default_rng(height)
    pixels = rng.integers(0, 256, (height, width), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return pixels


def test_a_folder_of_pictures_is_restored_at_their_own_sizes(workdir, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    given = {
        name: save(source / name, *size)
        for name, size in (("a.png", (21, 34)), ("sub/b.png", (60, 70)))
    }
    said = succeed(
        restore(workdir, source, output, "--sigma=0.1", "--max_pixels=2500")
    )
    assert "2 pictures in" in said
    model = workdir.load_model()
    for name, pixels in given.items():
        x = (pixels[np.newaxis, ..., np.newaxis] / 255).astype("float32")
        expected = 255 * np.clip(model.denoise(x, 0.1)[0, ..., 0], 0, 1)
        with PIL.Image.open(output / "images" / name) as picture:
            np.testing.assert_allclose(picture, expected, atol=0.51)
    # Averaged over flips and turns.
    flags = ("--sigma=0.1", "--self_ensemble")
    succeed(restore(workdir, source / "a.png", tmp_path / "all", *flags))
    x = (given["a.png"][np.newaxis, ..., np.newaxis] / 255).astype("float32")
    expected = kgm.denoise_in_tiles(model, x, 0.1, self_ensemble=True)
    with PIL.Image.open(tmp_path / "all" / "images" / "a.png") as picture:
        found = np.asarray(picture)
    expected = 255 * np.clip(expected[0, ..., 0], 0, 1)
    np.testing.assert_allclose(found, expected, atol=0.51)
    # Each shard writes its own pictures.
    for shard in ("0/2", "1/2"):
        flags = ("--sigma=auto", "--add_noise=0.2", f"--shard={shard}")
        said = succeed(restore(workdir, source, output, *flags))
        assert f"Shard {shard}" in said and "sigma 0." in said
        assert "PSNR" in said
    for index in range(2):
        assert (output / f"before_after_00{index}_of_002.png").exists()


def test_what_has_no_meaning_for_pictures_is_refused(workdir, tmp_path):
    save(tmp_path / "a.png", 12, 12)
    for source, flags, words in (
        ("test", ["--sigma=auto"], ["--sigma=auto", "any size"]),
        ("test", ["--sigma=0.1", "--max_pixels=99"], ["--max_pixels"]),
        ("test", ["--sigma=0.1", "--self_ensemble"], ["--self_ensemble"]),
        (
            tmp_path / "a.png",
            ["--sigma=auto", "--max_pixels=9"],
            ["larger than --max_pixels=9: --max_pixels must be at least"],
        ),
        (tmp_path / "a.png", [], ["requires --sigma"]),
        (tmp_path / "a.png", ["--sigma=0.1", "--tolerance=1"], ["--tolerance"]),
    ):
        process = restore(workdir, source, tmp_path / "out", *flags)
        assert_refused(process, "restore", *words)


def test_what_is_not_read_as_stored_is_said_and_white_can_be_given(
    workdir, tmp_path
):
    folder = tmp_path / "in"
    folder.mkdir()
    deep = np.random.default_rng(0).integers(0, 4096, (12, 12), np.uint16)
    PIL.Image.fromarray(deep).save(folder / "deep.png")
    clear = PIL.Image.new("RGBA", (12, 12))
    clear.save(folder / "a.tif", save_all=True, append_images=[clear])
    given = ["--sigma=0.1", "--white_level=4095"]
    measured = run(
        "evaluate",
        f"--workdir={workdir}",
        f"--input={folder}",
        f"--output={tmp_path}/report.html",
        "--peers=none",
        *given,
    )
    out = tmp_path / "out"
    for process in (measured, restore(workdir, folder, out, *given)):
        said = succeed(process)
        for words in (
            "1 picture with 16 bits per channel",
            "1 picture that may be transparent, drawn over white",
            "1 picture with several pages or frames",
        ):
            assert words in said
        assert "dark picture" not in said
    x = (deep[np.newaxis, ..., np.newaxis] / 4095).astype("float32")
    expected = workdir.load_model().denoise(x, 0.1)[0, ..., 0]
    with PIL.Image.open(out / "images" / "deep.png") as picture:
        found = np.asarray(picture) / 65535
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-4)
    for app, *more in (("restore", f"--output={out}"), ("evaluate",)):
        flags = [f"--workdir={workdir}", f"--input={folder}/a.tif", *given]
        process = run(app, *flags, *more)
        assert_refused(process, app, "--white_level=4095 requires 16-bit")


def test_arrays_are_denoised_once_however_little_changes(workdir, tmp_path):
    x = np.random.default_rng(0).random((3, 12, 10, 1)).astype("float32")
    np.savez(tmp_path / "x.npz", image=x)
    out = tmp_path / "out"
    succeed(restore(workdir, tmp_path / "x.npz", out, "--sigma=5e-3"))
    expected = workdir.load_model().denoise(x, 5e-3)
    # Less than the tolerance of the iteration.
    assert 1e-5 < np.sqrt(np.mean((expected - x) ** 2)) < 1e-3
    with np.load(out / "restored.npz") as found:
        assert found["num_steps"].tolist() == [1, 1, 1]
        np.testing.assert_allclose(found["image"], expected, atol=1e-6)


def test_it_is_evaluated_and_generates_images_of_the_training(workdir):
    succeed(run("evaluate", f"--workdir={workdir}", "--num_images=20"))
    output = workdir.path / "samples.npz"
    succeed(
        run(
            "generate",
            f"--workdir={workdir}",
            "--num_images=3",
            f"--output={output}",
        )
    )
    with np.load(output) as arrays:
        assert arrays["image"].shape == (3, 8, 8, 1)


def test_an_export_answers_pictures_of_any_size(workdir, tmp_path, in_process):
    flags = [f"--workdir={workdir}", "--name=model", "--max_pixels=900"]
    said = succeed(run("export", *flags, f"--export_dir={tmp_path}/models"))
    assert "any size from 2x2 to 900 pixels" in said
    given = {
        name: save(tmp_path / "in" / name, *size)
        for name, size in (("a.png", (21, 34)), ("sub/b.png", (12, 9)))
    }
    deep = np.random.default_rng(5).integers(0, 2**16, (9, 8), np.uint16)
    PIL.Image.fromarray(deep).save(tmp_path / "in" / "deep.png")
    large = tmp_path / "large.png"
    save(large, 31, 30)
    query = ["--model=model", "--signature=denoise", "--sigma=0.1"]
    with serving.Server(tmp_path / "models", port=0) as server:
        query.append(f"--address={server.address}")
        said = succeed(
            run(
                "query",
                *query,
                f"--input={tmp_path}/in",
                f"--output={tmp_path}/out",
            )
        )
        process = run(
            "query", *query, f"--input={large}", f"--output={tmp_path}/x.npz"
        )
        one_by_one = run(
            "query", *query, f"--input={large}", f"--output={tmp_path}/large"
        )
    assert_refused(process, "query", "at most 900 pixels")
    assert_refused(one_by_one, "query", "large.png: the model model refused")
    assert "3 pictures in" in said
    model = workdir.load_model()
    for name, pixels in {**given, "deep.png": deep}.items():
        levels = np.iinfo(pixels.dtype).max
        x = (pixels[np.newaxis, ..., np.newaxis] / levels).astype("float32")
        expected = levels * np.clip(model.denoise(x, 0.1)[0, ..., 0], 0, 1)
        with PIL.Image.open(tmp_path / "out" / name) as picture:
            found = np.asarray(picture)
        np.testing.assert_allclose(found, expected, atol=1.01)


def test_pictures_are_measured_and_shown(workdir, tmp_path):
    save(tmp_path / "in" / "a.png", 21, 34)
    save(tmp_path / "in" / "b.png", 40, 40)
    flags = [f"--workdir={workdir}", f"--input={tmp_path}/in"]
    flags += ["--sigma=25/255,0.2", "--max_pixels=900", "--num_images=2"]
    flags += ["--peers=nlm,tv,wavelets"]
    said = succeed(run("evaluate", *flags))
    page = Page((workdir.path / "report.html").read_text(encoding="utf-8"))
    for text in (said, page.text):
        for words in (
            "2 pictures, each at its own size",
            "PSNR at sigma 25/255",
            "b.png, SSIM at sigma 0.2",
            "non-local means",
            "wavelets",
        ):
            assert words in text
    assert "was evaluated before" in succeed(run("evaluate", *flags))
    said = succeed(run("evaluate", *flags, "--self_ensemble", "--peers=none"))
    assert "a self-ensemble" in " ".join(said.split())
    assert "was evaluated before" not in said
    succeed(run("evaluate", *flags))
    found = workdir.read_metrics()["pictures"]["sections"]["pictures"]
    assert found["measures"]["psnr/0.2"]["references"].keys() == {
        *("noisy", "non-local means", "total variation", "wavelets")
    }
    process = run("evaluate", *flags, "--max_pixels=9", "--seed=1")
    words = "a.png (21x34)", "--max_pixels must be at least"
    assert_refused(process, "evaluate", *words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sigma=0.1"], "--sigma requires --input"),
        (["--self_ensemble"], "--self_ensemble requires --input"),
        (["--white_level=9"], "--white_level requires --input"),
        (["--white_level=9", "--input=skimage"], "these have 8 bits"),
        (["--input=x.npz"], "must be a picture"),
        (["--input=x.png", "--shard=0/2"], "exclude each other"),
        (["--input=x.png", "--peers=nlm,bm4d"], "all, none, or some of"),
        (["--input=x.png", "--sigma=0.1,-1"], "noise levels > 0"),
        (["--input=x.png", "--sigma=0.1,0.10000001"], "different noise"),
    ],
)
def test_wrong_flags_of_pictures_are_refused(flags, words):
    assert_refused(
        run_without_tensorflow("evaluate", *flags), "evaluate", words
    )
