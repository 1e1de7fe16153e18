"""Functions under their names of version 0.2."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from support.small_vaes import binary_images, make_vae

from keras_genmodels import evaluation
from keras_genmodels.metrics import denoising, labels, likelihood, old_names
from keras_genmodels.metrics.estimates import average


def blend(x, sigma):
    return (x + 0.5) / 2


def test_the_psnr_of_denoised_and_noisy_images():
    images = np.random.default_rng(0).random((9, 8, 8, 1), np.float32)
    with pytest.warns(DeprecationWarning, match="denoising_psnr"):
        found = evaluation.evaluate_denoiser(blend, images, sigmas=(0.5,))
    psnr = denoising.denoising_psnr(blend, images, (0.5,))[0.5]
    assert found["0.5"]["psnr"] == psnr.value
    assert found["0.5"]["psnr_standard_error"] == psnr.standard_error
    assert found["0.5"]["noisy_psnr"] == pytest.approx(6.02, abs=0.5)


@pytest.mark.slow
def test_the_importance_weighted_bound():
    model, x = make_vae(), binary_images(5)
    settings = {"seed": 0, "num_samples": 3, "jit_compile": False}
    with pytest.warns(DeprecationWarning, match="likelihood_terms"):
        found = evaluation.evaluate_likelihood(model, [x], **settings)
    terms = likelihood.likelihood_terms(model, [x], **settings)
    for name in ("log_likelihood", "effective_samples"):
        mean, error = average(terms[name])
        assert found[name] == mean
        assert found[f"{name}_standard_error"] == error
    assert (found["num_samples"], found["num_examples"]) == (3, 5)


@pytest.mark.slow
def test_the_bounds_of_one_draw():
    model, x = make_vae(), binary_images(5)
    terms = likelihood.likelihood_terms(
        model, [x], seed=0, num_samples=3, jit_compile=False
    )
    with pytest.warns(DeprecationWarning, match="likelihood_terms"):
        bounds = evaluation.bound_terms(model, [x], seed=0)
    assert set(bounds) == {"elbo", "rate", "distortion"}
    for name, values in bounds.items():
        np.testing.assert_allclose(values, terms[name], rtol=1e-6)
    with pytest.warns(DeprecationWarning, match="likelihood_terms"):
        found = evaluation.evaluate_monte_carlo(model, [x], seed=0)
    mean, error = average(terms["monte_carlo"])
    assert found == {
        "log_likelihood": pytest.approx(mean),
        "log_likelihood_standard_error": pytest.approx(error),
        "num_examples": 5,
    }
    with pytest.warns(DeprecationWarning, match="average"):
        averages = evaluation.averages({"loss": np.array([1.0, 3.0])})
    assert averages == {"loss": 2, "loss_standard_error": 1}
    with pytest.warns(DeprecationWarning, match="active_units"):
        count = old_names.active_units(model, [(x[:2],), (x[2:],)])
    assert count == likelihood.active_units(terms["latent_means"])


def test_the_label_accuracy_takes_the_old_name_of_its_labels():
    images, numbers = np.zeros((4, 2, 2, 1)), np.array([0, 0, 0, 1])
    classifier = DummyClassifier(strategy="most_frequent")
    classifier.fit(images.reshape(4, -1), numbers)
    with pytest.warns(DeprecationWarning, match="label_accuracy"):
        found = old_names.label_consistency(classifier, images, labels=numbers)
    assert found == labels.label_accuracy(classifier, images, numbers)
