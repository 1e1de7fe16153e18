"""Sheets of latent-variable models show what their rows and columns say."""

import numpy as np
import pytest
from support.small_cvaes import images, labels, of_labels, of_parts
from support.small_vaes import binary_images, make_vae

import keras_genmodels as kgm
from keras_genmodels import plots
from keras_genmodels.models import batched_sampling
from keras_genmodels.plots import latent


@pytest.mark.parametrize(
    ("latent_size", "num_images"), [(2, 6), (3, 6), (3, 1)]
)
def test_sheets_of_a_vae(latent_size, num_images):
    pictures = latent.pictures(
        make_vae(latent_size=latent_size), binary_images(num_images), seed=0
    )
    plane = {"latent_plane"} if latent_size == 2 else set()
    expected = {"reconstructions", "samples", "interpolation"} | plane
    assert set(pictures) == expected
    for picture in pictures.values():
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert min(picture.shape[:2]) > 100
        assert picture.std() > 0


def test_the_latent_plane_is_over_quantiles_of_the_prior(monkeypatch):
    prior = kgm.MixturePrior(2, 1)
    prior.loc.assign([[3.0, -2.0]])
    model, shown = make_vae(latent_size=2, prior=prior), []

    def decode(z):
        shown.append(z)
        return type(model).decode(model, z)

    monkeypatch.setattr(model, "decode", decode)
    latent.pictures(model, binary_images(2), seed=0)
    z = shown[-1].reshape(20, 20, 2)
    # The median, and the quantile of 0.975.
    scale = 1.96 * np.sqrt(0.75)
    np.testing.assert_allclose(z.mean((0, 1)), [3, -2], atol=0.1)
    np.testing.assert_allclose(
        [z[0, -1], z[-1, 0]],
        [[3 + scale, -2 + scale], [3 - scale, -2 - scale]],
        atol=0.2,
    )


def test_reconstructions_are_below_their_images():
    model, x = make_vae(), binary_images(11)
    tiles = latent.reconstruction_rows(model, x)
    decoded = model.decode(model.encode(x).mean()).mean().numpy()
    assert len(tiles) == 4 * 8
    np.testing.assert_array_equal(tiles[:8], x[:8])
    np.testing.assert_array_equal(tiles[8:16], decoded[:8])
    np.testing.assert_array_equal(tiles[16:19], x[8:])
    np.testing.assert_array_equal(tiles[24:27], decoded[8:])
    assert (tiles[19:24] == 1).all()


def test_sheets_of_a_model_conditioned_on_labels():
    pictures = latent.pictures(
        of_labels(), images(6), labels(6), seed=0, label_names=("a", "b", "c")
    )
    assert set(pictures) == {"reconstructions", "samples"}
    for picture in pictures.values():
        assert picture.dtype == np.uint8
        assert picture.std() > 0


def test_only_the_labels_of_the_training_are_drawn(monkeypatch):
    drawn = []

    def sheet(samples, label_names, labels):
        drawn.append((len(samples), labels))
        return samples

    monkeypatch.setattr(latent, "label_sheet", sheet)
    latent.pictures(of_labels(), images(6), labels(6), seed=0, labels=(0, 2))
    assert drawn == [(2, (0, 2))]


def test_sheets_of_a_model_that_completes_images():
    x = images(11)
    model = of_parts()
    pictures = latent.pictures(model, x, x, seed=0)
    assert set(pictures) == {"reconstructions", "completions"}
    tiles = latent.reconstruction_rows(model, x, x)
    reconstructed = tiles[8:16]
    np.testing.assert_array_equal(
        reconstructed[:, model.observed_mask], x[:8][:, model.observed_mask]
    )
    assert np.abs(reconstructed - x[:8]).max() > 0.01


def test_reconstructions_use_the_condition():
    model, x, c = of_labels(), images(8), labels(8)
    tiles = latent.reconstruction_rows(model, x, c)
    z = model.encode(x, c).mean()
    np.testing.assert_allclose(
        tiles[8:], model.decode(z, c).mean(), rtol=1e-5, atol=1e-6
    )


def test_completions_are_between_observed_part_and_original(monkeypatch):
    monkeypatch.setattr(latent, "titled", lambda picture, *_, **__: picture)
    model, x = of_parts(), images(3)
    drawn = batched_sampling.complete(model, x, 2, seed=0)
    sheet = latent.completion_sheet(x, drawn, model.observed_mask)
    given = np.where(model.observed_mask, x, 0.5)
    for row in range(3):
        rows = np.stack([given[row], *drawn[row], x[row]])
        expected = plots.image_grid(rows, 4)
        height = len(expected) + 1
        np.testing.assert_array_equal(
            sheet[row * height : row * height + height - 1], expected
        )


def test_each_row_of_a_label_sheet_shows_one_label(monkeypatch):
    names = []

    def kept(picture, title, rows):
        names.extend(rows)
        return picture

    monkeypatch.setattr(latent, "titled", kept)
    drawn = images(6).reshape(3, 2, *images().shape[1:])
    sheet = latent.label_sheet(drawn, ("a", "b", "c", "d"))
    assert names == ["a", "b", "c"]
    names.clear()
    latent.label_sheet(drawn, ("a", "b", "c", "d"), labels=(0, 2, 3))
    assert names == ["a", "c", "d"]
    expected = plots.image_grid(drawn[1], 2)
    height = len(expected) + 1
    np.testing.assert_array_equal(sheet[height : 2 * height - 1], expected)
