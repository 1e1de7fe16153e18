"""Arrays of `accelerator.py` that two machines make alike, from seeds.

Needs NumPy only. A specification is a dict of `kind`, the name of a function
below, and its arguments.
"""

import functools

import numpy as np

# Rows of the data that are computed in float64 at once.
_ROWS = 4096


def make(spec):
    """Returns the array of a specification."""
    arguments = dict(spec)
    return KINDS[arguments.pop("kind")](**arguments)


def describe(value):
    """Returns the specification of a small array, which holds its values.

    Raises:
        ValueError: for an array that is too large for that.
    """
    value = np.asarray(value)
    shape, dtype = list(value.shape), value.dtype.name
    if value.size and np.all(value == value.flat[0]):
        fill = value.flat[0].item()
        return {"kind": "full", "shape": shape, "dtype": dtype, "value": fill}
    if value.size > 1024:
        raise ValueError(f"an input {shape} is not made from a seed")
    values = value.reshape(-1).tolist()
    return {"kind": "listed", "shape": shape, "dtype": dtype, "values": values}


def full(shape, dtype, value):
    """Returns equal values."""
    return np.full(shape, value, dtype)


def listed(shape, dtype, values):
    """Returns the values themselves."""
    return np.array(values, dtype).reshape(shape)


def normal(shape, seed, std=1.0, mean=0.0):
    """Draws float32 from a Gaussian."""
    # In float64, so that machines that differ in its last bit agree.
    values = np.random.default_rng(seed).standard_normal(shape)
    return (mean + std * values).astype(np.float32)


def uniform(shape, seed, high=1.0):
    """Draws float32 from [0, high)."""
    values = np.random.default_rng(seed).random(shape)
    return (high * values).astype(np.float32)


def binary(shape, seed, probability):
    """Draws float32 0 and 1."""
    return (uniform(shape, seed) < probability).astype(np.float32)


def integers(shape, seed, high):
    """Draws int32 from [0, high)."""
    return np.random.default_rng(seed).integers(0, high, shape, np.int32)


def events(part, content, sigma, num, side, batch_size):
    """Returns an input of the exact denoiser.

    Args:
        part: "data", uint8 `[num, side^2]`; "mean" and "half_squares", which
            `adapt` stores with them; "noisy", float32 `[batch_size, side,
            side, 1]`, or "sigma".
        content: "near-duplicates", 30 of each of random images, or "bright
            images" that hardly differ.
        sigma: noise level.
        num, side, batch_size: ints.
    """
    if part == "sigma":
        return np.full(batch_size, sigma, np.float32)
    stored = _stored(content, num, side, batch_size)
    if part != "noisy":
        return stored[part]
    clean = stored["clean"]
    noise = np.random.default_rng(1).standard_normal(clean.shape)
    noisy = (clean / 255 + sigma * noise).astype(np.float32)
    return noisy.reshape(batch_size, side, side, 1)


@functools.lru_cache(maxsize=1)
def _stored(content, num, side, batch_size):
    rng = np.random.default_rng(0)
    if content == "near-duplicates":
        data = _near_duplicates(rng, num, side)
        clean = data[rng.permutation(num)[:batch_size]]
    else:
        images = _bright_images(rng, num + batch_size, side)
        data, clean = images[:num], images[num:]
    mean = data.mean(0, np.float64) / 255
    mean = mean.astype(np.float32)
    half_squares = np.concatenate(
        [
            np.square(data[i : i + _ROWS] / 255 - mean).sum(1) / 2
            for i in range(0, num, _ROWS)
        ]
    )
    return {
        "data": data,
        "mean": mean.reshape(side, side, 1),
        "half_squares": half_squares,
        "clean": clean,
    }


def _near_duplicates(rng, num, side):
    """Generates images that differ from 29 others in a tenth of the pixels."""
    kinds = rng.integers(0, 256, (-(-num // 30), side**2), np.int16)
    images = np.repeat(kinds, 30, axis=0)[:num]
    change = rng.integers(-2, 3, images.shape, np.int16)
    change *= rng.random(images.shape, np.float32) < 0.1
    images = np.clip(images + change, 0, 255).astype(np.uint8)
    return rng.permutation(images)


def _bright_images(rng, num, side):
    """Generates smooth variations of 100 images, of little contrast."""
    angles = np.pi * np.outer(np.arange(side) + 0.5, np.arange(12)) / side
    waves = np.einsum("ai,bj->ijab", np.cos(angles), np.cos(angles))
    lengths = 3 + np.add.outer(np.arange(12), np.arange(12))
    waves = (waves / lengths[..., None, None]).reshape(144, -1)
    kinds = rng.standard_normal((100, 144))
    images = np.empty((num, side**2), np.uint8)
    for i in range(0, num, _ROWS):
        size = len(images[i : i + _ROWS])
        amplitudes = kinds[rng.integers(0, 100, size)]
        amplitudes += 0.7 * rng.standard_normal((size, 144))
        values = 200 + 4 * (amplitudes @ waves)
        images[i : i + size] = np.clip(values, 0, 255)
    return images


def posterior_error(found, data, noisy, sigma):
    """Returns the largest error of the exact denoiser, by float64.

    Args:
        found: float `[batch, ...]`, its result.
        data, noisy, sigma: as of `events`.

    Returns:
        float, the maximum over the batch of |error| / max_i |x_i - D|.
    """
    values, noisy = data / 255, noisy.reshape(len(noisy), -1)
    precision = 1 / np.square(np.float64(sigma))
    squares = np.square(values).sum(1)[:, None]
    logits = (values @ noisy.T.astype(np.float64) - squares / 2) * precision
    weights = np.exp(logits - logits.max(0))
    mean = (weights / weights.sum(0)).T @ values
    distances = squares - 2 * (values @ mean.T) + np.square(mean).sum(1)
    errors = np.linalg.norm(found.reshape(mean.shape) - mean, axis=1)
    return float(np.max(errors / np.sqrt(distances.max(0))))


def sample(value):
    """Returns at most 32 values of an array, evenly spread, as float64."""
    flat = np.asarray(value).reshape(-1)
    places = np.linspace(0, flat.size - 1, min(flat.size, 32)).astype(int)
    return flat[places].astype(np.float64)


def difference(value, expected):
    """Returns how much an array differs from a sample of what is expected.

    Returns:
        float, relative to the largest value of the sample, or to 1e-3.
    """
    found, expected = sample(value), np.array(expected)
    if not np.isfinite(found).all():
        return np.inf
    scale = max(np.abs(expected).max(), 1e-3)
    return float(np.abs(found - expected).max() / scale)


KINDS = {
    function.__name__: function
    for function in (full, listed, normal, uniform, binary, integers, events)
}
