"""Arguments that the analyses of attractors refuse."""

import numpy as np
import pytest
import tensorflow as tf
from support.closed_forms import adapted

from keras_genmodels import attractors
from keras_genmodels.denoisers import EmpiricalDenoiser

IDENTITY_CALLS = {
    "fixed_points": {},
    "jacobian_eigenvalues": {"seed": 0},
    "basin_radius": {"seed": 0},
    "local_dimension": {"seed": 0},
}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fixed_points", {"batch_size": 0}, "batch_size must be an int >= 1"),
        ("fixed_points", {"max_steps": 0}, "max_steps must be an int >= 1"),
        ("basin_radius", {"max_steps": 0}, "max_steps must be an int >= 1"),
        ("fixed_points", {"merge_distance": -1}, "merge_distance must be >= 0"),
        ("fixed_points", {"step_size": 2.0}, r"step_size must be in \(0, 2\)"),
        ("jacobian_eigenvalues", {"step_size": 0}, "step_size must be in"),
        ("jacobian_eigenvalues", {"tolerance": 0}, "tolerance must be > 0"),
        ("jacobian_eigenvalues", {"seed": None}, "seed must be an int"),
        (
            "jacobian_eigenvalues",
            {"num_eigenvalues": 1.5},
            "num_eigenvalues must be an int >= 1, got 1.5",
        ),
        ("jacobian_eigenvalues", {"max_restarts": 0}, "max_restarts must be"),
        ("basin_radius", {"seed": None}, "seed must be an int"),
        ("basin_radius", {"max_radius": 0}, "max_radius must be > 0"),
        ("basin_radius", {"return_distance": 0}, "return_distance must be > 0"),
        ("basin_radius", {"num_bisections": -1}, "num_bisections must be an"),
        ("basin_radius", {"num_directions": 0}, "num_directions must be an"),
        ("basin_radius", {"directions": np.ones((2, 5))}, "must have shape"),
        ("basin_radius", {"directions": np.zeros((2, 3))}, "finite and not 0"),
        (
            "local_dimension",
            {"num_probes": 1},
            "num_probes must be an int >= 2",
        ),
        ("local_dimension", {"seed": 1.5}, "seed must be an int"),
    ],
)
def test_bad_arguments_are_refused(name, changes, message):
    arguments = IDENTITY_CALLS[name] | changes
    with pytest.raises(ValueError, match=message):
        getattr(attractors, name)(
            lambda x, sigma: x, np.ones((2, 3)), **arguments
        )


@pytest.mark.parametrize("name", IDENTITY_CALLS)
def test_bad_images_and_denoisers_are_refused(name):
    call, arguments = getattr(attractors, name), IDENTITY_CALLS[name]
    for x, message in (
        (np.ones((2, 3), int), "floating type"),
        (np.ones(3), r"shape \[batch, ...\]"),
        (np.full((2, 3), np.nan), "not finite"),
        (np.ones((0, 3)), "at least one event"),
    ):
        with pytest.raises(ValueError, match=message):
            call(lambda x, sigma: x, x, **arguments)
    with pytest.raises(ValueError, match="must have denoise"):
        call(None, np.ones((2, 3)), **arguments)
    with pytest.raises(ValueError, match="pass sigma"):
        denoiser = adapted(EmpiricalDenoiser(), np.ones((2, 3)))
        call(denoiser, np.ones((2, 3)), **arguments)


@pytest.mark.parametrize("name", ["jacobian_eigenvalues", "local_dimension"])
def test_a_denoiser_without_derivative_is_refused(name):
    def rounds(x, sigma):
        return tf.numpy_function(np.round, [x], x.dtype)

    with pytest.raises(ValueError, match="the denoiser has no derivative"):
        getattr(attractors, name)(rounds, np.ones((2, 3)), seed=0)
