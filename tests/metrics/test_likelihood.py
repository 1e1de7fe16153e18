"""Bounds of each example of a data set, and what is computed from them."""

import numpy as np
import pytest
import scipy.special
import sklearn.datasets
from support.small_cvaes import OBSERVED, images, labels, of_labels, of_parts
from support.small_hierarchies import make_hvae
from support.small_priors import make_prior
from support.small_vaes import SHAPE, binary_images, make_vae

from keras_genmodels.core import seeds
from keras_genmodels.distributions import gaussian_mixture
from keras_genmodels.metrics import aggregated_posterior, likelihood
from keras_genmodels.models.likelihood import importance_weighted


@pytest.fixture(scope="module")
def vae():
    """One model, as its loop is traced once for all batches and seeds."""
    return make_vae(beta=3.0)


def terms_of(model, batches, seed=5, num_samples=6):
    return likelihood.likelihood_terms(
        model, batches, seed=seed, num_samples=num_samples, jit_compile=False
    )


def batches_of(x, condition, size):
    return [
        {"image": x[i : i + size], "condition": condition[i : i + size]}
        for i in range(0, len(x), size)
    ]


def assert_same_terms(found, expected):
    for name, values in expected.items():
        values = np.asarray(values)
        np.testing.assert_allclose(
            found[name], values, rtol=1e-4, atol=1e-5, err_msg=name
        )
        # Averages lose less to rounding.
        if not name.startswith("latent"):
            assert found[name].mean() == pytest.approx(values.mean(), rel=1e-5)
            error = values.std(ddof=1)
            assert found[name].std(ddof=1) == pytest.approx(error, rel=1e-4)


def divided_rate(model, x, rows):
    """By TFP's mixture of the posteriors of all examples."""
    q, z = model.encode(x), model.draw_latents(x, seed=rows)
    aggregated = gaussian_mixture.uniform_mixture(q).log_prob(z)
    return {
        "information": q.log_prob(z) - aggregated,
        "marginal_kl": aggregated - model.prior().log_prob(z),
    }


def test_terms_are_those_of_the_model_for_any_batch_size(vae):
    model, x = vae, binary_images(11)
    rows = seeds.row_seeds(5, 11)
    bound = model.elbo_terms(x, seed=rows)
    rate, distortion = bound["rate"].numpy(), bound["distortion"].numpy()
    expected = {
        "rate": rate,
        "distortion": distortion,
        "elbo": -rate - distortion,
        "monte_carlo": model.monte_carlo(x, seed=rows),
        "loss": distortion + 3 * rate,
        "latent_means": model.encode(x).mean(),
        "latents": model.draw_latents(x, seed=rows),
        **divided_rate(model, x, rows),
        **importance_weighted(
            model, x, num_samples=6, seed=rows, jit_compile=False
        )._asdict(),
    }
    for size in (11, 5, 1):
        batches = [x[i : i + size] for i in range(0, 11, size)]
        terms = terms_of(model, batches)
        assert terms.keys() == expected.keys()
        assert_same_terms(terms, expected)


def test_the_loss_of_several_draws_is_their_bound():
    model, x = make_vae(num_importance_samples=3), binary_images(7)
    terms = terms_of(model, [x], num_samples=3)
    np.testing.assert_allclose(
        terms["loss"], -terms["log_likelihood"], rtol=1e-5
    )


@pytest.mark.slow
def test_the_draws_are_those_of_the_seed(vae):
    x = binary_images(8)
    found = [terms_of(vae, [x], seed)["distortion"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize(
    "kind", [pytest.param("labels", marks=pytest.mark.slow), "parts"]
)
def test_conditional_models_take_dicts(kind):
    model = of_labels() if kind == "labels" else of_parts()
    x = images(11)
    condition = labels(11) if kind == "labels" else x * OBSERVED
    rows = seeds.row_seeds(5, 11)
    expected = importance_weighted(
        model, x, condition, num_samples=6, seed=rows, jit_compile=False
    )._asdict()
    expected["elbo"] = model.elbo(x, condition, seed=rows)
    for size in (11, 4):
        terms = terms_of(model, batches_of(x, condition, size))
        assert_same_terms(terms, expected)
        # With conditions the rate is not divided.
        assert "information" not in terms


def test_events_alone_are_without_a_label():
    x = images(4)
    model = of_labels(label_dropout=0.1)
    expected = model.elbo(x, seed=seeds.row_seeds(5, 4))
    assert_same_terms(terms_of(model, [x]), {"elbo": expected})


@pytest.mark.parametrize(
    ("make", "batches", "message"),
    [
        (make_vae, [], "nothing to evaluate"),
        (make_vae, [{"image": binary_images(2)}], "'condition' is missing"),
        (
            make_vae,
            [{"image": binary_images(2), "condition": labels(2)}],
            "a VAE takes no condition",
        ),
        (of_labels, [images(2)], "needs a condition"),
        (of_labels, [{"condition": labels(2)}], "'image' is missing"),
        (
            of_labels,
            [{"image": images(2), "condition": labels(3)}],
            "got 3 conditions for 2 rows",
        ),
    ],
)
def test_batches_that_the_model_does_not_take_are_refused(
    make, batches, message
):
    with pytest.raises(ValueError, match=message):
        terms_of(make(), batches)


def test_uniform_pixels_of_256_levels_have_8_bits_per_dimension():
    assert likelihood.bits_per_dimension(64 * 8 * np.log(2), 64) == (
        pytest.approx(8)
    )


def test_the_entropy_of_the_binarised_digits_is_that_of_theory():
    """13.30 nats, over the last 360 in their order."""
    digits = sklearn.datasets.load_digits().images[-360:, :, :, None] / 16
    entropy = likelihood.binarization_entropy(digits)
    assert entropy.shape == (360,)
    assert entropy.mean() == pytest.approx(13.30, abs=0.005)


def test_the_entropy_is_summed_over_the_counted_pixels():
    grey = np.random.default_rng(0).random((5, *SHAPE))
    counted = np.random.default_rng(1).random(SHAPE) < 0.5
    every = scipy.special.entr(grey) + scipy.special.entr(1 - grey)
    np.testing.assert_allclose(
        likelihood.binarization_entropy(grey, counted),
        (every * counted).sum((1, 2, 3)),
    )


def test_a_pixel_that_rounding_put_above_1_has_no_entropy():
    grey = np.full((1, *SHAPE), np.nextafter(np.float32(1), 2))
    assert likelihood.binarization_entropy(grey) == 0


@pytest.mark.parametrize(
    "posterior", [pytest.param("diagonal", marks=pytest.mark.slow), "full"]
)
def test_the_rate_is_information_and_misfit_of_the_prior(posterior, float64):
    model, x = make_vae(posterior, prior=make_prior("mixture")), binary_images()
    terms = terms_of(model, [x])
    parts = terms["information"] + terms["marginal_kl"]
    np.testing.assert_allclose(parts, terms["rate"], rtol=1e-9)
    # A posterior that shows the image: no value exceeds log N.
    sharp = 1e-3 * np.eye(3)
    found = aggregated_posterior.divide_rate(
        {"loc": terms["latents"], "scale_tril": np.array([sharp] * len(x))},
        terms["latents"],
        np.zeros(len(x)),
    )
    np.testing.assert_allclose(found["information"], np.log(len(x)))


def test_the_rate_of_layers_is_divided_as_well(float64, monkeypatch):
    """By the log density of each draw under the posterior of each image."""
    model, x = make_hvae((2, 1)), binary_images(6)
    encoded = model.encoder(x).numpy()
    most = encoded.shape[1] * 4**2  # Batches of 4 and of 2 draws.
    monkeypatch.setattr(aggregated_posterior, "_MAX_FEATURES", most)
    z = model.draw_latents(x, seed=5)
    log_probs = model.encode(x).log_prob(z[:, np.newaxis]).numpy()
    aggregated = scipy.special.logsumexp(log_probs, axis=1) - np.log(6)
    log_prior = model.prior().log_prob(z)
    found = aggregated_posterior.divide_rate_of_layers(
        model.posterior_of, encoded, z.numpy(), log_prior
    )
    information = np.diagonal(log_probs) - aggregated
    np.testing.assert_allclose(found["information"], information)
    np.testing.assert_allclose(found["marginal_kl"], aggregated - log_prior)
    assert information.max() <= np.log(6)


def test_active_units_are_in_units_of_the_aggregated_posterior():
    means = np.random.default_rng(0).standard_normal((100, 2))
    draws = means * [1.0, 30.0]
    assert likelihood.active_units(means, draws) == 1
    assert likelihood.active_units(50 * means, 50 * draws) == 1


@pytest.mark.parametrize(("scale", "count"), [(0.21, 1), (0.19, 0)])
def test_a_unit_is_active_if_the_variance_of_its_mean_is_above_0_01(
    scale, count
):
    """Of a mean that is 0 or `scale` the variance is scale^2 / 4."""
    means = np.full((10, 2), 5.0)
    means[::2, 0] += scale
    assert likelihood.active_units(means) == count
