"""Arguments of `generate` that do not fit together."""

import numpy as np
import pytest
import tensorflow as tf
from support.known_denoisers import (
    Blind,
    Gaussian,
    halve,
)

from keras_genmodels.denoisers import LinearDenoiser
from keras_genmodels.sampling.generation import generate

GAUSSIAN = Gaussian()


ONE_LEVEL = Blind([0.5, 0.5, 0.5], sigma_range=(0.5, 0.5))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (r"num must be an int >= 1, got 0", {"num": 0}),
        (r"num must be an int >= 1, got 1.5", {"num": 1.5}),
        (r"num_steps must be an int >= 1, got 0", {"num_steps": 0}),
        (r"num_steps must be an int >= 1, got 2.5", {"num_steps": 2.5}),
        (r"stochasticity must be in \[0, 1\), got 1", {"stochasticity": 1}),
        (r"stochasticity must be .* got -0.5", {"stochasticity": -0.5}),
        (r"0 < sigma_min <= sigma_max, got sigma_min=0", {"sigma_min": 0}),
        (r"sigma_min=3, sigma_max=2", {"sigma_max": 2, "sigma_min": 3}),
        (r"sigma_max=inf", {"sigma_max": np.inf}),
        (r"sigma_max=nan", {"sigma_max": np.nan}),
        (r"shape must be \(3,\) as the data's, got \(4,\)", {"shape": (4,)}),
        (r"initial must have shape \[2, 3\]", {"initial": np.ones((3, 3))}),
        (
            r"x must be of floating type",
            {"initial": np.ones((2, 3), np.uint8)},
        ),
        (r"not finite", {"initial": np.full((2, 3), np.nan)}),
        (r"no sigma_range: pass sigma_max and sigma_min", {"denoiser": halve}),
        (
            r"to start from: pass initial",
            {"denoiser": halve, "sigma_max": 1, "sigma_min": 0.1},
        ),
        (
            r"or one for each sample, got \[2. 3.\]",
            {"num_steps": np.array([2.0, 3.0])},
        ),
        (r"or one for each sample, got \[2, \[3\]\]", {"num_steps": [2, [3]]}),
        (
            r"of rows must be at most 1000",
            {"denoiser": ONE_LEVEL, "num_steps": tf.constant(1001)},
        ),
        (
            r"or one for each of 2 samples, got 3",
            {"num_steps": tf.constant([3, 4, 5])},
        ),
        (
            r"or one for each of 2 samples, got 1",
            {"num_steps": tf.constant([3])},
        ),
        (
            r"single noise level takes no stochasticity",
            {"denoiser": ONE_LEVEL, "stochasticity": 0.5},
        ),
        (
            r"single noise level takes no sigma_min",
            {"denoiser": ONE_LEVEL, "sigma_min": 0.1},
        ),
        (
            r"single noise level .* no solver, got 'euler'",
            {"denoiser": ONE_LEVEL, "solver": "euler"},
        ),
        (r"by its residual: it takes no solver", {"solver": "heun"}),
        (r"by its residual: it takes no schedule", {"schedule": "karras"}),
        (
            r"solver must be one of dpmpp_2m, heun, euler, got 'rk4'",
            {"denoiser": GAUSSIAN, "solver": "rk4"},
        ),
        (
            r"schedule must be one of geometric, karras, got 'linear'",
            {"denoiser": GAUSSIAN, "schedule": "linear"},
        ),
        (
            r"stochasticity requires solver heun or euler, not dpmpp_2m",
            {"denoiser": GAUSSIAN, "stochasticity": 0.5},
        ),
        (
            r"num_steps must be odd for heun.* got 10",
            {"denoiser": GAUSSIAN, "solver": "heun", "num_steps": 10},
        ),
        (r"3 row seeds for 2 rows", {"seed": np.ones((3, 2), np.int32)}),
        (r"seed must be an int", {"seed": None}),
        (r"jit_compile must be", {"jit_compile": 1}),
        (r"call adapt\(data\) first", {"denoiser": LinearDenoiser()}),
    ],
)
def test_bad_arguments_are_refused(message, arguments):
    arguments = {
        "denoiser": Blind([0.5, 0.5, 0.5]),
        "shape": (3,),
        "num": 2,
        "seed": 0,
        **arguments,
    }
    with pytest.raises(ValueError, match=message):
        generate(**arguments)


@pytest.mark.parametrize("final_denoising", [True, False])
def test_heun_takes_the_evaluations_that_its_end_needs(final_denoising):
    denoiser = LinearDenoiser()
    denoiser.adapt(np.random.default_rng(0).normal(size=(20, 2)))
    settings = {"solver": "heun", "final_denoising": final_denoising}
    wrong = 4 if final_denoising else 5
    with pytest.raises(ValueError, match="odd" if final_denoising else "even"):
        generate(denoiser, 2, 1, seed=0, num_steps=wrong, **settings)


def test_a_walk_that_ends_at_sigma_min_needs_the_noise_level():
    denoiser = LinearDenoiser(rank=1)
    denoiser.adapt(np.random.default_rng(0).normal(size=(20, 2)))
    with pytest.raises(ValueError, match="final_denoising"):
        generate(denoiser, 2, 1, seed=0, final_denoising=False)
