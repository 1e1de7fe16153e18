"""The conditional VAE: exact answers, contracts, learning, bad input."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels import seeds

SHAPE = (4, 4, 1)
NUM_LABELS = 3
LIKELIHOODS = {
    "bernoulli": kgm.IndependentBernoulli,
    "gaussian": kgm.IndependentNormal,
    "discretized_logistic": kgm.IndependentDiscretizedLogistic,
}
POSTERIORS = {
    "diagonal": kgm.MultivariateNormalDiag,
    "full": kgm.MultivariateNormalTriL,
}
# The upper half and the pixel below it.
KNOWN = (np.arange(16) < 9).reshape(SHAPE)


def assemble(
    condition_network,
    condition_size,
    posterior="diagonal",
    likelihood="bernoulli",
    learned=False,
    **kwargs,
):
    posterior = POSTERIORS[posterior](2)
    likelihood = LIKELIHOODS[likelihood](SHAPE)
    sizes = {"hidden_sizes": (16,), "condition_size": condition_size}
    prior = kgm.mlp_prior(condition_size, posterior.params_size, (8,))
    pieces = {
        "encoder": kgm.mlp_encoder(SHAPE, posterior.params_size, **sizes),
        "decoder": kgm.mlp_decoder(2, likelihood.params_shape, **sizes),
        "posterior": posterior,
        "likelihood": likelihood,
        "condition_network": condition_network,
        "prior_network": prior if learned else None,
    }
    return kgm.ConditionalVAE(**{**pieces, **kwargs})


def of_labels(posterior="diagonal", likelihood="bernoulli", **kwargs):
    kwargs = {"num_labels": NUM_LABELS, **kwargs}
    return assemble(
        kgm.label_embedding(NUM_LABELS, 5), 5, posterior, likelihood, **kwargs
    )


def of_parts(likelihood="bernoulli", known=KNOWN, **kwargs):
    """A model that completes images."""
    network = kgm.image_condition(SHAPE, 5, filters=2)
    return assemble(network, 5, "full", likelihood, known=known, **kwargs)


def images(n=12, seed=0, levels=2):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, levels, (n, *SHAPE)) / (levels - 1)
    return x.astype("float32")


def labels(n=12):
    return np.arange(n) % NUM_LABELS


def dicts(n=12):
    return {"image": images(n), "condition": labels(n)}


# --- Exact: the linear-Gaussian conditional model. -------------------------
# p(z|c) = N(Ac + a, P), p(x|z, c) = N(Wz + Bc + b, s^2 I), so that
# p(x|c) = N(W(Ac + a) + Bc + b, W P W' + s^2 I).

W = np.array([[1.0, 0.8], [0.5, 0.7], [-0.3, 0.2], [0.9, 0.6], [0.0, 0.5]])
S = 0.5
P = np.array([[0.8, 0.5], [0.5, 0.7]])


def linear_model(posterior, condition_size, hidden_sizes=(), known=None):
    """A model with a linear decoder: x in 5 numbers, z in 2."""
    layer = POSTERIORS[posterior](2)
    network = keras.Sequential(
        [
            keras.Input((condition_size,), dtype="float64"),
            keras.layers.Identity(),
        ]
    )
    return kgm.ConditionalVAE(
        kgm.mlp_encoder((5,), layer.params_size, hidden_sizes, condition_size),
        kgm.mlp_decoder(2, (5,), (), condition_size),
        layer,
        kgm.IndependentNormal((5,), stddev=S),
        network,
        kgm.mlp_prior(condition_size, layer.params_size, hidden_sizes),
        known=known,
    )


def gaussian_params(layer, kernel, mean, covariance):
    """The dense layer that gives N(kernel' input + mean, covariance)."""
    root = np.linalg.cholesky(covariance)
    raw = root / np.diag(root)[:, np.newaxis] * np.sqrt(2)
    diagonal = np.diag(root) - 1e-4  # the layer's smallest scale
    np.fill_diagonal(raw, np.log(np.expm1(diagonal)))
    # Ask the layer where each parameter goes instead of assuming its order.
    bias = np.concatenate([mean, np.zeros(3)])
    for i in range(2, 5):
        unit = np.zeros((1, layer.params_size))
        unit[0, i] = 50.0
        lower = layer(unit).scale_tril.numpy()[0]
        bias[i] = raw[np.unravel_index(np.argmax(lower), (2, 2))]
    return [np.concatenate([kernel, np.zeros((len(kernel), 3))], 1), bias]


def exact_log_likelihood(model, x, c):
    """log p(x|c) of the entries to tell, from prior and linear decoder."""
    told = np.ones(5, bool) if model.known is None else ~model.known
    kernel, bias = model.decoder.get_weights()
    prior = model.prior(c)
    mean = np.concatenate([prior.mean(), c], 1) @ kernel + bias
    w = kernel[:2, told].T
    covariance = w @ prior.covariance().numpy() @ w.T
    covariance += S**2 * np.eye(told.sum())
    return np.array(
        [
            scipy.stats.multivariate_normal(m, v).logpdf(row)
            for m, v, row in zip(
                mean[:, told], covariance, x[:, told], strict=True
            )
        ]
    )


def linear_data(n, known):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, 5)) @ rng.standard_normal((5, 5))
    return x, rng.standard_normal((n, 2)) if known is None else x * known


@pytest.mark.parametrize(
    "known", [None, np.array([True, False, False, True, False])]
)
def test_true_posterior_makes_every_draw_exact(float64, known):
    """log p(z|c) + log p(x|z, c) - log q(z|x, c) = log p(x|c)."""
    told = np.ones(5, bool) if known is None else ~known
    x, c = linear_data(20, known)
    size = c.shape[1]
    rng = np.random.default_rng(2)
    prior_kernel, prior_mean = rng.random((2, size)), rng.random(2)
    b_kernel, b = rng.random((5, size)), rng.random(5)
    model = linear_model("full", size, known=known)
    layer = model.posterior
    model.prior_network.set_weights(
        gaussian_params(layer, prior_kernel.T, prior_mean, P)
    )
    model.decoder.set_weights([np.concatenate([W.T, b_kernel.T]), b])
    w = W[told]
    covariance = np.linalg.inv(np.linalg.inv(P) + w.T @ w / S**2)
    gain = covariance @ w.T / S**2
    shrink = covariance @ np.linalg.inv(P)
    from_x = np.zeros((5, 2))
    from_x[told] = gain.T
    from_c = (shrink @ prior_kernel - gain @ b_kernel[told]).T
    mean = shrink @ prior_mean - gain @ b[told]
    kernel = np.concatenate([from_x, from_c])
    model.encoder.set_weights(gaussian_params(layer, kernel, mean, covariance))

    center = (c @ prior_kernel.T + prior_mean) @ w.T
    center += c @ b_kernel[told].T + b[told]
    marginal = w @ P @ w.T + S**2 * np.eye(told.sum())
    exact = scipy.stats.multivariate_normal(cov=marginal).logpdf(
        x[:, told] - center
    )
    q, prior = model.encode(x, c), model.prior(c)
    for draw in q.sample(5, seed=[0, 1]):
        log_probs = model.decode(draw, c).distribution.log_prob(x).numpy()
        ratio = prior.log_prob(draw) - q.log_prob(draw)
        np.testing.assert_allclose(
            ratio + log_probs[:, told].sum(1), exact, rtol=1e-9
        )
    # The same from the model's side, and the bound in expectation.
    np.testing.assert_allclose(exact_log_likelihood(model, x, c), exact)
    check_bound(model, x, c, least=0.0, most=0.0)


def check_bound(model, x, c, least, most):
    """Holds the mean shortfall of the bound between least and most."""
    n, draws = len(x), 400
    terms = model.elbo_terms(
        np.tile(x, (draws, 1)), np.tile(c, (draws, 1)), seed=3
    )
    elbo = -(terms["rate"] + terms["distortion"]).numpy().reshape(draws, n)
    error = elbo.std(0) / np.sqrt(draws)
    exact = exact_log_likelihood(model, x, c)
    assert terms["rate"].numpy().min() >= 0
    np.testing.assert_array_less(elbo.mean(0) - exact, 4 * error)
    shortfall = (exact - elbo.mean(0)).mean()
    allowed = 4 * np.sqrt((error**2).sum()) / n
    assert least - allowed < shortfall < most + allowed


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_bound_of_a_learned_prior_is_below_the_exact_likelihood(
    float64, posterior
):
    """Also where nothing fits, and posteriors and priors bend with c."""
    model = linear_model(posterior, 2, hidden_sizes=(16,))
    for weight in model.weights:
        # Far from where rate and gap are near 0.
        weight.assign(1.5 * weight)
    x, c = linear_data(20, None)
    check_bound(model, x, c, least=1.0, most=np.inf)


# --- What training finds. --------------------------------------------------


def prototypes():
    """Images of three labels: each 5 percent of a prototype's pixels off."""
    rng = np.random.default_rng(5)
    center = rng.integers(0, 2, (NUM_LABELS, *SHAPE))

    def draw(n):
        y = rng.integers(0, NUM_LABELS, n)
        off = rng.random((n, *SHAPE)) < 0.05
        return {
            "image": (center[y] ^ off).astype("float32"),
            "condition": y,
        }

    return center, draw(600), draw(200)


def test_shuffled_labels_cost_far_more_than_the_error():
    center, train, test = prototypes()
    model = of_labels("full", label_dropout=0.2)
    model.compile(
        keras.optimizers.Adam(0.01), jit_compile=True, steps_per_execution=12
    )
    dataset = tf.data.Dataset.from_tensor_slices(train).shuffle(600, seed=0)
    model.fit(dataset.batch(50, drop_remainder=True), epochs=20, verbose=0)

    x, y = test["image"], test["condition"]
    shuffled = np.random.default_rng(0).permutation(y)
    right = model.elbo(x, y, seed=1).numpy()
    difference = right - model.elbo(x, shuffled, seed=1).numpy()
    error = difference.std() / np.sqrt(len(x))
    assert difference.mean() > 8 * error
    # Entropy of the pixels: no model is better, this one is near.
    entropy = -16 * (0.05 * np.log(0.05) + 0.95 * np.log(0.95))
    assert -right.mean() > entropy - 4 * right.std() / np.sqrt(len(x))
    assert -right.mean() < entropy + 1.5
    # Knowing the label is worth up to log(3) nats, not knowing it costs them.
    without = model.elbo(x, None, seed=1).numpy()
    assert 0.5 < (right - without).mean() < 3

    drawn = model.sample(np.repeat(np.arange(3), 20), seed=2).numpy()
    drawn = drawn.reshape(3, 20, *SHAPE)
    distance = np.abs(drawn[:, None] - center[None, :, None]).sum((3, 4, 5))
    assert (distance.argmin(1) == np.arange(3)[:, None]).all()
    # Guidance drives the pixels further to black and white.
    guided = model.sample(np.arange(3), seed=2, guidance=1.0).numpy()
    plain = model.sample(np.arange(3), seed=2).numpy()
    assert np.abs(guided - 0.5).mean() > np.abs(plain - 0.5).mean() + 0.01


def test_two_modes_are_recovered_with_their_weights():
    """P(Y|X): Y = +-(1 + X) + noise, + with probability 0.2 + 0.5 X."""
    rng = np.random.default_rng(0)
    c = rng.integers(0, 2, (4000, 1)).astype("float32")
    sign = np.where(rng.random((4000, 1)) < 0.2 + 0.5 * c, 1, -1)
    y = sign * (1 + c) + 0.1 * rng.standard_normal((4000, 1))
    network = keras.Sequential([keras.Input((1,)), keras.layers.Identity()])
    model = kgm.ConditionalVAE(
        kgm.mlp_encoder((1,), 2, (32,), condition_size=1),
        kgm.mlp_decoder(1, (1,), (32, 32), condition_size=1),
        kgm.MultivariateNormalDiag(1),
        kgm.IndependentNormal((1,), stddev=0.1),
        network,
        kgm.mlp_prior(1, 2, (8,)),
    )
    steps = 800
    schedule = keras.optimizers.schedules.CosineDecay(0.02, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        jit_compile=True,
        steps_per_execution=80,
    )
    data = {"image": y.astype("float32"), "condition": c}
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(400).repeat()
    model.fit(dataset, steps_per_epoch=steps, verbose=0)
    for value, weight in ((0.0, 0.2), (1.0, 0.7)):
        conditions = np.full((4000, 1), value, np.float32)
        drawn = model.sample(conditions, seed=1).numpy()
        np.testing.assert_allclose((drawn > 0).mean(), weight, atol=0.05)
        # The decoder is continuous: some lie between the modes. A Gaussian
        # of the right mean and variance would put a third there.
        assert (np.abs(drawn) < 0.5 * (1 + value)).mean() < 0.15
        for mode in (-1 - value, 1 + value):
            beyond = drawn[drawn / mode > 0.5]
            assert abs(np.median(beyond) - mode) < 0.2


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_weight_has_a_gradient_and_steps_help(posterior, likelihood):
    model = of_labels(posterior, likelihood, learned=True, label_dropout=0.2)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    data = dicts(24)

    def loss():
        terms = model(data, training=True)
        return tf.reduce_mean(terms["rate"] + terms["distortion"])

    with tf.GradientTape() as tape:
        before = loss()
    gradients = tape.gradient(before, model.trainable_variables)
    for variable, gradient in zip(
        model.trainable_variables, gradients, strict=True
    ):
        values = tf.convert_to_tensor(gradient)
        assert np.abs(values).max() > 0, variable.path
    networks = [getattr(model, name) for name in model._networks]
    assert len(gradients) == sum(len(part.weights) for part in networks)
    model.fit(data, batch_size=24, epochs=2, verbose=0)
    # The same draws again, as they are those of (seed, step).
    model.optimizer.iterations.assign(0)
    assert loss() < before - 0.05


# --- Completion. -----------------------------------------------------------


def pixel_log_probs(likelihood, model, params, x):
    """log p of each pixel, by NumPy and SciPy alone."""
    params = np.asarray(params, np.float64)
    if likelihood == "bernoulli":
        return np.where(
            x == 1,
            scipy.special.log_expit(params),
            scipy.special.log_expit(-params),
        )
    if likelihood == "gaussian":
        stddev = 1e-3 + np.exp(model.likelihood.log_stddev.numpy())
        return scipy.stats.norm(params, stddev).logpdf(x)
    loc, raw_scale = np.split(params, 2, axis=-1)
    scale = 0.02 / 255 + 0.1 * np.logaddexp(0, raw_scale)
    cdf = scipy.stats.logistic(0.5 + loc, scale).cdf
    upper = np.where(x == 1, 1, cdf(x + 0.5 / 255))
    return np.log(upper - np.where(x == 0, 0, cdf(x - 0.5 / 255)))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_distortion_of_completion_counts_the_unseen_alone(likelihood):
    model = of_parts(likelihood, learned=True)
    x = images(5, levels=2 if likelihood == "bernoulli" else 256)
    c = x * KNOWN
    terms = model.elbo_terms(x, c, seed=4)
    q = model.encode(x, c)
    noise = seeds.normal(seeds.row_seeds(4, 5), (2,))
    z = q.mean() + tf.linalg.matvec(np.linalg.cholesky(q.covariance()), noise)
    params = model.decoder([z, model.condition_network(c)])
    pixels = pixel_log_probs(likelihood, model, params, x.astype("float64"))
    expected = -pixels[:, ~KNOWN].sum(1)
    # The logistic's tails subtract two numbers near one.
    np.testing.assert_allclose(terms["distortion"], expected, rtol=1e-4)
    whole = -model.decode(z, c).log_prob(x).numpy()
    np.testing.assert_allclose(whole, -pixels.sum((1, 2, 3)), rtol=1e-4)

    np.testing.assert_array_equal(
        terms["reconstruction"].numpy()[:, KNOWN], x[:, KNOWN]
    )
    drawn = model.sample(c, seed=0).numpy()
    np.testing.assert_array_equal(drawn[:, KNOWN], x[:, KNOWN])
    mean = model.decode(z, c).mean().numpy()
    np.testing.assert_allclose(
        terms["reconstruction"].numpy()[:, ~KNOWN], mean[:, ~KNOWN], rtol=1e-5
    )
    assert np.abs(drawn - mean)[:, ~KNOWN].max() > 1e-4


def test_known_pixels_are_exact_under_bfloat16(bfloat16):
    model = of_parts("discretized_logistic")
    x = images(4, levels=256)
    np.testing.assert_array_equal(
        model.sample(x, seed=0).numpy()[:, KNOWN], x[:, KNOWN]
    )
    model.compile(run_eagerly=True)
    reconstruction = model.predict(
        {"image": x, "condition": x * KNOWN}, verbose=0
    )["reconstruction"]
    np.testing.assert_array_equal(reconstruction[:, KNOWN], x[:, KNOWN])


def test_unseen_pixels_of_a_condition_are_not_looked_at():
    model = of_parts()
    x = images(4)
    for use in (
        lambda c: model.elbo(x, c, seed=0),
        lambda c: model.sample(c, seed=0),
        lambda c: model({"image": x, "condition": c})["distortion"],
    ):
        np.testing.assert_array_equal(use(x), use(x * KNOWN))
    assert np.abs(model.elbo(x, 0 * x, seed=0) - model.elbo(x, x, seed=0)).max()


# --- Labels: guidance, dropout, none. --------------------------------------


@pytest.mark.parametrize("guidance", [0.0, 0.5, 3.0])
def test_guidance_moves_the_logits(guidance):
    """logits = (1 + g) logits(z, c) - g logits(z, no label)."""
    model = of_labels(learned=True, label_dropout=0.1)
    y = np.array([2, 0, 1, 3])
    prior = model.prior(y)
    noise = seeds.normal(seeds.row_seeds(6, 4), (2,))
    z = prior.mean() + prior.stddev() * noise
    embed = model.condition_network
    given = model.decoder([z, embed(y)]).numpy()
    without = model.decoder([z, embed(np.full(4, NUM_LABELS))]).numpy()
    logits = (1 + guidance) * given - guidance * without
    drawn = model.sample(y, seed=6, guidance=guidance)
    np.testing.assert_allclose(drawn, scipy.special.expit(logits), rtol=1e-4)
    assert np.abs(given - without)[:3].max() > 0.05
    np.testing.assert_allclose(given[3], without[3], rtol=1e-5)


def dropped(model, n, training=True):
    """Which rows lost their label: their distortion tells, as z is deaf."""
    data = {"image": np.ones((n, *SHAPE), "float32"), "condition": labels(n)}
    return model(data, training=training)["distortion"].numpy() > 20


def telltale(seed, **kwargs):
    """A model whose distortion is below 20 with a label and above without."""
    model = of_labels(seed=seed, label_dropout=0.3, **kwargs)
    table = np.zeros((NUM_LABELS + 1, 5))
    table[NUM_LABELS] = 1
    model.condition_network.set_weights([table])
    hidden, bias, kernel, offset = model.decoder.get_weights()
    hidden[:2] = 0
    hidden[2:] = 1
    model.decoder.set_weights([hidden, bias, 0 * kernel - 1, offset])
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


def test_label_dropout_draws_from_seed_and_step():
    model = telltale(seed=1)
    n = 4000
    first = dropped(model, n)
    # Four standard errors.
    assert abs(first.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)
    for label in range(NUM_LABELS):
        assert abs(first[labels(n) == label].mean() - 0.3) < 0.06
    np.testing.assert_array_equal(dropped(telltale(seed=1), n), first)
    # Independent masks agree on 0.58 of the rows.
    assert abs((dropped(telltale(seed=2), n) == first).mean() - 0.58) < 0.04
    model.optimizer.iterations.assign(1)
    assert abs((dropped(model, n) == first).mean() - 0.58) < 0.04


def test_label_dropout_leaves_inference_alone():
    model = telltale(seed=1)
    assert not dropped(model, 500, training=False).any()
    results = model.evaluate(dicts(50), verbose=0, return_dict=True)
    other = of_labels()
    other.set_weights(model.get_weights())
    other.seed = 1
    other.compile(run_eagerly=True)
    assert other.evaluate(dicts(50), verbose=0, return_dict=True) == results
    # And no labels are dropped where none should be.
    plain = telltale(seed=1)
    plain.label_dropout = 0.0
    assert not dropped(plain, 500).any()


@pytest.mark.parametrize("learned", [False, True])
def test_none_is_no_label(learned):
    model = of_labels("full", learned=learned, label_dropout=0.1)
    x, none = images(4), np.full(4, NUM_LABELS)
    z = model.encode(x, none).mean()
    for one, other in (
        (model.encode(x).covariance(), model.encode(x, none).covariance()),
        (model.decode(z).mean(), model.decode(z, none).mean()),
        (model.prior().mean(), model.prior(none[:1]).mean()),
        (model.elbo(x, seed=0), model.elbo(x, none, seed=0)),
        (model.sample(num=4, seed=0), model.sample(none, seed=0)),
    ):
        np.testing.assert_array_equal(one, other)
    assert np.abs(model.elbo(x, 0 * none, seed=0) - model.elbo(x, seed=0)).min()


def test_without_label_dropout_a_condition_is_needed():
    model = of_labels(learned=True)
    x = images(2)
    for use in (
        lambda: model.encode(x),
        lambda: model.decode(np.zeros((2, 2), "float32")),
        lambda: model.prior(),
        lambda: model.elbo(x, seed=0),
        lambda: model.sample(num=2, seed=0),
    ):
        with pytest.raises(ValueError, match="needs a condition"):
            use()
    with pytest.raises(ValueError, match="labels must be 0 to 2, got 3"):
        model.encode(x, [0, NUM_LABELS])
    with pytest.raises(
        ValueError, match="guidance must be >= 0 and finite, and 0"
    ):
        model.sample([0], seed=0, guidance=1.0)
    # N(0, I) is what it is.
    np.testing.assert_array_equal(of_labels().prior().mean(), [0, 0])


# --- Contracts. ------------------------------------------------------------


@pytest.mark.parametrize("learned", [False, True])
def test_a_sample_depends_on_its_condition_and_row_seed_alone(learned):
    model = of_labels("full", learned=learned)
    y = labels(6)
    sheet = model.sample(y, seed=3).numpy()
    assert sheet.shape == (6, *SHAPE)
    np.testing.assert_allclose(
        model.sample(y[:2], seed=3), sheet[:2], rtol=1e-5
    )
    rows = seeds.row_seeds(3, 6)
    for i in (1, 5):
        alone = model.sample(y[i : i + 1], seed=rows[i : i + 1])
        np.testing.assert_allclose(alone, sheet[i : i + 1], rtol=1e-5)
    assert np.abs(model.sample(y, seed=4) - sheet).max() > 1e-3
    assert np.abs(model.sample((y + 1) % 3, seed=3) - sheet).max() > 1e-3


def test_a_constant_condition_gives_a_vae(float64):
    model = of_labels("full")
    features = np.random.default_rng(0).standard_normal(5)
    table = np.tile(features, (NUM_LABELS + 1, 1))
    model.condition_network.set_weights([table])
    vae = kgm.VAE(
        kgm.mlp_encoder(SHAPE, model.posterior.params_size, (16,)),
        kgm.mlp_decoder(2, model.likelihood.params_shape, (16,)),
        model.posterior,
        model.likelihood,
    )
    for mine, theirs in (
        (vae.encoder, model.encoder),
        (vae.decoder, model.decoder),
    ):
        kernel, bias, *rest = theirs.get_weights()
        mine.set_weights([kernel[:-5], bias + features @ kernel[-5:], *rest])
    x, y = images(6), labels(6)
    np.testing.assert_allclose(model.elbo(x, y, seed=2), vae.elbo(x, seed=2))
    np.testing.assert_allclose(model.sample(y, seed=2), vae.sample(6, seed=2))
    for model_terms, vae_terms in zip(
        model({"image": x, "condition": y}).values(),
        vae(x).values(),
        strict=True,
    ):
        np.testing.assert_allclose(model_terms, vae_terms)


def test_evaluate_is_the_average_whatever_the_batches_and_the_order():
    model = of_labels(learned=True, label_dropout=0.4)
    model.compile()
    data = dicts(50)
    terms = model(data)
    order = np.random.default_rng(0).permutation(50)
    for batch_size, rows in ((50, order), (16, np.arange(50))):
        part = {key: value[rows] for key, value in data.items()}
        dataset = tf.data.Dataset.from_tensor_slices(part).batch(batch_size)
        results = model.evaluate(dataset, verbose=0, return_dict=True)
        for name in ("rate", "distortion"):
            mean = terms[name].numpy().mean()
            assert results[name] == pytest.approx(mean, rel=1e-5)
    assert results["elbo"] == pytest.approx(
        -(results["rate"] + results["distortion"]), rel=1e-6
    )


def test_beta_weighs_the_rate():
    model = of_labels(learned=True, beta=3.0)
    model.compile(run_eagerly=True)
    results = model.evaluate(dicts(), verbose=0, return_dict=True)
    assert results["loss"] == pytest.approx(
        results["distortion"] + 3 * results["rate"], rel=1e-5
    )


@keras.saving.register_keras_serializable("test_cvae")
class OwnEmbedding(keras.layers.Layer):
    """A user's own: as many rows as labels, and no input shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = self.add_weight(shape=(NUM_LABELS, 5))

    def call(self, labels):
        return tf.gather(self.table, labels)


def _tokens():
    return keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            keras.layers.Embedding(7, 3),
            keras.layers.Flatten(),
        ]
    )


@pytest.mark.parametrize(
    ("network", "size", "condition", "num_labels"),
    [
        (OwnEmbedding, 5, labels(4), NUM_LABELS),
        (_tokens, 6, np.array([[1, 2], [3, 4], [5, 6], [0, 0]]), None),
        (
            lambda: kgm.image_condition((9, 7, 2), 4, filters=2),
            4,
            np.ones((4, 9, 7, 2), np.float32),
            None,
        ),
    ],
    ids=["own", "tokens", "image"],
)
def test_conditions_are_whatever_keras_embeds(
    network, size, condition, num_labels
):
    model = assemble(network(), size, num_labels=num_labels, learned=True)
    x = images(4)
    assert model.elbo(x, condition, seed=0).shape == (4,)
    assert model.sample(condition, seed=0).shape == (4, *SHAPE)
    model.compile(run_eagerly=True)
    model.fit({"image": x, "condition": condition}, verbose=0)
    copy = model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        copy.elbo(x, condition, seed=0), model.elbo(x, condition, seed=0)
    )


def test_convolutions_all_through():
    shape = (9, 7, 1)
    posterior = kgm.MultivariateNormalTriL(2)
    likelihood = kgm.IndependentBernoulli(shape)
    model = kgm.ConditionalVAE(
        kgm.conv_encoder(shape, posterior.params_size, 2, condition_size=3),
        kgm.conv_decoder(2, likelihood.params_shape, 2, condition_size=3),
        posterior,
        likelihood,
        kgm.label_embedding(2, 3),
        num_labels=2,
    )
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    x = np.random.default_rng(0).integers(0, 2, (8, *shape)).astype("float32")
    data = {"image": x, "condition": np.arange(8) % 2}
    losses = model.fit(data, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_bfloat16_networks_keep_a_float32_bound(bfloat16):
    model = of_labels("full", learned=True, label_dropout=0.1)
    data = dicts()
    terms = model(data)
    assert {value.dtype for value in terms.values()} == {tf.float32}
    guided = model.sample(labels(), seed=0, guidance=2.0)
    assert guided.dtype == tf.float32
    keras.config.set_dtype_policy("float32")
    exact = of_labels("full", learned=True, label_dropout=0.1)
    exact.set_weights(model.get_weights())
    # bfloat16 has 8 bits of mantissa: half a percent of some 12 nats.
    np.testing.assert_allclose(
        exact.elbo(*data.values(), seed=0),
        model.elbo(*data.values(), seed=0),
        rtol=1e-2,
    )
    model.compile(run_eagerly=True)
    model.fit(data, verbose=0)


def test_float64_policy_gives_float64(float64):
    x = images()
    for model, c in ((of_labels(learned=True), labels()), (of_parts(), x)):
        assert model.elbo(x, c, seed=0).dtype == tf.float64
        assert model.sample(c, seed=0).dtype == tf.float64


# --- Files. ----------------------------------------------------------------

_LOAD = """
import sys
import numpy as np, keras
import keras_genmodels
out = {}
for path in sys.argv[3:]:
    model = keras.saving.load_model(path)
    data = np.load(sys.argv[1])
    c = data["image" if model.num_labels is None else "condition"]
    q = model.encode(data["image"], c)
    for name, value in {
        "elbo": model.elbo(data["image"], c, seed=5),
        "covariance": q.covariance(),
        "prior": model.prior(c).mean(),
        "sample": model.sample(c, seed=6),
        "settings": np.array([model.beta, model.seed, model.label_dropout]),
    }.items():
        out[path.split("/")[-1] + name] = value
np.savez(sys.argv[2], **out)
"""


def test_a_fresh_process_loads_what_was_saved(tmp_path):
    models = {
        "labels.keras": of_labels(
            "full",
            "gaussian",
            learned=True,
            label_dropout=0.25,
            beta=0.5,
            seed=7,
        ),
        "parts.keras": of_parts("discretized_logistic", seed=3),
    }
    paths = [tmp_path / "data.npz", tmp_path / "out.npz"]
    np.savez(paths[0], **dicts())
    for name, model in models.items():
        model.save(tmp_path / name)
        paths.append(tmp_path / name)
    subprocess.run([sys.executable, "-c", _LOAD, *paths], check=True)
    out, x = np.load(paths[1]), images()
    for name, model in models.items():
        c = labels() if model.num_labels else x
        for key, value in {
            "elbo": model.elbo(x, c, seed=5),
            "covariance": model.encode(x, c).covariance(),
            "prior": model.prior(c).mean(),
            "sample": model.sample(c, seed=6),
            "settings": [model.beta, model.seed, model.label_dropout],
        }.items():
            np.testing.assert_allclose(out[name + key], value, atol=1e-6)


def test_a_loaded_model_trains_on(tmp_path):
    model = of_labels(learned=True, label_dropout=0.3)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    model.fit(dicts(), epochs=2, verbose=0)
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    for one in (model, copy):
        one.fit(dicts(), verbose=0)
    for mine, theirs in zip(
        model.get_weights(), copy.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


# --- What is refused. ------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": -1.0}, "beta must be >= 0, got -1.0"),
        ({"seed": -3}, "seed must be"),
        ({"posterior": 3}, "posterior must be a distribution layer"),
        ({"num_labels": 0}, "num_labels must be an int >= 1, got 0"),
        ({"label_dropout": 1.0}, r"label_dropout must be in \[0, 1\), got 1"),
        ({"label_dropout": -0.1}, r"must be in \[0, 1\), got -0.1"),
        ({"label_dropout": float("nan")}, r"must be in \[0, 1\), got nan"),
        (
            {"num_labels": None, "label_dropout": 0.1},
            "label_dropout goes with num_labels",
        ),
        (
            {"num_labels": NUM_LABELS + 2},
            "condition_network does not take label 4: it needs 5 rows",
        ),
        ({"known": KNOWN}, "not num_labels"),
        (
            {"num_labels": None, "condition_network": keras.Sequential()},
            "one input of a given shape",
        ),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    good = of_labels()
    arguments = {
        name: getattr(good, name) for name in (*good._networks, *good._settings)
    }
    with pytest.raises(ValueError, match=message):
        kgm.ConditionalVAE(**{**arguments, **changes})


def test_pieces_that_do_not_fit_are_refused():
    for name, network, numbers in (
        ("encoder", kgm.mlp_encoder(SHAPE, 5, (4,), 5), "5 .* takes 4"),
        ("decoder", kgm.mlp_decoder(2, (7,), (4,), 5), "7 .* takes 16"),
        ("prior_network", kgm.mlp_prior(5, 3), "3 .* takes 4"),
    ):
        message = f"{name} gives {numbers}".replace(" .*", " numbers .*")
        with pytest.raises(ValueError, match=message):
            of_labels(**{name: network})


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (KNOWN.astype(int), "known must be bool .*got int64"),
        (KNOWN[..., 0], r"known must be bool \(4, 4, 1\), got bool \(4, 4\)"),
        (KNOWN | True, "nothing to complete"),
    ],
)
def test_a_bad_mask_is_refused(known, message):
    with pytest.raises(ValueError, match=message):
        of_parts(known=known)
    network = kgm.image_condition((4, 3, 1), 5, filters=2)
    with pytest.raises(ValueError, match=r"takes \(4, 3, 1\)"):
        assemble(network, 5, known=KNOWN)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ([0, 5], r"labels must be 0 to 2, got 5"),
        ([-1, 0], r"labels must be 0 to 2, got -1"),
        ([0.0, 1.0], r"integer labels \[batch\], got float32 \(2,\)"),
        ([[0], [1]], r"integer labels \[batch\], got int32 \(2, 1\)"),
        (["a", "b"], r"integer labels \[batch\], got string \(2,\)"),
        ([True, False], r"integer labels \[batch\], got bool"),
        (1, r"integer labels \[batch\], got int32 \(\)"),
        ([0, 1, 2], "got 3 conditions for 2 rows"),
    ],
)
def test_bad_labels_are_refused(condition, message):
    model = of_labels()
    x, z = images(2), np.zeros((2, 2), np.float32)
    for use in (
        lambda: model.encode(x, condition),
        lambda: model.decode(z, condition),
        lambda: model.elbo(x, condition, seed=0),
    ):
        with pytest.raises(ValueError, match=message) as refusal:
            use()
        assert "\n" not in str(refusal.value)
    # Keras puts its own lines around it.
    with pytest.raises(ValueError, match=message):
        model({"image": x, "condition": tf.constant(condition)})
    if "rows" not in message:
        with pytest.raises(ValueError, match=message):
            model.sample(condition, seed=0)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (np.zeros((2, 4, 4), np.float32), r"shape \[batch, 4, 4, 1\], got"),
        (np.zeros((2, *SHAPE), np.uint8), "condition must be of floating type"),
        (np.zeros((3, *SHAPE), np.float32), "got 3 conditions for 2 rows"),
        (None, "needs a condition"),
    ],
)
def test_bad_parts_are_refused(condition, message):
    model = of_parts()
    with pytest.raises(ValueError, match=message):
        model.elbo(images(2), condition, seed=0)


def test_bad_tokens_are_refused():
    model = assemble(_tokens(), 6)
    for tokens, got in (
        (np.zeros((2, 3), int), r"got int64 \(2, 3\)"),
        (np.zeros((2, 2)), "got float64"),
    ):
        with pytest.raises(ValueError, match=r"int32 \[batch, 2\], " + got):
            model.encode(images(2), tokens)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"image": images(2)}, "'condition' is missing"),
        ({"condition": labels(2)}, "'image' is missing"),
        (images(2), "takes dicts of image and condition"),
        (
            {"image": images(2)[..., 0], "condition": labels(2)},
            r"image must have shape \[batch, 4, 4, 1\]",
        ),
    ],
)
def test_bad_data_is_refused(data, message):
    model = of_labels()
    model.compile(run_eagerly=True)
    for use in (model, lambda x: model.fit(x, verbose=0)):
        with pytest.raises(ValueError, match=message):
            use(data)


def test_an_unknown_label_in_a_data_set_is_refused():
    data = {"image": images(4), "condition": np.array([0, 1, 9, 2])}
    model = of_labels()
    model.compile()
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"labels must be 0 to 2, got"
    ):
        model.fit(data, verbose=0)
    # XLA checks nothing, so that the loss has to tell.
    distortion = tf.function(model, jit_compile=True)(
        {key: tf.constant(value) for key, value in data.items()}
    )["distortion"]
    np.testing.assert_array_equal(
        np.isinf(distortion), [False, False, True, False]
    )


def test_sample_takes_a_condition_or_a_number():
    model = of_labels(label_dropout=0.1)
    for kwargs in ({}, {"condition": [0], "num": 1}):
        with pytest.raises(ValueError, match="either condition or"):
            model.sample(**kwargs, seed=0)
    for guidance in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="guidance must be >= 0"):
            model.sample([0], seed=0, guidance=guidance)


def test_one_draw_of_the_prior_is_weighed_by_its_likelihood():
    model, x, c = of_labels(learned=True), images(6), labels(6)
    rows = seeds.row_seeds(3, 6)
    prior = model.prior(c)
    z = prior.loc + prior.scale.matvec(seeds.normal(rows, (2,)))
    np.testing.assert_allclose(
        model.monte_carlo(x, c, seed=3),
        model.decode(z, c).log_prob(x),
        rtol=1e-5,
    )
    # Of what is known nothing is counted.
    parts = of_parts()
    other = np.where(KNOWN, images(6, seed=1), x)
    zeros = np.zeros_like(x)
    counted = parts.monte_carlo(x, zeros, seed=3)
    np.testing.assert_allclose(
        parts.monte_carlo(other, zeros, seed=3), counted, rtol=1e-6
    )
    assert np.abs(parts.monte_carlo(1 - x, zeros, seed=3) - counted).min() > 0


def test_conditions_of_any_length_are_embedded():
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(7, 5),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    model = assemble(network, 5)
    for length in (1, 4):
        words = np.arange(3 * length).reshape(3, length) % 7
        assert model.sample(words, seed=0).shape == (3, *SHAPE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.sample(num=0, seed=0), "num must be an int >= 1"),
        (
            lambda m: m.sample(num=2, seed=0, guidance=1.0),
            "0 without a label",
        ),
        (
            lambda m: m.sample([1], seed=0, guidance=np.inf),
            "guidance must be >= 0 and finite",
        ),
        (lambda m: m.sample([2**32], seed=0), "labels must be 0 to 2"),
        (lambda m: m.prior([99]), "labels must be 0 to 2, got 99"),
    ],
)
def test_what_would_be_ignored_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(of_labels(label_dropout=0.1))
