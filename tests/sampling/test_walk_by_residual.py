"""`generate` with denoisers that do not receive sigma."""

import numpy as np
import pytest
import tensorflow as tf
from support.known_denoisers import (
    EXACT,
    Blind,
    Halver,
    X,
)

from keras_genmodels.core import seeds
from keras_genmodels.sampling import schedules
from keras_genmodels.sampling.generation import generate


@pytest.mark.usefixtures("float64")
def test_blind_generation_estimates_the_level_by_the_residual():
    shares = np.array([0.9, 0.5, 0.0, 0.2])
    scales = np.array([3.0, 1.0, 0.3, 0.1, 0.01])
    x = scales[:, None] * np.random.default_rng(2).normal(size=(5, 4))
    found = generate(
        Blind(shares), (4,), 5, seed=0, sigma_min=0.05, num_steps=12, initial=x
    )
    h = schedules.growing_steps(2.0, 0.05, 12)
    left = np.cumprod(1 - h[:-1, None] * (1 - shares), axis=0)
    iterates = np.concatenate([x[None], left[:, None] * x])
    levels = np.sqrt((((1 - shares) * iterates) ** 2).mean(-1))
    levels[-1] = 0
    stops = (levels <= 0.05).argmax(0)
    assert len(set(stops)) >= 3 and stops.max() == 11
    np.testing.assert_allclose(
        found, shares * iterates[stops, np.arange(5)], **EXACT
    )


@pytest.mark.usefixtures("float64")
def test_blind_generation_stops_on_the_manifold():
    # The manifold is a point, so the estimated level is exact. It starts 4
    # times too high for the steps planned from sigma_max 2, or too low.
    denoiser = Blind(np.zeros(16))
    h = schedules.growing_steps(2.0, 0.1, 20)
    for start, evaluations in ((8.0, 20), (2.0, 20), (0.5, None)):
        if evaluations is None:
            left = start * np.cumprod(1 - h)
            evaluations = 2 + int((left <= 0.1).argmax())
            assert 2 < evaluations < 20
        denoiser.evaluations.assign(0)
        found = generate(
            denoiser,
            (16,),
            1,
            seed=0,
            sigma_min=0.1,
            num_steps=20,
            initial=np.full((1, 16), start),
        )
        assert denoiser.evaluations.value == evaluations
        np.testing.assert_allclose(found, np.zeros((1, 16)), atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "denoiser",
    [
        Blind([0.9, 0.5, 0.2]),
        Blind([0.9, 0.5, 0.2], sigma_range=(0.5, 0.5)),
    ],
    ids=["blind", "single level"],
)
def test_rows_have_their_own_maximum_without_sigma(denoiser):
    x = np.random.default_rng(1).normal(size=(3, 3))
    counts, settings = [1, 7, 60], {"seed": 0, "jit_compile": False}
    found = generate(
        denoiser, (3,), 3, initial=x, num_steps=tf.constant(counts), **settings
    )
    for i, count in enumerate(counts):
        alone = generate(
            denoiser, (3,), 1, initial=x[i : i + 1], num_steps=count, **settings
        )
        np.testing.assert_allclose(found[i : i + 1], alone, **EXACT)


@pytest.mark.usefixtures("float64")
def test_blind_stochastic_sampling_explores_the_manifold():
    # D keeps two coordinates of 400. They accumulate all noise: gamma^2 of
    # levels that fall as without noise.
    shares = np.zeros(400)
    shares[:2] = 1
    denoiser = Blind(shares)
    found = generate(
        denoiser, (400,), 1500, seed=3, num_steps=10, stochasticity=0.6
    ).numpy()
    beta = 0.4
    h = schedules.growing_steps(2.0, 0.01, 10, 0.6)[:-1]
    levels = 2.0 * np.concatenate([[1], np.cumprod(1 - beta * h)[:-1]])
    expected = 4 + (((1 - beta * h) ** 2 - (1 - h) ** 2) * levels**2).sum()
    assert expected > 4.5
    # Four standard errors; the level is estimated by 398 of 400 coordinates,
    # too low by 0.3%, its square by 0.5%.
    np.testing.assert_allclose(
        found[:, :2].var(), expected, rtol=4 * np.sqrt(2 / 3000) + 0.005
    )
    np.testing.assert_allclose(found[:, 2:], 0, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_denoiser_of_one_level_uses_restore():
    denoiser = Blind([0.9, 0.5, 0.0], sigma_range=(0.5, 0.5))
    start = denoiser.noisy_data(0.5).draw(seeds.row_seeds(7, 4))
    found = generate(denoiser, (3,), 4, seed=7, num_steps=25)
    left = (1 - 0.1 * (1 - denoiser.shares)) ** 25
    np.testing.assert_allclose(found, start * left, **EXACT)


def test_a_blind_object_without_a_range_takes_levels():
    denoiser = Halver()
    denoiser.needs_sigma = False
    found = generate(
        denoiser, (3,), 2, seed=0, sigma_max=1, sigma_min=0.5, initial=X
    )
    # The residual starts at 0.5: one denoising step finishes.
    np.testing.assert_array_equal(found, X / 2)
