"""Samples in batches, of each label, and completions."""

import numpy as np
import pytest
from support.small_cvaes import (
    NUM_CLASSES,
    OBSERVED,
    SHAPE,
    images,
    labels,
    of_labels,
    of_parts,
)

from keras_genmodels.core import seeds
from keras_genmodels.models import batched_sampling


def test_samples_do_not_depend_on_the_batch_size(monkeypatch):
    model = of_labels()
    whole = batched_sampling.sample(model, condition=labels(7), seed=3)
    monkeypatch.setattr(batched_sampling, "BATCH_SIZE", 2)
    parts = batched_sampling.sample(model, condition=labels(7), seed=3)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        whole, model.sample(condition=labels(7), seed=3), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("wanted", [None, [2, 0]])
def test_each_label_has_the_same_latents(wanted):
    model = of_labels(label_dropout=0.2)
    drawn = batched_sampling.sample_each_label(
        model, 4, seed=1, labels=wanted, guidance=0.5
    )
    numbers = range(NUM_CLASSES) if wanted is None else wanted
    assert drawn.shape == (len(numbers), 4, *SHAPE)
    z = model.prior().loc + seeds.normal(seeds.row_seeds(1, 4), (2,))
    for images_of_one, label in zip(drawn, numbers, strict=True):
        one = model.sample(condition=[label] * 4, seed=1, guidance=0.5)
        np.testing.assert_allclose(images_of_one, one, rtol=1e-5, atol=1e-6)
        plain = model.decode(z, [label] * 4).mean()
        assert np.abs(images_of_one - plain).max() > 1e-4


def test_completions_keep_observed_entries_and_differ_in_the_others():
    model, x = of_parts(), images(5)
    drawn = batched_sampling.complete(model, x, 3, seed=1)
    assert drawn.shape == (5, 3, *SHAPE)
    given = np.broadcast_to(x[:, np.newaxis], drawn.shape)
    np.testing.assert_array_equal(drawn[..., OBSERVED], given[..., OBSERVED])
    assert np.abs(drawn[:, 0] - drawn[:, 1]).max() > 1e-4
    # Those of an image do not depend on the others.
    rows = seeds.row_seeds(1, 5)[3:4]
    alone = batched_sampling.complete(model, x[3:4], 3, seed=rows)
    np.testing.assert_allclose(alone[0], drawn[3], rtol=1e-5, atol=1e-6)


def test_some_samples_have_the_bits_of_all(monkeypatch):
    monkeypatch.setattr(batched_sampling, "BATCH_SIZE", 4)
    model = of_labels()
    whole = batched_sampling.sample(model, condition=labels(7), seed=3)
    for rows in (range(2, 3), range(3, 5), range(4, 7)):
        found = batched_sampling.sample(
            model, condition=labels(7), seed=3, rows=rows
        )
        np.testing.assert_array_equal(found, whole[rows.start : rows.stop])
