"""The pictures of scikit-image that denoisers of pictures are measured on."""

import numpy as np
import PIL.Image

from keras_genmodels.datasets import standard_pictures


def test_the_ten_pictures_and_those_with_colours():
    grey, colour = standard_pictures.paths(1), standard_pictures.paths(3)
    assert len(grey) == 10 and not standard_pictures.missing()
    assert [path.stem for path in colour] == [
        *("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket"),
    ]


def test_large_ones_are_shrunk_and_small_ones_are_as_they_are():
    paths = {path.stem: path for path in standard_pictures.paths(1)}
    coins = standard_pictures.read(paths["coins"], 1)
    with PIL.Image.open(paths["coins"]) as picture:
        np.testing.assert_array_equal(coins[..., 0], picture)
    coffee = standard_pictures.read(paths["coffee"], 3)
    assert coffee.shape == (341, 512, 3) and coffee.dtype == np.uint8
    with PIL.Image.open(paths["coffee"]) as picture:
        expected = picture.resize((512, 341), PIL.Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(coffee, expected)


def test_a_picture_that_is_not_installed_is_named(monkeypatch):
    files = (*standard_pictures._FILES, "none.png")
    monkeypatch.setattr(standard_pictures, "_FILES", files)
    assert standard_pictures.missing() == ["none.png"]
    assert len(standard_pictures.paths(1)) == 10
