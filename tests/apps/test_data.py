"""The data that users bring, in the apps."""

import json
import types

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from support.app_runs import ROOT, run, succeed

from apps.cli import data_flags, guard, input_flags
from keras_genmodels import datasets
from keras_genmodels.export import values


def name(**given):
    """Returns the name of the data set that flags stand for."""
    values = {"dataset": "digits", "data_dir": None, **given}
    return data_flags._name(types.SimpleNamespace(**values, present={*given}))


def test_a_folder_of_pictures_needs_no_dataset(tmp_path, capsys):
    pictures = tmp_path / "photos" / "2024"
    pictures.mkdir(parents=True)
    assert name() == "digits"
    # A folder of TFDS: empty, or with prepared digits.
    assert name(data_dir=f"{pictures}") == "digits"
    (tmp_path / "digits").mkdir()
    assert name(data_dir=f"{tmp_path}") == "digits"
    assert capsys.readouterr().out == ""
    PIL.Image.new("L", (4, 4)).save(pictures / "1.JPG")
    folder = f"{tmp_path}"
    assert name(data_dir=folder) == "image_folder"
    line = f"--data_dir={folder} holds pictures: --dataset=image_folder\n"
    assert capsys.readouterr().out == line
    assert name(data_dir=folder, dataset="mnist") == "mnist"


def test_another_folder_needs_a_dataset(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"")
    with pytest.raises(guard.WrongFlags, match=r"--dataset.*mnist\.npz"):
        name(data_dir=str(tmp_path))


def test_a_remote_folder_needs_a_dataset():
    with pytest.raises(guard.WrongFlags, match="requires --dataset"):
        name(data_dir="gs://bucket/x")


def test_dark_images_for_a_model_are_named(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.full((2, 4, 4), 4095, np.uint16))
    input_flags.read_pictures(str(tmp_path / "x.npy"), (4, 4, 1), None)
    assert "dark images: the largest value" in capsys.readouterr().out


def test_the_page_on_exports_lists_all_codes_of_values():
    page = (ROOT / "saved_models" / "README.md").read_text()
    for kind in values._KINDS:
        assert f"`{kind.code}`" in page


def save_16_bits(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(values[..., np.newaxis]).numpy())


@pytest.mark.slow
def test_a_folder_of_12_bit_pictures_with_splits_and_labels(tmp_path):
    """From training to generating and encoding."""
    pictures, workdir = tmp_path / "pictures", tmp_path / "run"
    values = np.random.default_rng(0).integers(0, 4096, (44, 8, 8))
    values = values.astype(np.uint16)
    for i, picture in enumerate(values[:40]):
        label = "ab"[i % 2]
        save_16_bits(pictures / "train" / label / f"{i}.png", picture)
    for i, picture in enumerate(values[40:]):
        save_16_bits(pictures / "test" / "abc"[i % 3] / f"{i}.png", picture)
    (pictures / "train" / "a" / "._1.png").write_bytes(b"no picture")
    before = sorted(pictures.rglob("*"))
    command = (
        "train_cvae",
        f"--data_dir={pictures}",
        f"--workdir={workdir}",
        "--image_size=8",
        "--white_level=4095",
        "--epochs=1",
        "--batch_size=8",
        "--network=mlp",
        "--hidden_sizes=8",
        "--latent_size=2",
        "--jit_compile=false",
    )
    said = succeed(run(*command))
    for line in (
        "holds pictures: --dataset=image_folder",
        "train in train/, test in test/",
        "44 pictures of 8x8, resized to 8x8",
        "44 pictures with 16 bits per channel",
        "skipped: 1 hidden file",
        "2 labels: a, b",
        "labels without training images: c (not drawn)",
    ):
        assert said.count(line) == 1
    assert sorted(pictures.rglob("*")) == before
    recorded = json.loads((workdir / "run.json").read_text())["data"]
    assert recorded["training_labels"] == [0, 1]
    assert recorded["source"]["white_level"] == 4095
    assert "finished" in succeed(run(*command))
    encoded = tmp_path / "z.npz"
    for flags in ((f"--input={pictures}/test", "--label=1"), ("--input=test",)):
        flags = (f"--workdir={workdir}", f"--output={encoded}", *flags)
        succeed(run("encode", *flags))
    drawn = tmp_path / "drawn.npz"
    flags = (f"--workdir={workdir}", f"--output={drawn}", "--num_images=2")
    said = succeed(run("generate", *flags))
    assert "2 images of each of 2 labels" in said
    assert np.load(drawn)["label"].tolist() == [0, 0, 1, 1]
    process = run("generate", *flags, "--label=2")
    assert "no training image has this label" in process.stderr


@pytest.mark.slow
def test_pictures_for_a_model_are_read_as_in_training(tmp_path):
    pictures, workdir = tmp_path / "pictures", tmp_path / "run"
    values = np.random.default_rng(0).integers(0, 4096, (20, 8, 8))
    for i, picture in enumerate(values.astype(np.uint16)):
        save_16_bits(pictures / f"{i:02}.png", picture)
    flags = (f"--data_dir={pictures}", "--white_level=4095", "--image_size=8")
    succeed(
        run("train_dae", f"--workdir={workdir}", "--denoiser=exact", *flags)
    )
    (pictures / "notes.txt").write_text("no picture")
    output = tmp_path / "restored"
    said = succeed(
        run(
            "restore",
            f"--workdir={workdir}",
            f"--input={pictures}",
            f"--output={output}",
            "--sigma=0.01",
            "--add_noise=1e-6",
            "--max_steps=1",
        )
    )
    assert f"{pictures}: skipped: 1 .txt" in said
    restored = np.load(output / "restored.npz")["image"]
    data = datasets.load(
        "image_folder", data_dir=pictures, image_size=8, white_level=4095
    )
    trained_on = data.train.images
    distance = np.abs(restored[:, np.newaxis] - trained_on).mean((2, 3, 4))
    # All but those of the other splits.
    assert np.sum(distance.min(1) < 1e-3) == len(trained_on)
