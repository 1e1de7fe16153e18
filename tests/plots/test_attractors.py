"""Plots of attractors show the data that they are drawn from."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from keras_genmodels.denoisers import LinearDenoiser
from keras_genmodels.plots import attractors


def halve(x, sigma):
    return x / 2


def assert_picture(picture):
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert min(picture.shape[:2]) > 100
    # White margins around a drawing.
    assert (picture[[0, -1]] == 255).all()
    assert picture.std() > 5


@pytest.fixture
def drawn(monkeypatch):
    """Records the titles, arrows and images passed to matplotlib."""
    record = {"set_title": [], "quiver": [], "imshow": []}
    for name, calls in record.items():
        monkeypatch.setattr(Axes, name, spy(getattr(Axes, name), calls))
    return record


def spy(method, calls):
    def call(self, *args, **kwargs):
        calls.append(args)
        return method(self, *args, **kwargs)

    return call


def test_arrows_of_the_vector_field_are_the_predicted_noise(drawn):
    data = np.array([[-1.0, -1.0], [1.0, 1.0]])
    picture = attractors.vector_field(
        halve, data, [0.1, 2.0], arrows=5, margin=0.5
    )
    assert_picture(picture)
    assert picture.shape[1] > 1.5 * picture.shape[0]
    assert len(drawn["quiver"]) == 2
    x, y, u, v = drawn["quiver"][0]
    # x - D(x) = x / 2 points away from 0. The longest arrow, at a corner, has
    # the length of a cell, 4 / 5.
    np.testing.assert_allclose(x * v, y * u, atol=1e-6)
    assert (u * x + v * y >= 0).all()
    np.testing.assert_allclose(np.hypot(u, v).max(), 0.8, rtol=1e-5)
    assert np.ptp(x) == pytest.approx(3.2)


def test_vector_field_takes_one_level_and_given_starts():
    lone = np.array([[0.5, 0.5]])
    picture = attractors.vector_field(halve, lone, 0.1, starts=lone)
    assert_picture(picture)


def test_restoration_rows_show_the_steps_in_their_headings(drawn):
    trajectory = np.linspace(0, 1, 101).reshape(-1, 1, 1, 1, 1)
    trajectory = trajectory * np.ones((2, 6, 4, 1))
    picture = attractors.restoration_rows(
        trajectory, columns=5, clean=np.full((2, 6, 4, 1), 2.0)
    )
    assert_picture(picture)
    titles = [title for title, *_ in drawn["set_title"]]
    steps = [int(title.split()[1]) for title in titles[1:-1]]
    assert (titles[0], titles[-1]) == ("start", "clean")
    assert steps == sorted(set(steps))
    assert steps[-1] == 100
    shown = [image[0, 0, 0] for image, *_ in drawn["imshow"]]
    expected = [0, *(step / 100 for step in steps), 1]
    np.testing.assert_allclose(shown, expected * 2)


@pytest.mark.parametrize(("count", "columns"), [(2, 8), (9, 8), (20, 19)])
def test_shown_steps_are_distinct_and_include_both_ends(drawn, count, columns):
    trajectory = np.zeros((count, 1, 3, 3, 3))
    attractors.restoration_rows(trajectory, columns=columns)
    titles = [title for title, *_ in drawn["set_title"]]
    assert len(set(titles)) == len(titles) == min(count, columns)
    assert titles[-1] == f"step {count - 1}"


def test_singular_images_show_the_sign_and_share_of_eigenvectors(drawn):
    # The first direction is two pixels of opposite sign; the second has a
    # quarter of its variance.
    data = np.zeros((4, 2, 2, 1))
    data[0, 0, :, 0], data[1, 0, :, 0] = (2, -2), (-2, 2)
    data[2, 1, 0, 0], data[3, 1, 0, 0] = np.sqrt(2), -np.sqrt(2)
    data /= 4
    denoiser = LinearDenoiser(rank=2)
    denoiser.adapt(data)
    assert_picture(attractors.singular_images(denoiser, 5))
    titles = [title for title, *_ in drawn["set_title"]]
    assert titles == ["1: 80 %", "2: 20 %"]
    first = drawn["imshow"][0][0]
    vector = denoiser.eigenvectors.numpy()[..., 0]
    positive, negative = (
        first[vector[..., 0] > 0.5],
        first[vector[..., 0] < -0.5],
    )
    assert positive[0, 0] > positive[0, 2]
    assert negative[0, 0] < negative[0, 2]
    np.testing.assert_allclose(first[1], 1, atol=1e-3)


def test_singular_images_may_have_three_channels():
    rng = np.random.default_rng(0)
    denoiser = LinearDenoiser()
    denoiser.adapt(rng.random((20, 3, 4, 3)))
    picture = attractors.singular_images(denoiser, 9, columns=4)
    assert_picture(picture)


def flat_denoiser():
    denoiser = LinearDenoiser(rank=1)
    denoiser.adapt(np.eye(3))
    return denoiser


PLANE = np.ones((2, 2))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: attractors.vector_field(halve, np.ones((2, 3)), 1.0),
            r"data must have shape \[n, 2\], got \(2, 3\)",
        ),
        (
            lambda: attractors.vector_field(
                halve, PLANE, 1.0, starts=np.ones(2)
            ),
            "starts must have shape",
        ),
        *(
            (
                lambda sigmas=sigmas: attractors.vector_field(
                    halve, PLANE, sigmas
                ),
                "sigmas must be",
            )
            for sigmas in ([], [1.0, -1.0])
        ),
        (
            lambda: attractors.vector_field(halve, PLANE, 1.0, arrows=1),
            "arrows must be >= 2",
        ),
        (
            lambda: attractors.vector_field(halve, PLANE, 1.0, margin=-1),
            "margin must be >= 0",
        ),
        (
            lambda: attractors.restoration_rows(np.ones((3, 2, 4, 4))),
            "trajectory must have shape",
        ),
        (
            lambda: attractors.restoration_rows(
                np.ones((3, 2, 4, 4, 1)), columns=1
            ),
            "columns must be >= 2",
        ),
        (
            lambda: attractors.restoration_rows(
                np.ones((3, 2, 4, 4, 1)), clean=np.ones((1, 4, 4, 1))
            ),
            "clean must have shape",
        ),
        (
            lambda: attractors.singular_images(flat_denoiser()),
            "singular images need events",
        ),
        (
            lambda: attractors.singular_images(flat_denoiser(), 0),
            "num must be >= 1",
        ),
    ],
)
def test_a_wrong_argument_raises(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
