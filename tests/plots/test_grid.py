"""Grids show each image in its place; titles and rows are readable."""

import numpy as np
from PIL import Image
from support.small_vaes import binary_images

from keras_genmodels import plots
from keras_genmodels.plots import projector


def test_image_grid_places_images_row_by_row():
    images = np.linspace(0, 1, 5).reshape(5, 1, 1, 1) * np.ones((5, 30, 40, 1))
    grid = plots.image_grid(images, columns=3, gap=2)
    assert grid.shape == (2 * 30 + 2, 3 * 40 + 4, 3)
    assert grid.dtype == np.uint8
    # Upper left corners of the tiles; the missing sixth tile and the gaps.
    assert grid[0, [0, 42, 84], 0].tolist() == [0, 64, 128]
    assert grid[32, [0, 42, 84], 0].tolist() == [191, 255, 255]
    assert (grid[30:32] == 255).all()


def test_image_grid_enlarges_small_images_and_keeps_colours():
    image = np.zeros((1, 8, 4, 3))
    image[..., 1] = 1.0
    grid = plots.image_grid(image)
    assert grid.shape == (32, 16, 3)
    assert (grid == [0, 255, 0]).all()


def test_image_grid_clips_to_the_unit_interval():
    grid = plots.image_grid(np.array([-3.0, 7.0]).reshape(1, 1, 2, 1))
    assert set(grid.ravel()) == {0, 255}


def test_projector_files_name_thumbnails_and_labels(tmp_path):
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
    # A square of 4 x 4 thumbnails of 8 x 8 pixels.
    assert Image.open(tmp_path / "sprite.png").size == (32, 32)


def test_names_of_rows_are_written_at_the_height_of_their_rows():
    picture = np.zeros((30, 30, 3), np.uint8)
    plain, named = (
        plots.titled(picture, "title", rows=rows) for rows in ((), ("a", "b"))
    )
    # The names are written left of the black picture.
    left = [np.argmax((p == 0).all(2).mean(0) > 0.5) for p in (plain, named)]
    rows = np.flatnonzero((named[:, : left[1]] < 128).any((1, 2)))
    black = np.flatnonzero((named == 0).all(2).mean(1) > 0.5)
    thirds = np.quantile(black, [0.25, 0.75])
    for centre in thirds:
        assert np.abs(rows - centre).min() < len(black) / 10
    assert (plain[:, : left[0]] == 255).all()
