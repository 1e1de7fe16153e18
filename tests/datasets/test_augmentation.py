"""Flips and quarter turns are the eight symmetries of a square."""

import numpy as np
import pytest

from keras_genmodels.datasets import augmentation

ELEMENTS = np.arange(augmentation.NUM_SYMMETRIES)


def transformed(image, elements=ELEMENTS):
    """Returns an image `[side, side]` under each of some elements."""
    images = np.tile(
        image[np.newaxis, ..., np.newaxis], (len(elements), 1, 1, 1)
    )
    return augmentation.flip_and_turn(images, elements).numpy()[..., 0]


@pytest.mark.parametrize("side", [1, 4, 5])
def test_each_element_moves_pixels_as_numpy_does(side):
    image = np.arange(side**2, dtype=np.uint8).reshape(side, side)
    expected = [np.rot90(image, turns) for turns in range(4)]
    expected += [np.rot90(image[:, ::-1], turns) for turns in range(4)]
    np.testing.assert_array_equal(transformed(image), expected)


def test_the_eight_elements_are_a_group():
    image = np.arange(9.0).reshape(3, 3)
    known = {it.tobytes() for it in transformed(image)}
    assert len(known) == 8
    for first in transformed(image):
        # Each element occurs once among the products with any other.
        assert {it.tobytes() for it in transformed(first)} == known
    np.testing.assert_array_equal(transformed(image)[0], image)


def test_channels_move_together_and_rows_on_their_own():
    images = np.random.default_rng(0).random((3, 4, 4, 3), np.float32)
    found = augmentation.flip_and_turn(images, [0, 4, 3])
    np.testing.assert_array_equal(found[0], images[0])
    np.testing.assert_array_equal(found[1], images[1, :, ::-1])
    np.testing.assert_array_equal(found[2], np.rot90(images[2], 3))


@pytest.mark.parametrize("shape", [(1, 2, 3, 1), (2, 2, 1)])
def test_images_that_are_not_square_are_refused(shape):
    with pytest.raises(ValueError, match="side, side"):
        augmentation.flip_and_turn(np.zeros(shape), [0])
