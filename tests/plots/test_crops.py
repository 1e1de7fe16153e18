"""Sheets of large pictures."""

import numpy as np

from keras_genmodels.plots import crops


def test_the_difference_of_the_first_two_is_drawn_with_grey_for_zero():
    noisy, clean = np.full((4, 6, 1), 0.7), np.full((4, 6, 1), 0.9)
    noisy[0, 0] = 0.9
    parts = crops.Comparison.of(
        "a", {"input": noisy, "restored": clean, "clean": clean}
    ).parts
    assert list(parts) == ["input", "restored", "input - restored", "clean"]
    difference = parts["input - restored"]
    assert difference.shape == (4, 6, 3)
    # 255 * (0.5 + 0.7 - 0.9) = 76.5, and 255 / 2 where they are equal.
    assert abs(int(difference[1, 1, 0]) - 76.5) < 1
    assert abs(int(difference[0, 0, 0]) - 127.5) < 1


def test_the_whole_of_a_thin_picture_has_its_short_side():
    thin = np.full((10, 3000, 1), 0.2, np.float32)
    whole = crops.Comparison.of("a", {"input": thin, "restored": thin}).whole
    assert whole.shape == (1, 250, 3)
    # The frame of the middle 256 pixels, and the mean of the others.
    assert whole[0, 0].tolist() == [51, 51, 51]
    assert whole[0, 125].tolist() == [255, 40, 40]
    turned = {"input": thin.swapaxes(0, 1), "restored": thin.swapaxes(0, 1)}
    assert crops.Comparison.of("a", turned).whole.shape == (250, 1, 3)
