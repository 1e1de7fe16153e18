"""Pictures hold the images that they are made of, where they belong."""

import numpy as np
import pytest
from PIL import Image
from test_vae import binary_images, make_vae

from keras_genmodels import plots, projector


def test_tiles_stand_row_by_row():
    images = np.linspace(0, 1, 5).reshape(5, 1, 1, 1) * np.ones((5, 30, 40, 1))
    grid = plots.image_grid(images, columns=3, gap=2)
    assert grid.shape == (2 * 30 + 2, 3 * 40 + 4, 3)
    assert grid.dtype == np.uint8
    # Left upper corners of the tiles, then the empty place and the gaps.
    assert grid[0, [0, 42, 84], 0].tolist() == [0, 64, 128]
    assert grid[32, [0, 42, 84], 0].tolist() == [191, 255, 255]
    assert (grid[30:32] == 255).all()


def test_one_image_is_enough_to_draw():
    pictures = plots.vae_pictures(make_vae(), binary_images(1), seed=0)
    assert set(pictures) == {"reconstructions", "samples", "interpolation"}


def test_small_images_are_enlarged_and_colours_kept():
    image = np.zeros((1, 8, 4, 3))
    image[..., 1] = 1.0
    grid = plots.image_grid(image)
    assert grid.shape == (32, 16, 3)
    assert (grid == [0, 255, 0]).all()


def test_values_outside_the_range_are_clipped():
    grid = plots.image_grid(np.array([-3.0, 7.0]).reshape(1, 1, 2, 1))
    assert set(grid.ravel()) == {0, 255}


@pytest.mark.parametrize("latent_size", [2, 3])
def test_a_vae_is_drawn_from_every_side(latent_size):
    pictures = plots.vae_pictures(
        make_vae(latent_size=latent_size), binary_images(6), seed=0
    )
    plane = {"latent_plane"} if latent_size == 2 else set()
    expected = {"reconstructions", "samples", "interpolation"} | plane
    assert set(pictures) == expected
    for picture in pictures.values():
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert min(picture.shape[:2]) > 100
        assert picture.std() > 0


def test_reconstructions_stand_below_their_images():
    model, x = make_vae(), binary_images(11)
    tiles = plots.reconstruction_rows(model, x)
    decoded = model.decode(model.encode(x).mean()).mean().numpy()
    assert len(tiles) == 4 * 8
    np.testing.assert_array_equal(tiles[:8], x[:8])
    np.testing.assert_array_equal(tiles[8:16], decoded[:8])
    np.testing.assert_array_equal(tiles[16:19], x[8:])
    np.testing.assert_array_equal(tiles[24:27], decoded[8:])
    assert (tiles[19:24] == 1).all()


def test_the_projector_finds_thumbnails_and_labels(tmp_path):
    latents = np.random.default_rng(0).standard_normal((10, 3))
    labels = np.arange(10) % 2
    projector.write(
        tmp_path, latents, binary_images(10), labels, ("cat", "dog")
    )
    config = (tmp_path / "projector_config.pbtxt").read_text()
    for name in ("latents.tsv", "labels.tsv", "sprite.png"):
        assert name in config
        assert (tmp_path / name).exists()
    np.testing.assert_allclose(
        np.loadtxt(tmp_path / "latents.tsv"), latents, rtol=1e-5
    )
    assert (tmp_path / "labels.tsv").read_text().split() == 5 * ["cat", "dog"]
    # A square of 4 x 4 thumbnails, in their own size.
    assert Image.open(tmp_path / "sprite.png").size == (32, 32)
