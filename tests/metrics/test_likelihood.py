"""Figures of a data set: averages with standard errors, of every example."""

import math

import numpy as np
import pytest
from support.small_cvaes import OBSERVED, images, labels, of_labels, of_parts
from support.small_vaes import binary_images, make_vae

from keras_genmodels.core import seeds
from keras_genmodels.metrics import estimates
from keras_genmodels.metrics import likelihood as evaluation
from keras_genmodels.models import likelihood


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
                values.std(ddof=1) / np.sqrt(23), rel=1e-4
            )


def test_the_draws_are_those_of_the_seed():
    model, x = make_vae(), binary_images(8)
    figures = [
        evaluation.evaluate_bound(model, [x], seed=seed)["distortion"]
        for seed in (0, 0, 1)
    ]
    assert figures[0] == figures[1] != figures[2]


def batches_of(x, condition, size):
    return [
        {"image": x[i : i + size], "condition": condition[i : i + size]}
        for i in range(0, len(x), size)
    ]


@pytest.mark.parametrize("kind", ["labels", "parts"])
def test_conditional_models_take_dicts(kind):
    model = of_labels() if kind == "labels" else of_parts()
    x = images(11)
    condition = labels(11) if kind == "labels" else x * OBSERVED
    rows = seeds.row_seeds(5, 11)
    elbo = model.elbo(x, condition, seed=rows).numpy()
    weighted = likelihood.importance_weighted(
        model, x, condition, num_samples=6, seed=rows, jit_compile=False
    )
    for size in (11, 4):
        batches = batches_of(x, condition, size)
        figures = evaluation.evaluate_bound(model, batches, seed=5)
        assert figures["elbo"] == pytest.approx(elbo.mean(), rel=1e-5)
        figures = evaluation.evaluate_likelihood(
            model, batches, seed=5, num_samples=6, jit_compile=False
        )
        assert figures["num_examples"] == 11
        assert figures["num_samples"] == 6
        for name, values in weighted._asdict().items():
            assert figures[name] == pytest.approx(
                values.numpy().mean(), rel=1e-5
            )
            assert figures[f"{name}_standard_error"] == pytest.approx(
                values.numpy().std(ddof=1) / np.sqrt(11), rel=1e-4
            )


def test_events_alone_are_without_a_label():
    x = images(4)
    model = of_labels(label_dropout=0.1)
    figures = evaluation.evaluate_bound(model, [x], seed=0)
    expected = model.elbo(x, seed=seeds.row_seeds(0, 4)).numpy().mean()
    assert figures["elbo"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "batch", "message"),
    [
        (make_vae, {"image": binary_images(2)}, "'condition' is missing"),
        (
            make_vae,
            {"image": binary_images(2), "condition": labels(2)},
            "a VAE takes no condition",
        ),
        (of_labels, images(2), "needs a condition"),
        (of_labels, {"condition": labels(2)}, "'image' is missing"),
        (
            of_labels,
            {"image": images(2), "condition": labels(3)},
            "got 3 conditions for 2 rows",
        ),
    ],
)
def test_batches_of_another_kind_are_refused(make, batch, message):
    for evaluate in (evaluation.evaluate_bound, evaluation.evaluate_likelihood):
        with pytest.raises(ValueError, match=message):
            evaluate(make(), [batch], seed=0)


def test_bits_per_dimension():
    # 8 bits for each of 64 pixels.
    assert evaluation.bits_per_dimension(64 * 8 * np.log(2), 64) == (
        pytest.approx(8)
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-22.714, 0.4321, "nats"), "-22.71 nats (standard error 0.43)"),
        ((3.0, None, "dB"), "3.00 dB"),
        ((0.12345, 0.001, "", 3), "0.123 (standard error 0.001)"),
        ((None, None, "nats"), "not finite"),
        ((math.inf, math.nan, "dB"), "not finite"),
    ],
)
def test_averages_as_text(arguments, text):
    assert estimates.as_text(*arguments) == text


def test_nothing_to_evaluate_is_an_error():
    for evaluate in (evaluation.evaluate_bound, evaluation.evaluate_likelihood):
        with pytest.raises(ValueError, match="nothing to evaluate"):
            evaluate(make_vae(), [], seed=0)
