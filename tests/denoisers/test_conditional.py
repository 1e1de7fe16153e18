"""Denoisers that are conditioned on class labels, and guidance."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.labelled_denoisers import (
    MEANS,
    NO_LABEL,
    RANGE,
    VARIANCES,
    WALK,
    events,
    exact,
    make_exact,
    tiny,
)

import keras_genmodels as kgm
from keras_genmodels import attractors
from keras_genmodels.core import loop_cache
from keras_genmodels.sampling.restoration import denoise_once

LABELS = np.array([0, 1, 1, 0, 2, 1])


def test_each_row_is_denoised_for_its_label(float64):
    model, x = make_exact(), events()
    sigma = np.linspace(0.1, 2, 6)
    expected = exact(tf.constant(x), tf.constant(sigma), LABELS)
    np.testing.assert_allclose(
        model.denoise(x, sigma, LABELS), expected, rtol=1e-10
    )
    np.testing.assert_allclose(
        denoise_once(model, x, sigma, LABELS), expected, rtol=1e-10
    )
    np.testing.assert_allclose(
        model.score(x, sigma, LABELS),
        (MEANS[LABELS] - x) / (VARIANCES[LABELS] + sigma[:, None] ** 2),
        rtol=1e-7,
    )
    np.testing.assert_allclose(
        model.noise(x, 0.5, 1), x - model.denoise(x, 0.5, [1] * 6)
    )
    np.testing.assert_array_equal(
        model.denoise(x, 0.5), model.denoise(x, 0.5, NO_LABEL)
    )


def test_a_single_level_takes_labels(float64):
    model, x = make_exact(sigma=0.4), events()
    np.testing.assert_allclose(
        model.denoise(x, condition=LABELS),
        exact(tf.constant(x), tf.fill([6], tf.constant(0.4, x.dtype)), LABELS),
        rtol=1e-10,
    )


@pytest.mark.usefixtures("without_xla")
def test_the_loop_of_images_of_any_size_takes_labels():
    network = kgm.unet((None, None, 1), num_classes=2, filters=(2,), blocks=1)
    model = kgm.DenoisingAutoencoder(network, sigma=RANGE, num_classes=2)
    rng = np.random.default_rng(0)
    model.adapt(rng.random((3, 8, 8, 1), np.float32))
    for size in ((8, 8), (5, 3)):
        x = rng.random((1, *size, 1), np.float32)
        np.testing.assert_allclose(
            denoise_once(model, x, 0.5, [1]),
            model.denoise(x, 0.5, [1]),
            rtol=1e-5,
        )


def test_guidance_extrapolates_from_no_label_to_the_label(float64):
    model, x = make_exact(), events()
    guidance = np.array([0, 0.5, 1, 2, 3, 4.0])
    labeled, without = model.denoise(x, 0.5, LABELS), model.denoise(x, 0.5)
    for g in (1.5, guidance, tf.constant(guidance)):
        weight = np.reshape(g, (-1, 1))
        np.testing.assert_array_equal(
            model.denoise(x, 0.5, LABELS, g),
            (1 + weight) * labeled - weight * without,
        )


@pytest.mark.parametrize(
    "guidance", [pytest.param(0.0, marks=pytest.mark.slow), 1.5]
)
def test_walks_and_restorations_follow_the_label_and_guidance(
    float64, guidance
):
    model, x = make_exact(), events()
    labels = np.array([0, 1, 1, 0, 1, 1])
    drawn = model.sample(
        condition=labels, seed=1, initial=x, guidance=guidance, **WALK
    )
    for label in (0, 1):

        def guided(x, sigma, label=label):
            rows = tf.fill(tf.shape(x)[:1], label)
            with_label = exact(x, sigma, rows)
            without = exact(x, sigma, rows * 0 + NO_LABEL)
            return (1 + guidance) * with_label - guidance * without

        rows = labels == label
        levels = {"sigma_min": RANGE[0], "sigma_max": RANGE[1]}
        expected = kgm.generate(
            guided,
            3,
            rows.sum(),
            seed=1,
            initial=x[rows],
            **levels,
            **WALK,
        )
        np.testing.assert_allclose(drawn.numpy()[rows], expected, 1e-9)
    settings = {"sigma": 0.5, "max_steps": 7, "tolerance": 0.0}
    restored = kgm.restore(model, x, condition=labels, **settings)
    one = kgm.restore(model.with_condition(1), x[labels == 1], **settings)
    np.testing.assert_allclose(restored.x.numpy()[labels == 1], one.x, 1e-9)


def test_samples_have_the_statistics_of_their_class(float64):
    model = make_exact()
    labels = np.repeat([0, 1], 500)
    noise = np.random.default_rng(0).standard_normal((1000, 3))
    start = MEANS[labels] + noise * np.sqrt(VARIANCES[labels] + RANGE[1] ** 2)
    drawn = model.sample(
        condition=labels, seed=0, initial=start, num_steps=200
    ).numpy()
    for label in (0, 1):
        mine = drawn[labels == label]
        deviation = np.sqrt(VARIANCES[label])
        # Five standard errors, and the steps' error of 2 %.
        np.testing.assert_allclose(
            mine.mean(0), MEANS[label], atol=0.24 * deviation.max()
        )
        np.testing.assert_allclose(mine.std(0), deviation, rtol=0.18)


def test_a_sample_depends_on_its_own_seed_and_label_alone():
    model = tiny()
    labels = np.array([1, 0, 1, 0])
    seeds = tf.constant([[0, 5], [0, 6], [1, 7], [3, 8]])
    settings = {"solver": "euler", "stochasticity": 0.5, **WALK}
    settings["guidance"] = 1.0
    together = model.sample(condition=labels, seed=seeds, **settings)
    for row in (0, 3):
        alone = model.sample(
            condition=labels[row : row + 1],
            seed=seeds[row : row + 1],
            **settings,
        )
        np.testing.assert_allclose(together[row], alone[0], 1e-4, 1e-5)


def test_loops_are_compiled_once_for_all_labels_and_guidances(monkeypatch):
    model, x = tiny(), np.float32(events())
    traces = []
    original = kgm.DenoisingAutoencoder.denoise

    def counting(self, *args):
        traces.append(args)
        return original(self, *args)

    monkeypatch.setattr(kgm.DenoisingAutoencoder, "denoise", counting)
    for label in (0, 1, 2):
        kgm.restore(model, x, sigma=0.5, condition=[label] * 6, max_steps=2)
    assert len(traces) == 1
    for guidance in (0.5, 1.0):
        model.sample(condition=[1, 0], seed=0, guidance=guidance, **WALK)
    assert len(traces) == 2
    assert len(loop_cache._loops[model][1]) == 2


@pytest.mark.slow
def test_attractors_are_those_of_one_label(float64):
    found = attractors.fixed_points(
        make_exact().with_condition(1), events(), sigma=1.0
    )
    np.testing.assert_allclose(found.points, MEANS[1:2], atol=1e-4)
    with pytest.raises(ValueError, match="one condition for all events"):
        attractors.fixed_points(
            make_exact().with_condition([1, 0]), events(2), sigma=1.0
        )


def drop(model, count=4000):
    """Returns which labels of a training step's batch are dropped."""
    seen = []
    network = model.network

    class Spy(keras.Model):
        def call(self, inputs):
            seen.append(inputs[-1].numpy())
            return network(inputs)

    model.network = Spy(autocast=False)
    model.compile("sgd", run_eagerly=True)
    batch = {"image": np.float32(events(count)), "label": np.ones(count, int)}
    model(batch, training=True)
    model(batch, training=True)
    first, again = seen
    np.testing.assert_array_equal(first, again)
    return first == NO_LABEL


def test_training_drops_the_label_at_the_stated_rate():
    dropped = drop(tiny(label_dropout=0.3))
    assert abs(dropped.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    assert not drop(tiny(label_dropout=0.0)).any()


def test_each_noise_draw_of_an_event_drops_its_own_label():
    dropped = drop(tiny(label_dropout=0.5, num_noise_draws=2), 400)
    assert 100 < np.sum(dropped[:400] != dropped[400:]) < 300


def test_fit_takes_labels_and_evaluate_and_predict_use_them():
    data = {"image": np.float32(events()), "condition": LABELS % 2}
    model = tiny()
    before = [weight.numpy() for weight in model.network.weights]
    model.compile("adam", run_eagerly=True)
    batch = {"image": data["image"], "label": data["condition"]}
    model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    moved = {
        weight.path.split("/")[-2]: np.any(weight.numpy() != old)
        for weight, old in zip(model.network.weights, before, strict=True)
    }
    assert moved["label"]
    found = model.evaluate(data, batch_size=3, verbose=0, return_dict=True)
    other = model.evaluate(
        {**data, "condition": 1 - LABELS % 2}, verbose=0, return_dict=True
    )
    assert found["loss"] != other["loss"]
    assert model.predict(data, verbose=0)["denoised"].shape == (6, 3)


@pytest.mark.parametrize(
    "kind",
    [
        {},
        pytest.param({"sigma": 0.3}, marks=pytest.mark.slow),
        pytest.param({"blind": True}, marks=pytest.mark.slow),
    ],
)
def test_a_file_keeps_a_conditional_model(kind, tmp_path):
    model, x = tiny(**kind), np.float32(events())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.label_dropout == 0.5 and loaded.condition_kind == "label"
    np.testing.assert_array_equal(
        loaded.denoise(x, 0.3, LABELS, 1.0), model.denoise(x, 0.3, LABELS, 1.0)
    )


def test_a_functional_network_of_the_user_takes_the_label():
    x = keras.Input((3,))
    level, label = keras.Input(()), keras.Input((), dtype="int32")
    h = keras.layers.Embedding(2, 3)(label)
    model = kgm.DenoisingAutoencoder(
        keras.Model([x, level, label], keras.layers.Add()([x, h])),
        num_classes=2,
    )
    model.adapt(events())
    assert model.denoise(np.float32(events()), 0.5, 1).shape == (6, 3)
    with pytest.raises(
        ValueError, match=r"num_classes=3.*\[events, levels, la"
    ):
        kgm.DenoisingAutoencoder(model.network, num_classes=3)


@pytest.mark.parametrize(
    "policy",
    ["mixed_bfloat16", pytest.param("float64", marks=pytest.mark.slow)],
)
def test_other_precisions_train_and_keep_their_dtype(policy, request):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    request.addfinalizer(lambda: keras.config.set_dtype_policy(previous))
    model = tiny()
    model.compile("sgd", run_eagerly=True)
    model.fit({"image": events(), "label": LABELS % 2}, verbose=0)
    x = model.denoise(events(), 0.5, LABELS, 1.0)
    assert x.dtype == model.variable_dtype
    assert np.isfinite(x).all()
