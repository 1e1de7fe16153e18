"""Picture files restored one by one, each at its own size."""

import pathlib

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from support.app_runs import run_python

import keras_genmodels as kgm
from keras_genmodels.core.errors import UserError
from keras_genmodels.runs import restore_pictures as runs
from keras_genmodels.runs.restore_pictures import Loop, restore_pictures


def model(channels, **settings):
    network = kgm.unet((None, None, channels), filters=(2, 3), blocks=1)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(rng.normal(0, 0.15, weight.shape))
    made = kgm.DenoisingAutoencoder(network, **settings)
    made.adapt(rng.random((4, 8, 8, channels)))
    return made


@pytest.fixture(scope="module")
def grey():
    return model(1)


@pytest.fixture(scope="module")
def colour():
    return model(3)


def smooth(height, width, channels=3):
    """Returns a picture of few details, uint8."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + i) * np.cos(y / 7) for i in range(channels)]
    return np.uint8(127 + 100 * np.stack(waves, -1))


def save(path, pixels, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    PIL.Image.fromarray(pixels).save(path, **settings)
    return path


def restore(model, output, *paths, **settings):
    names = [pathlib.Path(path.name).with_suffix(".png") for path in paths]
    settings = {"sigma": 0.1, **settings}
    return restore_pictures(model, paths, names, output, **settings).summary


def pixels_of(path):
    return tf.io.decode_png(path.read_bytes(), dtype=tf.uint16).numpy()


def test_pictures_of_several_sizes_keep_them_and_their_folders(
    colour, tmp_path
):
    pictures = smooth(20, 31), smooth(13, 12)
    paths = [
        save(tmp_path / "in" / name, image)
        for name, image in zip(("a.png", "b.bmp"), pictures, strict=True)
    ]
    names = [pathlib.Path("a.png"), pathlib.Path("sub/b.png")]
    out = tmp_path / "out"
    text = restore_pictures(colour, paths, names, out, sigma=0.2).summary
    for name, image in zip(names, pictures, strict=True):
        x = np.float32(image)[None] / 255
        expected = np.clip(colour.denoise(x, 0.2)[0], 0, 1) * 255
        with PIL.Image.open(out / "images" / name) as written:
            assert written.mode == "RGB"
            np.testing.assert_allclose(written, expected, atol=0.51)
    assert "2 pictures in" in text and "sigma 0.2" in text
    assert not (out / "restored.npz").exists()


def test_a_grey_model_writes_one_channel_and_16_bits_stay(grey, tmp_path):
    deep = np.uint16(257 * smooth(15, 18, 1).astype(int) + 31)
    path = save(tmp_path / "deep.png", deep)
    restore(grey, tmp_path / "out", path)
    written = pixels_of(tmp_path / "out" / "images" / "deep.png")
    with PIL.Image.open(tmp_path / "out" / "images" / "deep.png") as opened:
        assert opened.mode == "I;16"
    x = (deep / np.float32(65535)).reshape(1, 15, 18, 1)
    expected = np.clip(grey.denoise(x, 0.1)[0], 0, 1) * 65535
    np.testing.assert_allclose(written, expected, atol=3)


def test_12_bits_are_scaled_by_the_white_level_and_noted_without_it(
    grey, tmp_path, capsys
):
    deep = np.uint16(4095 / 255 * smooth(12, 13, 1))
    path = save(tmp_path / "deep.png", deep)
    restore(grey, tmp_path / "dark", path)
    said = capsys.readouterr().out
    assert f"dark picture: the largest value of {path} is 0.05" in said
    restore(grey, tmp_path / "out", path, white_level=4095)
    assert "dark" not in capsys.readouterr().out
    x = (deep / np.float32(4095)).reshape(1, 12, 13, 1)
    expected = np.clip(grey.denoise(x, 0.1)[0], 0, 1) * 65535
    written = pixels_of(tmp_path / "out" / "images" / "deep.png")
    np.testing.assert_allclose(written, expected, atol=3)
    restore(grey, tmp_path / "darker", path, white_level=65535)
    assert "white is at white_level=65535" in capsys.readouterr().out
    # A black picture of 8 bits has no other white level.
    black = save(tmp_path / "black.png", np.zeros((12, 12), np.uint8))
    restore(grey, tmp_path / "out", black)
    assert "dark" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_rotated_picture_is_written_upright_without_a_tag(grey, tmp_path):
    exif = PIL.Image.Exif()
    exif[274] = 6
    path = save(tmp_path / "a.jpg", smooth(16, 24), exif=exif)
    restore(grey, tmp_path / "out", path)
    with PIL.Image.open(tmp_path / "out" / "images" / "a.png") as written:
        assert written.size == (16, 24) and written.mode == "L"
        assert not written.getexif()


@pytest.mark.slow
def test_transparent_pixels_are_white(colour, tmp_path):
    image = np.concatenate(
        [smooth(12, 12), np.zeros((12, 12, 1), np.uint8)], -1
    )
    restore(colour, tmp_path / "out", save(tmp_path / "a.png", image))
    expected = np.clip(colour.denoise(np.ones((1, 12, 12, 3)), 0.1)[0], 0, 1)
    with PIL.Image.open(tmp_path / "out" / "images" / "a.png") as written:
        np.testing.assert_allclose(written, 255 * expected, atol=0.51)


def test_a_damaged_file_is_left_out_and_named(grey, tmp_path):
    paths = [
        save(tmp_path / f"{name}.png", smooth(60, 60, 1)) for name in "abc"
    ]
    # The header is whole.
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    names = [path.name for path in paths]
    out = tmp_path / "out"
    found = restore_pictures(grey, paths, names, out, sigma=0.1)
    (message,) = found.unreadable
    assert message.startswith(f"{paths[1]} cannot be read")
    assert "2 pictures in" in found.summary
    written = {path.name for path in (out / "images").iterdir()}
    assert written == {"a.png", "c.png"}
    with pytest.raises(UserError, match=r"b\.png cannot be read"):
        restore_pictures(grey, paths[1:2], names[1:2], out, sigma=0.1)


def test_the_noise_level_is_estimated_within_the_range(
    grey, tmp_path, monkeypatch
):
    levels = []
    denoise = runs.denoise_in_tiles

    def spy(denoiser, x, sigma, *args, **kwargs):
        levels.append(sigma)
        return denoise(denoiser, x, sigma, *args, **kwargs)

    monkeypatch.setattr(runs, "denoise_in_tiles", spy)
    path = save(tmp_path / "a.png", smooth(64, 64, 1))
    flat = save(tmp_path / "flat.png", np.full((16, 16), 90, np.uint8))
    restore(grey, tmp_path / "out", path, sigma="auto", add_noise=0.1)
    # Of 4096 pixels, a fourth of them fine coefficients.
    assert 0.08 < levels[0] < 0.12
    text = restore(grey, tmp_path / "out", flat, sigma="auto")
    assert levels[1] == grey.sigma_range[0]
    assert f"sigma {grey.sigma_range[0]:.3g}" in text
    black = save(tmp_path / "black.png", np.zeros((16, 16), np.uint8))
    restore(grey, tmp_path / "out", black, sigma="auto")
    assert levels[2] == grey.sigma_range[0]


def test_quality_is_reported_if_noise_is_added(grey, tmp_path):
    path = save(tmp_path / "a.png", smooth(30, 30, 1))
    out = tmp_path / "out"
    # 900 draws of this seed have 20.08 dB; others have 19.8 to 20.3.
    text = restore(grey, out, path, add_noise=0.1, seed=0)
    lines = text.splitlines()
    assert "PSNR 20." in lines[0] and "SSIM" in lines[0]
    assert lines[1].startswith("PSNR before 20.")
    with PIL.Image.open(out / "before_after.png") as sheet:
        # The whole, and a part of the input, the restored one, their
        # difference and the clean one.
        assert sheet.size[0] > 5 * 256
    assert restore(grey, out, path, add_noise=0.1, seed=0) == text
    assert restore(grey, out, path, add_noise=0.1, seed=4) != text


def test_the_loop_checks_the_scale_of_its_input_alone(
    grey, tmp_path, monkeypatch
):
    checked = []
    denoise = runs.denoise_in_tiles

    def grow(denoiser, x, *args, any_scale, **kwargs):
        checked.append(not any_scale)
        if not any_scale:
            return x + 1000
        return denoise(denoiser, x, *args, any_scale=any_scale, **kwargs)

    monkeypatch.setattr(runs, "denoise_in_tiles", grow)
    path = save(tmp_path / "a.png", smooth(16, 16, 1))
    restore(grey, tmp_path / "out", path, loop=Loop(max_steps=3))
    assert checked == [True, False, False]


@pytest.mark.slow
def test_the_loop_is_that_of_restore_also_in_tiles(grey, tmp_path):
    image = smooth(40, 36, 1)
    path = save(tmp_path / "a.png", image)
    x = np.float32(image)[None] / 255
    loop = Loop(step_size=0.3, max_steps=3, tolerance=0, max_pixels=900)
    restore(grey, tmp_path / "out", path, loop=loop)
    expected = kgm.restore(
        grey, x, sigma=0.1, step_size=0.3, max_steps=3, tolerance=0
    )
    with PIL.Image.open(tmp_path / "out" / "images" / "a.png") as written:
        np.testing.assert_allclose(
            written, 255 * np.clip(expected.x[0, ..., 0], 0, 1), atol=0.51
        )
    still = Loop(step_size=0.3, max_steps=3, tolerance=10)
    text = restore(grey, tmp_path / "still", path, loop=still)
    assert "0 steps" in text
    with PIL.Image.open(tmp_path / "still" / "images" / "a.png") as written:
        np.testing.assert_array_equal(written, image[..., 0])


def test_a_file_that_is_no_picture_is_refused_before_any_work(grey, tmp_path):
    path = save(tmp_path / "a.png", smooth(16, 16, 1))
    other = tmp_path / "b.png"
    other.write_text("none")
    with pytest.raises(UserError, match=r"b\.png"):
        restore(grey, tmp_path / "out", path, other)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([(9, 9), (1, 8), (7, 1)], r"1\.png \(1x8\), .*2\.png .*2x2 pixels"),
        ([(9, 9), (40, 40)], r"1\.png \(40x40\) .*max_pixels must be"),
    ],
    ids=["small pictures", "small tiles"],
)
def test_what_the_network_does_not_take_is_refused_before_any_work(
    grey, tmp_path, sizes, message
):
    paths = [
        save(tmp_path / f"{i}.png", smooth(*size, 1))
        for i, size in enumerate(sizes)
    ]
    with pytest.raises(UserError, match=message):
        restore(grey, tmp_path / "out", *paths, loop=Loop(max_pixels=100))
    assert not (tmp_path / "out").exists()


PEAKS = """
import pathlib, sys, threading, time
import numpy as np, PIL.Image, psutil
import keras_genmodels as kgm
from keras_genmodels.networks.reach import reach_of
from keras_genmodels.runs.restore_pictures import restore_pictures
from keras_genmodels.sampling import tiles

network = kgm.bias_free_unet((None, None, 1), (2, 3), 1)
model = kgm.DenoisingAutoencoder(network, blind=True)
model.adapt(np.random.default_rng(0).random((4, 8, 8, 1)))
folder, process = pathlib.Path(sys.argv[1]), psutil.Process()

def risen(height, width):
    path = folder / f"{height}.png"
    rows = np.uint8(np.arange(height) % 251)[:, None]
    PIL.Image.fromarray(np.repeat(rows, width, 1)).save(path, compress_level=1)
    done, before = threading.Event(), process.memory_info().rss
    highest = [before]
    def watch():
        while not done.wait(0.002):
            highest[0] = max(highest[0], process.memory_info().rss)
    watcher = threading.Thread(target=watch)
    watcher.start()
    restore_pictures(model, [path], [path.name], folder / "out")
    done.set(), watcher.join()
    return highest[0] - before

grid = tiles.tiles_of((6250, 8000), reach_of(network), tiles.MAX_PIXELS)
tile = [span.stop - span.start for span in grid[0]]
risen(*tile)  # Compiles.
print(risen(*tile), risen(6250, 8000))
"""


@pytest.mark.exhaustive
def test_memory_of_large_pictures_is_at_most_12_bytes_a_value(tmp_path):
    """What the network takes is that of a tile; see tests of tiles."""
    process = run_python("-c", PEAKS, str(tmp_path))
    assert process.returncode == 0, process.stderr
    small, large = map(int, process.stdout.split()[-2:])
    assert large - small < 12 * 49e6
