"""The inputs and weights of `accelerator_programs.py`, from seeds."""

import math

from accelerator_arrays import make


def images_in(shape, num):
    """Returns the specification of images in [0, 1)."""
    return {"kind": "uniform", "shape": [num, *shape], "seed": 1}


def binary_images(shape, num):
    """Returns the specification of images of 0 and 1."""
    shape = [num, *shape]
    return {"kind": "binary", "shape": shape, "seed": 2, "probability": 0.3}


def noisy_images(shape, num):
    """Returns the specification of Gaussian noise."""
    return {"kind": "normal", "shape": [num, *shape], "seed": 3, "std": 0.5}


def row_seeds(num):
    """Returns the specification of a seed for each row."""
    return {
        "kind": "integers",
        "shape": [num, 2],
        "seed": 4,
        "high": 2**31 - 1,
    }


def equal(shape, value):
    """Returns the specification of equal float32 values."""
    return {
        "kind": "full",
        "shape": list(shape),
        "dtype": "float32",
        "value": value,
    }


def compile_model(model, **options):
    """Compiles a model as `fit` does; returns what its optimizer holds."""
    from keras_genmodels.training import fit

    fit.compile_model(
        model, fit.Options(epochs=14, steps_per_epoch=896, **options)
    )
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(1000)
    # Else steps would have the sign of tiny gradients, and differ a lot.
    velocities = [
        it for it in model.optimizer.variables if "velocity" in it.path
    ]
    return assign(velocities, lambda it, _: equal(it.shape, 1e-4))


def seed_weights(variables):
    """Gives the weights of a model values from seeds, spread like their own.

    Returns:
        dict of the ids of their handles to specifications.
    """

    def choose(variable, seed):
        value, name = variable.numpy(), variable.path.split("/")[-1]
        if name == "data_mean":
            return equal(value.shape, 0.3)
        if name == "data_eigenvalues":
            return {"kind": "uniform", "shape": list(value.shape), "seed": seed}
        fan_in = math.prod(value.shape[:-1])
        std = float(value.std()) or 0.1 / math.sqrt(fan_in)
        return {
            "kind": "normal",
            "shape": list(value.shape),
            "seed": seed,
            "std": round(std if value.ndim > 1 else 0.02, 4),
            "mean": round(float(value.mean()) if value.ndim == 1 else 0, 4),
        }

    floats = [it for it in variables if it.dtype == "float32" and len(it.shape)]
    return assign(floats, choose)


def assign(variables, choose):
    """Assigns the values of `choose(variable, seed)`; returns these by id."""
    found = {}
    for i, variable in enumerate(variables):
        spec = choose(variable, 1000 + i)
        variable.assign(make(spec))
        found[id(variable.value.handle)] = spec
    return found
