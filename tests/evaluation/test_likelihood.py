"""The likelihood section of latent-variable models."""

import math

import numpy as np
import pytest
import scipy.special
from support.evaluated_runs import KNOWN, MAKE, SHAPE, digits
from support.recording import recorded
from support.small_hierarchies import make_hvae
from support.small_vaes import make_vae

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.evaluation import likelihood
from keras_genmodels.evaluation import model as evaluation
from keras_genmodels.metrics.estimates import average
from keras_genmodels.metrics.likelihood import (
    active_units,
    has_costly_division,
    latent_means,
    with_divided_rate,
)
from keras_genmodels.training import inputs as latent_inputs


def section_of(model, binarization="dynamic", num_images=20, num_samples=3):
    split = digits().test.take(num_images)
    return likelihood.section(
        model, split, binarization, num_samples=num_samples, seed=0
    )


def estimates_of(model, **kwargs):
    measures = section_of(model, **kwargs).measures
    return {name: measure.estimate for name, measure in measures.items()}


@pytest.mark.slow
def test_a_model_that_knows_the_grey_values_has_no_excess():
    """A VAE of one image, whose latent is independent of it."""
    grey = digits().test.images[:1]
    plain = make_vae(latent_size=2)
    layer = plain.posterior
    encoder = kgm.mlp_encoder(SHAPE, layer.params_size, ())
    # Standard normal, as softplus(x) + 1e-4 is 1.
    raw_scale = np.log(np.expm1(1 - 1e-4))
    encoder.set_weights(
        [np.zeros((64, 4)), np.array([0, 0, raw_scale, raw_scale])]
    )
    decoder = kgm.mlp_decoder(2, plain.likelihood.params_shape, ())
    # Grey of 1 / 255 and more, or a logit would be infinite.
    grey = np.clip(grey, 20, 235)
    logits = scipy.special.logit(grey / 255).ravel()
    decoder.set_weights([np.zeros((2, 64)), logits])
    model = kgm.VAE(encoder, decoder, layer, plain.likelihood)
    split = datasets.Split(np.repeat(grey, 2000, 0), None)
    found = likelihood.section(
        model, split, "dynamic", num_samples=3, seed=0
    ).measures
    for name in ("excess", "log_likelihood_excess"):
        above = found[name].estimate
        assert abs(above.value) < 4 * above.standard_error
        assert above.standard_error < 0.01 * found["entropy"].estimate.value


@pytest.mark.slow
def test_the_seed_of_the_training_draws_nothing():
    first, other = make_vae(seed=0), make_vae(seed=1)
    other.set_weights(first.get_weights())
    found, expected = (estimates_of(m, num_images=4) for m in (other, first))
    assert found == expected


def test_the_entropy_of_completions_is_that_of_the_unseen_pixels():
    grey = np.random.default_rng(0).random((5, *SHAPE))
    entropy = likelihood.binarization_entropy(MAKE["quadrants"](), grey)
    every = scipy.special.entr(grey) + scipy.special.entr(1 - grey)
    np.testing.assert_allclose(entropy, (every * ~KNOWN).sum((1, 2, 3)))


def test_only_likelihoods_of_levels_have_bits_per_dimension():
    found = estimates_of(
        make_vae(likelihood="discretized_logistic"), binarization="none"
    )
    assert not {"entropy", "excess"} & {*found}
    elbo, bits = found["elbo"], found["bits_per_dimension"]
    assert bits.value == pytest.approx(-elbo.value / (64 * math.log(2)))
    error = elbo.standard_error / (64 * math.log(2))
    assert bits.standard_error == pytest.approx(error)


def test_a_cross_entropy_is_not_called_a_likelihood():
    plain = make_vae()
    layer = kgm.IndependentBernoulli(SHAPE, grey_values=True)
    model = kgm.VAE(plain.encoder, plain.decoder, plain.posterior, layer)
    section = section_of(model, "none")
    assert section.title == "Cross entropy of grey values"
    assert "not likelihoods" in " ".join(section.notes)
    assert "excess" not in section.measures
    for name, measure in section.measures.items():
        text = f"{measure.label}: {measure.meaning}"
        for wrong in ("log p(x)", "log p(x|z)", "bound,", "lower bound"):
            assert wrong not in text or name == "effective_samples"
        assert "higher is better" not in text
    for name in ("elbo", "log_likelihood"):
        assert "bounds nothing" in section.measures[name].meaning


@pytest.mark.parametrize(
    ("conditional", "log_p", "rate", "distortion"),
    [
        pytest.param(
            *(False, "log p(x)", "KL(q(z|x) || p(z))", "-log p(x|z)"),
            marks=pytest.mark.slow,
        ),
        (True, "log p(x|c)", "KL(q(z|x, c) || p(z|c))", "-log p(x|z, c)"),
    ],
)
def test_meanings_name_the_condition(conditional, log_p, rate, distortion):
    section = section_of(MAKE["labels" if conditional else "vae"]())
    meanings = {k: m.meaning for k, m in section.measures.items()}
    assert f"bound of {log_p} in" in meanings["elbo"]
    assert f"bound of {log_p}:" in meanings["log_likelihood"]
    assert f"mean -{log_p} of" in meanings["entropy"]
    assert meanings["rate"].startswith(f"{rate}: ")
    assert meanings["distortion"].startswith(f"{distortion}, ")


@pytest.mark.parametrize(
    ("kind", "binarization", "title"),
    [
        ("bernoulli", "dynamic", "Likelihood of randomly binarised pixels"),
        ("bernoulli", "threshold", "Likelihood of pixels thresholded at 0.5"),
        ("gaussian", "none", "Density of grey values"),
        ("gaussian", "threshold", "Density of pixels thresholded at 0.5"),
        ("discretized_logistic", "none", "Likelihood of 256 levels"),
    ],
)
def test_likelihoods_that_are_not_comparable_have_different_titles_and_keys(
    kind, binarization, title
):
    model = make_vae(likelihood=kind)
    assert likelihood.title(model, binarization) == title
    measured = title.partition(" ")[0].lower()
    pixels = "levels" if "levels" in title else binarization
    assert likelihood.key(model, binarization) == f"{measured}/{pixels}"


@pytest.mark.slow
def test_a_costly_division_of_the_rate_is_of_few_images(monkeypatch):
    """After training; an evaluation divides that of all its images."""
    monkeypatch.setattr(evaluation, "_BRIEF_NUM_DIVIDED", 6)
    monkeypatch.setattr(evaluation, "BRIEF_NUM_SAMPLES", 3)
    data, model = digits(), make_hvae()
    count = len(data.test.images)
    settings = evaluation.Settings(num_images=count, num_samples=3)
    whole = evaluation._averaged(model, None, data.test, settings, "dynamic")
    terms = whole["likelihood"].terms(range(count))
    few = with_divided_rate(model, {k: v[:6] for k, v in terms.items()})
    brief = evaluation.evaluate_briefly(model, data, binarization="dynamic")
    for section, num in (
        (brief["likelihood"], 6),
        (whole["likelihood"].section(terms), count),
    ):
        found = section.measures["information"]
        assert found.references["log N"].value == pytest.approx(math.log(num))
        limited = any("the first 6 test images" in n for n in section.notes)
        assert limited == (num == 6)
    for name in ("information", "marginal_kl"):
        found = brief["likelihood"].measures[name].estimate
        expected = average(few[name])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert not has_costly_division(make_vae())


def test_wide_networks_take_fewer_images_at_a_time():
    images_at_once = latent_inputs.images_at_once
    assert images_at_once(make_vae(), 2000) == 2000
    posterior = kgm.MultivariateNormalDiag(2)
    layer = kgm.IndependentBernoulli((128, 128, 1))
    for filters, count in ((1, 2000), (64, 64)):
        model = kgm.VAE(
            kgm.conv_encoder((128, 128, 1), posterior.params_size, filters),
            kgm.conv_decoder(2, layer.params_shape, filters),
            posterior,
            layer,
        )
        # 4 bytes for each of 128 x 128 values of a channel.
        assert images_at_once(model, 2000) == count


@pytest.mark.slow
def test_no_network_takes_more_images_than_it_may_at_once(monkeypatch):
    """And the measures are the same."""
    plain = make_vae()
    encoder, encoded = recorded(plain.encoder)
    decoder, decoded = recorded(plain.decoder)
    model = kgm.VAE(encoder, decoder, plain.posterior, plain.likelihood)

    def measured():
        encoded.sizes.clear()
        decoded.sizes.clear()
        return estimates_of(model, num_images=8, num_samples=7)

    whole = measured()
    assert max(encoded.sizes) >= 8
    # Of 64 values of the widest layer.
    monkeypatch.setattr(latent_inputs, "_MAX_ACTIVATIONS", 3 * 64)
    parts = measured()
    assert max(encoded.sizes) == max(decoded.sizes) == 3
    for name, (value, error) in whole.items():
        assert parts[name].value == pytest.approx(value, rel=1e-5)
        if error is not None:
            assert parts[name].standard_error == pytest.approx(error, rel=1e-4)


def test_a_training_measures_no_more_images_at_once(monkeypatch):
    data = digits()
    inputs = latent_inputs.Inputs(make_vae(), data, "dynamic", 0)
    whole = np.concatenate([*inputs.batches(data.test)])
    monkeypatch.setattr(latent_inputs, "_MAX_ACTIVATIONS", 9 * 64)
    parts = [*inputs.batches(data.test)]
    assert max(map(len, parts)) == 9
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_latent_that_only_encodes_the_condition_is_not_active():
    """An encoder that looks at the label alone, as the prior does."""
    model = MAKE["labels"]()
    shared = kgm.mlp_prior(5, model.posterior.params_size, ())
    model = kgm.ConditionalVAE(
        kgm.mlp_encoder(
            SHAPE,
            model.posterior.params_size,
            hidden_sizes=(),
            condition_size=5,
        ),
        model.decoder,
        model.posterior,
        model.likelihood,
        model.condition_network,
        shared,
        num_classes=10,
    )
    kernel, bias = model.encoder.get_weights()
    kernel[:64] = 0
    kernel[64:] = 10 * np.random.default_rng(0).normal(size=kernel[64:].shape)
    model.encoder.set_weights([kernel, bias])
    binary = (digits().test.images > 127).astype(np.float32)
    arguments = (model, binary, digits().test.labels)
    assert active_units(latent_means(*arguments)) == 3
    shared.set_weights([kernel[64:], bias])
    assert active_units(latent_means(*arguments)) == 0
