"""Fixed points of a denoiser, their basins of attraction, and Jacobians."""

from keras_genmodels.attractors.basins import BasinRadius, basin_radius
from keras_genmodels.attractors.fixed_points import FixedPoints, fixed_points
from keras_genmodels.attractors.jacobian import (
    JacobianSpectrum,
    LocalDimension,
    jacobian_eigenvalues,
    local_dimension,
)
from keras_genmodels.metrics.memorization import Memorization, memorization

__all__ = [
    "BasinRadius",
    "FixedPoints",
    "JacobianSpectrum",
    "LocalDimension",
    "Memorization",
    "basin_radius",
    "fixed_points",
    "jacobian_eigenvalues",
    "local_dimension",
    "memorization",
]
