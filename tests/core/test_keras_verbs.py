"""Every model is a Keras model: each verb works or says why not in a line."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.small_models import (
    KINDS,
    LABELS,
    PIXELS,
    ROWS,
    SHAPE,
    SIGMA,
    TRAINED,
    binary,
    make,
)

import keras_genmodels as kgm

# One of each family; the others are slow tests.
some_kinds = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=[pytest.mark.slow]
            * (kind not in ("vae", "labels", "range", "exact")),
        )
        for kind in KINDS
    ],
)


def compiled(kind, **settings):
    model, inputs = make(kind)
    model.compile("sgd", run_eagerly=True, **settings)
    return model, inputs


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


# --- The forms of data. ----------------------------------------------------


class Batches(keras.utils.PyDataset):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return self.batch


def forms(kind):
    """Returns data of the same events in every form, by name."""
    _, x, as_inputs = KINDS[kind]
    inputs, batch = as_inputs(x), {"image": x, "label": LABELS}
    return {
        "data set": tf.data.Dataset.from_tensors(inputs),
        "data set of image and label": tf.data.Dataset.from_tensors(batch),
        "image and label": batch,
        "generator": (b for b in [inputs]),
        "generator of tuples": (b for b in [(inputs,)]),
        "generator of image and label": (b for b in [batch]),
        "PyDataset": Batches(inputs),
        "PyDataset of image and label": Batches(batch),
    }


@pytest.mark.parametrize(
    "kind", ["vae", pytest.param("labels", marks=pytest.mark.slow), "range"]
)
def test_evaluate_takes_images_with_labels_and_bare_generators(kind):
    model, inputs = compiled(kind)
    expected = model.evaluate(inputs, verbose=0)
    for form in ("data set of image and label", "generator"):
        found = model.evaluate(forms(kind)[form], verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=form)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=pytest.mark.slow
            if kind in ("parts", "range")
            else pytest.mark.exhaustive,
        )
        for kind in TRAINED
    ],
)
def test_verbs_take_data_in_every_form(kind):
    model, inputs = compiled(kind)
    expected = model.evaluate(inputs, verbose=0)
    predicted = model.predict(inputs, verbose=0)
    for form, data in forms(kind).items():
        found = model.evaluate(data, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=form)
    for data in forms(kind).values():
        keras.tree.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            model.predict(data, verbose=0),
            predicted,
        )
    for data in forms(kind).values():
        model.fit(data, verbose=0, validation_data=inputs)


@pytest.mark.parametrize("kind", ["range", "projection"])
def test_adapt_takes_data_in_every_form(kind):
    model, _ = make(kind)
    for form, data in forms(kind).items():
        model.adapt(data)
        np.testing.assert_allclose(
            model.data_mean, PIXELS.mean(0), rtol=1e-5, err_msg=form
        )


@pytest.mark.parametrize("kind", TRAINED)
def test_targets_and_weights_are_refused_in_one_line(kind):
    model, inputs = compiled(kind)
    pairs = tf.data.Dataset.from_tensors((inputs, LABELS))
    for use in (
        lambda: model.fit(inputs, LABELS, verbose=0),
        lambda: model.fit(inputs, validation_data=(inputs, LABELS), verbose=0),
        lambda: model.evaluate(inputs, LABELS, verbose=0),
        lambda: model.evaluate(pairs, verbose=0),
        lambda: model.train_on_batch(inputs, LABELS),
    ):
        with pytest.raises(ValueError, match="without targets") as error:
            use()
        one_line(error)
    for name, value in (
        ("sample_weight", np.ones(ROWS)),
        ("class_weight", {0: 1.0, 1: 2.0}),
    ):
        with pytest.raises(ValueError, match=name) as error:
            model.fit(inputs, **{name: value}, verbose=0)
        one_line(error)
    for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
        with pytest.raises(ValueError, match=f"compile without {name}=") as e:
            model.compile(**{name: ["mae"]})
        one_line(e)


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        ("vae", {"picture": PIXELS}, r"under 'image' .* dict of \['picture'\]"),
        ("vae", {"image": PIXELS, "condition": LABELS}, "without 'condition'"),
        ("vae", [PIXELS, SIGMA], "takes one array .* got a list of 2"),
        ("vae", PIXELS, r"shape \[batch, 8, 8, 1\], got \(4, 4, 4, 1\)"),
        ("labels", PIXELS, "takes dicts of image and condition, .* got a"),
        ("labels", {"image": PIXELS}, r"'condition' is missing: .*\['image'\]"),
        ("parts", {"label": PIXELS}, "'image' is missing"),
        (
            "labels",
            {"image": binary(SHAPE), "condition": LABELS + 2},
            "labels must be 0 to 2, got 4",
        ),
        (
            "parts",
            {"image": binary(SHAPE), "condition": LABELS},
            r"condition must be float32 \[batch, 4, 4, 1\]",
        ),
        ("range", [PIXELS, SIGMA], "takes one array .* got a list of 2"),
        ("range", PIXELS[:, 1:], r"shape \[batch, 4, 4, 1\]"),
        ("wiener", PIXELS, r"call it on \[x, sigma\], or use denoise"),
        ("exact", {"image": PIXELS}, r"call it on \[x, sigma\]"),
    ],
)
def test_other_data_are_refused_in_one_line(kind, inputs, message):
    model, _ = make(kind)
    model.compile(run_eagerly=True)
    uses = [model]
    if isinstance(inputs, dict):
        uses.append(lambda data: model.predict(data, verbose=0))
    for use in uses:
        with pytest.raises(ValueError, match=message) as error:
            use(inputs)
        one_line(error)


def test_labels_of_a_data_set_are_refused_in_one_line():
    model, _ = make("labels")
    model.compile()
    wrong = {"image": binary(SHAPE), "condition": LABELS + 2}
    with pytest.raises(ValueError, match=r"0 to 2, got 4$") as e:
        model.evaluate(tf.data.Dataset.from_tensors(wrong), verbose=0)
    one_line(e)


def test_errors_of_a_users_generator_keep_their_cause():
    model, _ = make("vae")
    model.compile()

    def batches():
        raise ValueError("my column must be sorted")
        yield

    with pytest.raises(Exception, match="my column") as error:
        model.evaluate(batches(), verbose=0)
    assert "in batches" in str(error.value) or any(
        entry.name == "batches" for entry in error.traceback
    )


@some_kinds
def test_no_rows_are_no_rows_or_refused_in_one_line(kind):
    model, inputs = make(kind)
    empty = keras.tree.map_structure(lambda x: x[:0], inputs)
    outputs = model(empty)
    for value in keras.tree.flatten(outputs):
        assert value.shape[0] == 0
    verbs = [lambda x: model.predict(x, verbose=0)]
    if kind in TRAINED:
        model.compile()
        verbs += [model.fit, model.evaluate]
    for verb in verbs:
        with pytest.raises(ValueError, match="got no data") as error:
            verb(empty)
        one_line(error)


# --- Files. ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_hdf5_files_are_refused_in_one_line(kind, tmp_path):
    model, _ = make(kind)
    with pytest.raises(ValueError, match=r"saved to a \.keras file") as error:
        model.save(tmp_path / "model.H5")
    one_line(error)
    assert not [*tmp_path.iterdir()]


# Tracing takes longer than a second.
@pytest.mark.parametrize(
    "kind",
    [
        "projection",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in KINDS
            if kind != "projection"
        ),
    ],
)
def test_export_writes_the_call(kind, tmp_path):
    model, inputs = make(kind)
    model.export(tmp_path / "model", verbose=False)
    inputs = keras.tree.map_structure(
        lambda x: tf.constant(x, "int32" if x.dtype == "uint8" else "float32"),
        inputs,
    )
    loaded = tf.saved_model.load(tmp_path / "model")
    found = loaded.serve(inputs)
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        dict(found) if isinstance(found, dict) else found,
        model(inputs),
    )


def test_a_compiled_model_is_loaded_compiled(tmp_path):
    model, inputs = compiled("vae")
    model.fit(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert copy.compiled
    assert int(copy.optimizer.iterations) == 1
    # As version 0.2 saved it, which refused a loss in `fit` only.
    config = {**model.get_compile_config(), "loss": "mse", "metrics": ["mae"]}
    copy.compile_from_config(config)
    copy.fit(inputs, verbose=0)


@some_kinds
def test_shapes_of_outputs_are_those_of_the_call(kind):
    model, inputs = make(kind)
    rows = keras.tree.map_structure(lambda x: (None, *x.shape[1:]), inputs)
    found = model.compute_output_shape(rows)
    expected = keras.tree.map_structure(np.shape, model(inputs))
    assert _without_rows(found) == _without_rows(expected)
    with pytest.raises(ValueError, match="inputs, got 3 shapes"):
        model.compute_output_shape([(None, 4)] * 3)


def _without_rows(shapes):
    if isinstance(shapes, dict):
        return {name: shape[1:] for name, shape in shapes.items()}
    return shapes[1:]


# --- Samples. --------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_samples_below_1_are_refused_in_one_line(kind):
    model, _ = make(kind)
    nums = (0, -1, 2.5, "two", True, tf.constant(0), tf.constant(-1))
    for value in nums:
        with pytest.raises(ValueError, match=r"num must be an int >= 1") as e:
            model.sample(value, seed=0)
        one_line(e)


def test_a_condition_without_rows_is_refused():
    model, _ = make("labels")
    with pytest.raises(ValueError, match="condition has no rows"):
        model.sample(condition=np.zeros(0, int), seed=0)


# --- Models of users. ------------------------------------------------------


def test_a_users_call_gets_its_inputs_unchanged():
    class Counting(kgm.LinearDenoiser):
        def call(self, inputs):
            return {"number": tf.shape(inputs["picture"])[0]}

    model = Counting(rank=1)
    assert int(model({"picture": PIXELS})["number"]) == ROWS
