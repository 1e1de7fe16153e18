"""Figures of a data set: averages with standard errors, of every example."""

import numpy as np
import pytest
from test_vae import binary_images, make_vae

from keras_genmodels import evaluation, seeds


def test_figures_are_averages_over_all_examples():
    model, x = make_vae(), binary_images(23)
    terms = model.elbo_terms(x, seed=seeds.row_seeds(5, 23))
    rate, distortion = terms["rate"].numpy(), terms["distortion"].numpy()
    for size in (23, 10, 1):
        batches = [x[i : i + size] for i in range(0, 23, size)]
        figures = evaluation.evaluate_bound(model, batches, seed=5)
        assert figures["num_examples"] == 23
        for name, values in {
            "rate": rate,
            "distortion": distortion,
            "elbo": -rate - distortion,
        }.items():
            assert figures[name] == pytest.approx(values.mean(), rel=1e-5)
            assert figures[f"{name}_standard_error"] == pytest.approx(
                values.std() / np.sqrt(23), rel=1e-4
            )


def test_the_draws_are_those_of_the_seed():
    model, x = make_vae(), binary_images(8)
    figures = [
        evaluation.evaluate_bound(model, [x], seed=seed)["distortion"]
        for seed in (0, 0, 1)
    ]
    assert figures[0] == figures[1] != figures[2]


def test_bits_per_dimension():
    # 8 bits for each of 64 pixels.
    assert evaluation.bits_per_dimension(64 * 8 * np.log(2), 64) == (
        pytest.approx(8)
    )


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluation.evaluate_bound(make_vae(), [], seed=0)
