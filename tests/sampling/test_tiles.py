"""Denoising in tiles, which must equal that of the whole picture."""

import tracemalloc

import keras
import numpy as np
import pytest

import keras_genmodels as kgm
from keras_genmodels.networks import reach
from keras_genmodels.sampling import tiles

SMALL = {"filters": (2, 3), "blocks": 1}  # It reaches 10 pixels.


def make(kind, network=None):
    if network is None and kind == "blind":
        network = kgm.bias_free_unet((None, None, 1), **SMALL)
    elif network is None:
        network = kgm.unet((None, None, 1), **SMALL)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(rng.normal(0, 0.15, weight.shape))
    model = kgm.DenoisingAutoencoder(network, blind=kind == "blind")
    model.adapt(rng.random((4, 8, 8, 1)))
    return model


@pytest.fixture
def seen(monkeypatch):
    """Shapes of the tiles that were denoised."""
    shapes = []
    denoise = tiles.denoise_once

    def spy(denoiser, x, *args, **kwargs):
        shapes.append(tuple(x.shape))
        return denoise(denoiser, x, *args, **kwargs)

    monkeypatch.setattr(tiles, "denoise_once", spy)
    return shapes


@pytest.mark.slow
def test_tiles_of_the_default_network_equal_the_whole_in_float32():
    model = make("sigma", kgm.unet((None, None, 1)))
    x = np.random.default_rng(1).random((1, 150, 131, 1), np.float32)
    whole = model.denoise(x, 0.1).numpy()
    done = []
    found = kgm.denoise_in_tiles(
        model, x, 0.1, max_pixels=120 * 120, progress=done.append
    )
    assert np.abs(found - whole).max() < 1e-5 * np.abs(whole).max()
    assert len(done) > 1 and sum(done) == 150 * 131


@pytest.mark.parametrize(
    ("settings", "bytes_a_value"), [({}, 4), ({"self_ensemble": True}, 8)]
)
def test_pictures_take_the_memory_of_the_results_alone(settings, bytes_a_value):
    x = keras.Input((None, None, 1))
    network = keras.Model(x, keras.layers.Conv2D(1, 1)(x))
    model = kgm.DenoisingAutoencoder(network, blind=True)
    model.adapt(np.random.default_rng(0).random((4, 8, 8, 1)))
    picture = np.zeros((1, 1024, 1024, 1), np.float32)
    kgm.denoise_in_tiles(model, picture[:, :256], max_pixels=2**16)  # Traces.
    tracemalloc.start()
    try:
        kgm.denoise_in_tiles(model, picture, max_pixels=2**16, **settings)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A copy of a tile takes a quarter of a byte for each value of the picture.
    assert peak < (bytes_a_value + 1.5) * picture.size


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("sigma", (33, 57)),
        pytest.param("sigma", (97, 33), marks=pytest.mark.slow),
        pytest.param("blind", (40, 61), marks=pytest.mark.slow),
    ],
)
def test_tiles_equal_the_whole(kind, size, seen):
    model = make(kind)
    x = np.random.default_rng(1).random((2, *size, 1))
    sigma = [0.1, 0.4]
    whole = model.denoise(x, sigma)
    found = kgm.denoise_in_tiles(model, x, sigma, max_pixels=30 * 30)
    np.testing.assert_allclose(found, whole, rtol=1e-11, atol=1e-12)
    assert len(seen) > 8 and len({*seen}) <= 4
    assert max(shape[1] * shape[2] for shape in seen) <= 900


def test_float32_differs_by_rounding_only():
    model = make("sigma")
    x = np.random.default_rng(1).random((1, 50, 52, 1)).astype("float32")
    found = kgm.denoise_in_tiles(model, x, 0.2, max_pixels=1000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model.denoise(x, 0.2), atol=1e-5)


def test_small_pictures_are_denoised_together(seen):
    model = make("sigma")
    x = np.random.default_rng(1).random((5, 10, 12, 1)).astype("float32")
    found = kgm.denoise_in_tiles(model, x, 0.2, max_pixels=250)
    np.testing.assert_allclose(found, model.denoise(x, 0.2), atol=1e-6)
    assert seen == [(2, 10, 12, 1)] * 2 + [(1, 10, 12, 1)]


def test_tiles_smaller_than_their_overlap_are_refused():
    x = np.zeros((1, 23, 24, 1), "float32")
    with pytest.raises(ValueError, match="max_pixels must be at least 484"):
        kgm.denoise_in_tiles(make("sigma"), x, 0.2, max_pixels=200)
    kgm.denoise_in_tiles(make("sigma"), x, 0.2, max_pixels=484)


def test_networks_that_see_the_whole_picture_are_refused():
    image = keras.Input((None, None, 1))
    level = keras.Input(())
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(image)
    network = keras.Model([image, level], keras.layers.Add()([image, mean]))
    x = np.zeros((1, 50, 50, 1), "float32")
    with pytest.raises(ValueError, match="global_average_pooling2d"):
        kgm.denoise_in_tiles(make("sigma", network), x, 0.2, max_pixels=400)


@pytest.mark.parametrize("megapixels", [1, 12, 50])
def test_what_the_network_takes_does_not_grow_with_the_picture(megapixels):
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    sides = height, round(1.5 * height)
    found = tiles.tiles_of(sides, reach.Reach(44, 46, 4), 2**18)
    sizes = {(y.stop - y.start, x.stop - x.start) for y, x in found}
    assert len(sizes) <= 4
    assert max(y * x for y, x in sizes) <= 2**18
    # Each pixel is computed once.
    returned = sum((y.last - y.first) * (x.last - x.first) for y, x in found)
    assert returned == sides[0] * sides[1]
    # Of each tile most pixels are not overlap.
    assert sum((y.stop - y.start) * (x.stop - x.start) for y, x in found) < (
        1.7 * returned
    )


def test_each_tile_reads_what_its_pixels_depend_on():
    generator = np.random.default_rng(0)
    network = reach.Reach(44, 46, 4)
    before, after, stride = network
    for _ in range(200):
        sides = generator.integers(4, 2000, 2)
        most = int(generator.integers(96**2, 2**18))
        found = tiles.tiles_of(tuple(sides), network, most)
        covered = np.zeros(sides, np.uint8)
        for spans in found:
            for span, length in zip(spans, sides, strict=True):
                assert span.start % stride == 0
                assert 0 <= span.start <= span.first < span.last <= span.stop
                assert span.start == 0 or span.first - span.start >= before
                assert span.stop == length or span.stop - span.last >= after
            y, x = spans
            assert (y.stop - y.start) * (x.stop - x.start) <= most
            covered[y.first : y.last, x.first : x.last] += 1
        assert (covered == 1).all()


@pytest.mark.parametrize(
    ("sides", "most"), [((2000, 3000), 1.14), ((3000, 4000), 1.16)]
)
def test_tiles_are_as_large_as_the_picture_allows(sides, most):
    found = tiles.tiles_of(sides, reach.Reach(44, 44, 4), 2**20)
    read = sum((y.stop - y.start) * (x.stop - x.start) for y, x in found)
    assert read < most * sides[0] * sides[1]


@pytest.mark.parametrize(
    "kind", [pytest.param("sigma", marks=pytest.mark.slow), "blind"]
)
def test_a_self_ensemble_turns_with_the_picture(kind):
    model = make(kind)
    x = np.random.default_rng(1).random((2, 25, 34, 1), np.float32)
    sigma = None if kind == "blind" else np.float32([0.1, 0.3])
    done = []

    def ensemble(x):
        return kgm.denoise_in_tiles(
            model,
            x,
            sigma,
            max_pixels=600,
            self_ensemble=True,
            progress=done.append,
        )

    whole = ensemble(x)
    assert sum(done) == pytest.approx(x.size)
    flipped = ensemble(x[:, :, ::-1])
    np.testing.assert_allclose(flipped[:, :, ::-1], whole, atol=1e-6)
    turned = ensemble(np.rot90(x, axes=(1, 2)))
    np.testing.assert_allclose(
        np.rot90(turned, -1, axes=(1, 2)), whole, atol=1e-6
    )
    # The average of what a person would turn and turn back.
    parts = []
    for flip in (slice(None), slice(None, None, -1)):
        for turns in range(4):
            part = np.rot90(x[:, :, flip], turns, axes=(1, 2))
            part = np.rot90(
                model.denoise(part.copy(), sigma), -turns, axes=(1, 2)
            )
            parts.append(part[:, :, flip])
    np.testing.assert_allclose(np.mean(parts, axis=0), whole, atol=1e-5)
    assert np.std(parts, axis=0).max() > 0.01
