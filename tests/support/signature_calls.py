"""Calls of the signatures of an export."""

import numpy as np
import pytest
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.export import (
    example_requests,
    read_description,
)
from keras_genmodels.models.likelihood import importance_weighted
from support.exported_models import (
    LATENT,
    SHAPE,
    WALK,
)


def inputs_of(version, signature, rows):
    return example_requests.valid_inputs(
        read_description(version), signature, rows
    )


def assert_close(outputs, expected, tolerance=1e-5):
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            outputs[name], value, rtol=tolerance, atol=tolerance, err_msg=name
        )


# What the signatures return.


def expected_of_latent(model, signature, image=None, **given):
    """Computes the outputs of a VAE's signature with the model's methods."""
    condition = given.get("condition")
    more = () if condition is None else (condition,)
    if signature == "encode":
        posterior = model.encode(image, *more)
        if isinstance(model.posterior, kgm.MultivariateNormalTriL):
            return {"loc": posterior.loc, "scale_tril": posterior.scale_tril}
        return {"loc": posterior.loc, "stddev": posterior.stddev()}
    if signature == "generate":
        num = len(given["seed"]) if condition is None else None
        return {"image": model.sample(num, condition, seed=given["seed"])}
    if signature == "log_likelihood":
        terms = model.elbo_terms(image, *more, seed=given["seed"])
        return {
            "log_likelihood": importance_weighted(
                model, image, *more, seed=given["seed"], jit_compile=False,
                **LATENT,
            ).log_likelihood,
            "elbo": -terms["rate"] - terms["distortion"],
            "rate": terms["rate"],
            "distortion": terms["distortion"],
        }  # fmt: skip
    kept = image if signature == "reconstruct" else condition
    z = given.get("z")
    if z is None:
        z = model.encode(image, *more).loc
    decoded = model.decode(z, *more).mean()
    if model.observed_mask is not None:
        decoded = np.where(model.observed_mask, kept, decoded)
    return {"image": decoded}


def expected_density(model, image, sigma, condition):
    if isinstance(model, kgm.EmpiricalDenoiser | kgm.LinearDenoiser):
        nats = model.noisy_data(sigma).log_prob(image)
        error = np.zeros(len(image))
    else:
        # Steps of one length; those of controlled length differ by less than
        # the errors that both report.
        found, controlled = (
            kgm.probability_flow(
                model,
                image,
                sigma,
                condition=condition,
                jit_compile=False,
                **settings,
            )
            for settings in ({"tolerance": 1e-300, "max_steps": 32}, {})
        )
        difference = np.abs(found.log_density - controlled.log_density)
        errors = found.solver_error + controlled.solver_error
        assert np.all(difference < 0.01 + errors)
        nats, error = found.log_density, found.solver_error
    return {"log_density": np.float32(nats), "solver_error": np.float32(error)}


def expected_of_denoiser(
    model, signature, image=None, sigma=None, condition=None, **given
):
    if signature == "denoise":
        return {"denoised": model.denoise(image, sigma, condition)}
    if signature == "noise":
        return {"noise": image - model.denoise(image, sigma, condition)}
    if signature == "log_density":
        return expected_density(model, image, sigma, condition)
    if signature in ("generate", "generate_with"):
        steps = given.get("num_steps", WALK["num_steps"])
        image = kgm.generate(
            model,
            SHAPE,
            len(given["seed"]),
            seed=given["seed"],
            condition=condition,
            guidance=given.get("guidance", 0.0),
            num_steps=tf.constant(steps) if np.ndim(steps) else steps,
            jit_compile=False,
        )
        return {"image": image}
    loop = given or {"max_steps": WALK["max_steps"]}
    loop |= {"condition": condition, "jit_compile": False}
    result = kgm.restore(model, image, sigma=sigma, **loop)
    return {
        "image": result.x,
        "num_steps": result.num_steps,
        "residual": result.residual,
    }


def mark_of(kind):
    """Returns the mark of a test that needs an export of its own."""
    is_common = kind in ("vae", "labels", "range", "learned_prior")
    return pytest.mark.slow if is_common else pytest.mark.exhaustive
