"""Inputs that the signatures of an export refuse, by name."""

import numpy as np
import pytest
import tensorflow as tf
from support.exported_models import (
    SHAPE,
    tokens,
)
from support.signature_calls import inputs_of, mark_of

from keras_genmodels.export import (
    loader,
)
from keras_genmodels.export.fields import checked
from keras_genmodels.export.signatures import settings_of, signatures_of

SEED = np.array([[1, 2]], np.int32)
IMAGE = np.full((1, *SHAPE), 0.5, np.float32)
ONE = np.ones(1, np.float32)
FIVE = np.full(1, 5, np.int32)
WITH = {
    "image": IMAGE,
    "sigma": ONE,
    "step_size": ONE,
    "max_steps": FIVE,
    "tolerance": ONE,
}


def spoilt(array, value):
    array = np.array(array)
    array.reshape(-1)[-1] = value
    return array


REFUSED = {
    "vae": [
        (
            "decode",
            {"z": np.zeros((0, 2**40), np.float32)},
            f"z must have shape [batch, 3], got [0 {2**40}]",
        ),
        (
            "reconstruct",
            {"image": np.zeros((1, 4, 16, 1), np.float32)},
            "image must have shape [batch, 8, 8, 1], got [1 4 16 1]",
        ),
        (
            "reconstruct",
            {"image": np.zeros((2, 64), np.float32)},
            "image must have shape [batch, 8, 8, 1], got [2 64]",
        ),
        (
            "encode",
            {"image": spoilt(IMAGE, np.nan)},
            "image must be finite and in [-1, 2]",
        ),
        (
            "decode",
            {"z": np.full((1, 3), np.inf, np.float32)},
            "z must be finite, got inf",
        ),
        (
            "generate",
            {"seed": np.ones((1, 3), np.int32)},
            "seed must have shape [batch, 2], got [1 3]",
        ),
        (
            "generate",
            {"seed": np.ones(2, np.int32)},
            "seed must have shape [batch, 2], got [2]",
        ),
        (
            "generate",
            {"seed": np.ones((1025, 2), np.int32)},
            "seed must have 1 to 1024 rows, got 1025",
        ),
        (
            "generate",
            {"seed": np.ones((0, 2), np.int32)},
            "seed must have 1 to 1024 rows, got 0",
        ),
        (
            "log_likelihood",
            {"image": IMAGE, "seed": SEED},
            "image must be 0 or 1, got 0.5",
        ),
        (
            "log_likelihood",
            {"image": np.zeros((2, *SHAPE), np.float32), "seed": SEED},
            "seed must have as many rows as image, got 1",
        ),
    ],
    "labels": [
        (
            "log_likelihood",
            {
                "image": IMAGE + 1,
                "condition": np.array([1], np.int32),
                "seed": SEED,
            },
            "image must be in [0, 1], got 1.5",
        ),
    ]
    + [
        (
            "generate",
            {"seed": SEED, "condition": np.array([value], np.int32)},
            "condition must be a label from 0 to 2, or 3 for no label, got "
            f"{value}",
        )
        for value in (-1, 4)
    ],
    "completion": [
        (
            "log_likelihood",
            {"image": IMAGE, "condition": IMAGE, "seed": SEED},
            "image must be k / 255 for an integer k in [0, 255], got 0.5",
        ),
        (
            "generate",
            {"condition": spoilt(IMAGE, np.nan), "seed": SEED},
            "condition must be finite and in [-1, 2], as pixels are in [0, 1]",
        ),
    ],
    "range": [
        *(
            (
                "denoise",
                {"image": IMAGE, "sigma": np.full(1, sigma, np.float32)},
                f"sigma must be in (0, 15], got {sigma}",
            )
            for sigma in (0, -1, np.nan, np.inf)
        ),
        (
            "restore",
            {"image": spoilt(IMAGE, -np.inf), "sigma": ONE},
            "image must be finite and within 10 + 8 sigma of 0",
        ),
        (
            "restore_with",
            {**WITH, "step_size": 2 * ONE},
            "step_size must be in (0, 2), got 2",
        ),
        (
            "restore_with",
            {**WITH, "max_steps": FIVE + 8},
            "max_steps must be in [0, 12], got 13",
        ),
        (
            "restore_with",
            {**WITH, "max_steps": -FIVE},
            "max_steps must be in [0, 12], got -5",
        ),
        (
            "restore_with",
            {**WITH, "tolerance": -ONE},
            "tolerance must be >= 0 and finite, got -1",
        ),
        (
            "denoise",
            {"image": 255 * IMAGE, "sigma": ONE},
            "image must be finite and within 10 + 8 sigma of 0",
        ),
        (
            "denoise",
            {"image": IMAGE, "sigma": 25 * ONE},
            "sigma must be in (0, 15], got 25",
        ),
    ],
    "attributes": [
        (
            "decode",
            {"z": np.full((1, 3), 3e38, np.float32),
             "condition": np.zeros((1, 5), np.float32)},
            "image is not finite: some of z, condition are",
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        "vae",
        *(pytest.param(k, marks=mark_of(k)) for k in REFUSED if k != "vae"),
    ],
)
def test_the_session_refuses_by_name_and_goes_on(kind, exports, session):
    version = exports[kind][1]
    run = session(version)
    for name, inputs, message in REFUSED[kind]:
        with pytest.raises(loader.RunError) as refused:
            run(name, inputs)
        assert refused.value.code == loader.INVALID_ARGUMENT, message
        assert message in refused.value.message
        valid = run(name, inputs_of(version, name, 2))
        assert all(np.isfinite(value).all() for value in valid.values())


def test_a_refusal_ends_with_the_input_and_a_code(exports, session):
    run = session(exports["vae"][1])
    image = {"image": IMAGE, "seed": SEED}
    for inputs, reason in (
        (image, "image:binary"),
        ({**image, "image": IMAGE[0]}, "image:shape"),
        ({**image, "image": IMAGE[:0]}, "image:rows"),
    ):
        with pytest.raises(loader.RunError) as refused:
            run("log_likelihood", inputs)
        assert f"] [{reason}]" in refused.value.message


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ([[]], r"must have shape \[batch, 1 to 4096\], got \[1 0\]"),
        ([[0] * 4097], r"must have shape \[batch, 1 to 4096\], got \[1 4097\]"),
        ([[0, -1]], r"must be in \[0, 4\], got -1"),
        ([[0, 5]], r"must be in \[0, 4\], got 5"),
    ],
)
def test_integers_other_than_labels_are_indices(condition, message):
    model = tokens()
    signature = signatures_of(model, settings_of(model, {}))["decode"]

    @tf.function(input_signature=[signature.specs()])
    def run(inputs):
        return checked(signature.fields, inputs, 10)

    z = tf.zeros((1, 3))
    valid = tf.constant([[0, 4, 2] * 1000])
    np.testing.assert_array_equal(
        run({"z": z, "condition": valid})["condition"], valid
    )
    condition = tf.constant(condition, tf.int32)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"condition {message}"
    ):
        run({"z": z, "condition": condition})
