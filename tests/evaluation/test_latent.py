"""What is measured of latent-variable models."""

import math

import numpy as np
import pytest
import scipy.special
import sklearn.datasets
from support.evaluated_runs import KNOWN, MAKE, SHAPE, digits
from support.recording import recorded
from support.small_vaes import make_vae

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.core import xla
from keras_genmodels.evaluation import latent, samples
from keras_genmodels.reports import tables
from keras_genmodels.training import inputs as latent_inputs


def test_the_floor_of_the_digits():
    """theory.md, section 6: 13.30 nats, the last 360 in their order."""
    images = sklearn.datasets.load_digits().images[-360:, :, :, None] / 16
    floor = latent.entropies(make_vae(), images)
    assert floor.shape == (360,)
    assert floor.mean() == pytest.approx(13.30, abs=0.005)


def test_the_floor_is_that_of_the_unseen_pixels():
    images = np.random.default_rng(0).random((5, *SHAPE))
    floor = latent.entropies(MAKE["quadrants"](), images)
    every = scipy.special.entr(images) + scipy.special.entr(1 - images)
    np.testing.assert_allclose(floor, (every * ~KNOWN).sum((1, 2, 3)))


def test_who_knows_the_grey_values_is_at_the_floor():
    """A VAE of one image, whose latent says nothing."""
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
    found = latent.bounds(
        model, split, binarization="dynamic", num_samples=3, seed=0
    ).measures
    for name in ("excess", "log_likelihood_excess"):
        above = found[name].estimate
        assert abs(above.value) < 4 * above.standard_error
        assert above.standard_error < 0.01 * found["entropy"].estimate.value


def test_bits_are_told_of_levels_alone():
    model = make_vae(likelihood="discretized_logistic")
    split = samples.first(digits().test, 20)
    section = latent.bounds(
        model, split, binarization="none", num_samples=3, seed=0
    )
    assert not {"entropy", "excess"} & {*section.measures}
    elbo = section.measures["elbo"].estimate
    bits = section.measures["bits_per_dimension"].estimate
    assert bits.value == pytest.approx(-elbo.value / (64 * math.log(2)))
    error = elbo.standard_error / (64 * math.log(2))
    assert bits.standard_error == pytest.approx(error)


def test_a_cross_entropy_is_called_by_its_name():
    plain = make_vae()
    likelihood = kgm.IndependentBernoulli(SHAPE, grey_values=True)
    model = kgm.VAE(plain.encoder, plain.decoder, plain.posterior, likelihood)
    split = samples.first(digits().test, 20)
    section = latent.bounds(
        model, split, binarization="none", num_samples=3, seed=0
    )
    assert "not likelihoods" in " ".join(section.notes)
    assert "excess" not in section.measures
    for measure in section.measures.values():
        told = f"{measure.label}: {measure.meaning}"
        for wrong in ("log p(x)", "log p(x|z)", "bound,", "lower bound"):
            assert wrong not in told
        assert "higher is better" not in told
    for name in ("elbo", "log_likelihood"):
        assert "bounds nothing" in section.measures[name].meaning


@pytest.mark.parametrize(
    ("kind", "log_p", "rate", "distortion"),
    [
        ("vae", "log p(x)", "KL(q(z|x) || p(z))", "-log p(x|z)"),
        *(
            (kind, "log p(x|c)", "KL(q(z|x, c) || p(z|c))", "-log p(x|z, c)")
            for kind in ("labels", "quadrants")
        ),
    ],
)
def test_what_is_measured_is_told_with_its_condition(
    monkeypatch, kind, log_p, rate, distortion
):
    # Which takes seconds to compile.
    monkeypatch.setattr(xla, "should_compile", lambda _: False)
    model, split = MAKE[kind](), samples.first(digits().test, 5)
    measures = latent.bounds(
        model, split, binarization="dynamic", num_samples=2, seed=0
    ).measures
    assert f"at most {log_p}: higher" in measures["elbo"].meaning
    assert f"bound of {log_p}, from" in measures["log_likelihood"].meaning
    assert f"model's -{log_p} is" in measures["entropy"].meaning
    assert measures["rate"].meaning.startswith(f"{rate}: ")
    assert measures["distortion"].meaning.startswith(f"{distortion}: ")


def test_labels_of_cut_images_have_a_table_of_their_own():
    train, test = digits().train, digits().test
    grey, cut, drawn = (
        latent.labels(
            test.images / np.float32(255), test, train, seed=0, **settings
        )
        for settings in (
            {},
            {"binarization": "threshold"},
            {"binarization": "dynamic"},
        )
    )
    runs = {
        name: {"sections": {"labels": section.as_dict()}}
        for name, section in (("a", grey), ("b", cut), ("c", drawn))
    }
    headers = [table.header[:2] for table in tables.tables(runs)]
    assert [header[0] for header in headers] == ["a", "b"]
    assert headers[0][1] == "c"


@pytest.mark.parametrize(
    ("likelihood", "binarization", "title"),
    [
        ("bernoulli", "dynamic", "Likelihood of drawn pixels"),
        ("bernoulli", "threshold", "Likelihood of pixels cut at 0.5"),
        ("gaussian", "none", "Density of grey values"),
        ("gaussian", "threshold", "Density of pixels cut at 0.5"),
        ("discretized_logistic", "none", "Likelihood of 256 levels"),
    ],
)
def test_what_does_not_compare_has_another_title(
    likelihood, binarization, title
):
    model = make_vae(likelihood=likelihood)
    section = latent.bounds(
        model,
        samples.first(digits().test, 2),
        binarization=binarization,
        num_samples=1,
        seed=0,
    )
    assert section.title == title


def test_a_pixel_that_rounding_put_above_1_has_no_entropy():
    images = np.full((1, *SHAPE), np.nextafter(np.float32(1), 2))
    assert latent.entropies(make_vae(), images) == 0


def test_wide_networks_take_fewer_images_at_a_time():
    images_at_once = latent_inputs.images_at_once
    assert images_at_once(make_vae(), 2000) == 2000
    posterior = kgm.MultivariateNormalDiag(2)
    likelihood = kgm.IndependentBernoulli((128, 128, 1))
    for filters, count in ((1, 2000), (16, 256), (64, 64)):
        model = kgm.VAE(
            kgm.conv_encoder((128, 128, 1), posterior.params_size, filters),
            kgm.conv_decoder(2, likelihood.params_shape, filters),
            posterior,
            likelihood,
        )
        # 4 bytes for each of 128 x 128 values of a channel.
        assert images_at_once(model, 2000) == count


def test_no_network_takes_more_images_than_it_may_at_once(monkeypatch):
    """And the measures are the same."""
    plain, split = make_vae(), samples.first(digits().test, 20)
    encoder, encoded = recorded(plain.encoder)
    decoder, decoded = recorded(plain.decoder)
    model = kgm.VAE(encoder, decoder, plain.posterior, plain.likelihood)
    monkeypatch.setattr(xla, "should_compile", lambda _: False)

    def measured():
        encoded.sizes.clear()
        decoded.sizes.clear()
        found = latent.bounds(
            model, split, binarization="dynamic", num_samples=7, seed=0
        )
        return {k: m.estimate for k, m in found.measures.items()}

    whole = measured()
    assert max(encoded.sizes) >= 20
    # Of 64 values of the widest layer.
    monkeypatch.setattr(latent_inputs, "_MOST_VALUES", 3 * 64)
    parts = measured()
    assert max(encoded.sizes) == max(decoded.sizes) == 3
    for name, (value, error) in whole.items():
        assert parts[name].value == pytest.approx(value, rel=1e-5)
        if error is not None:
            assert parts[name].standard_error == pytest.approx(error, rel=1e-4)


def test_a_training_measures_no_more_images_at_once(monkeypatch):
    data = digits()
    inputs = latent_inputs.Inputs(make_vae(), data, "dynamic", 0)
    whole = np.concatenate([*inputs.of(data.test)])
    monkeypatch.setattr(latent_inputs, "_MOST_VALUES", 9 * 64)
    parts = [*inputs.of(data.test)]
    assert max(map(len, parts)) == 9
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def two_means(scale):
    """An encoder of two means: the first pixel times a scale, and 5."""
    model = make_vae(latent_size=2)
    posterior = model.posterior
    encoder = kgm.mlp_encoder(SHAPE, posterior.params_size, ())
    kernel, bias = np.zeros((64, 4)), np.array([0, 5.0, 0, 0])
    kernel[0, 0] = scale
    encoder.set_weights([kernel, bias])
    return kgm.VAE(encoder, model.decoder, posterior, model.likelihood)


@pytest.mark.parametrize(("scale", "count"), [(0.21, 1), (0.19, 0)])
def test_a_unit_is_active_if_its_mean_varies(scale, count):
    """The pixel is 0 or 1 by halves: the variance is scale^2 / 4."""
    x = np.zeros((10, *SHAPE), np.float32)
    x[::2, 0, 0] = 1
    model = two_means(scale)
    assert latent.active_units(model, [(x[:4],), (x[4:],)]) == count


def test_what_the_condition_tells_is_no_activity():
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
    arguments = (digits().test.images / np.float32(255), digits().test.labels)
    assert latent.active_units(model, [arguments]) == 3
    shared.set_weights([kernel[64:], bias])
    assert latent.active_units(model, [arguments]) == 0
