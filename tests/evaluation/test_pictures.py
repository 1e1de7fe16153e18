"""Denoisers measured on pictures at their own sizes."""

import numpy as np
import pytest
import skimage.restoration

import keras_genmodels as kgm
from apps.cli import picture_flags
from keras_genmodels.datasets import standard_pictures
from keras_genmodels.evaluation import classical, pictures
from keras_genmodels.metrics import image_quality

LEVELS = (25 / 255, 0.3)


def smooth(height, width, channels=1):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + i) * np.cos(y / 7) for i in range(channels)]
    return np.uint8(127 + 100 * np.stack(waves, -1))


@pytest.fixture(scope="module")
def denoiser():
    network = kgm.unet((None, None, 1), filters=(2, 3), blocks=1)
    made = kgm.DenoisingAutoencoder(network, sigma=(0.05, 1))
    made.adapt(smooth(8, 8)[np.newaxis])
    return made


@pytest.mark.usefixtures("without_xla")
def test_noise_and_clipping_are_as_documented(denoiser, monkeypatch):
    seen = []

    def denoise(image, sigma):
        seen.append((image, sigma))
        return image + 9

    peer = classical.Classical("half", "a half.", denoise)
    monkeypatch.setitem(classical.CLASSICAL, "half", peer)
    image = smooth(20, 31)
    found = pictures.measure(denoiser, image, LEVELS, ("half",), seed=3)
    clean = image[np.newaxis] / 255
    normal = np.random.default_rng(3).standard_normal(clean.shape)
    assert [sigma for _, sigma in seen] == [*found] == [*LEVELS]
    for (image, sigma), quality in zip(seen, found.values(), strict=True):
        noisy = clean + sigma * normal
        np.testing.assert_allclose(image, noisy[0], rtol=1e-12)
        denoised = denoiser.denoise(np.float32(noisy), sigma)
        for kind in ("psnr", "ssim"):
            measure = getattr(image_quality, kind)
            expected = {
                "": measure(np.clip(denoised, 0, 1), clean),
                "noisy": measure(noisy, clean),
                "half": measure(np.ones_like(clean), clean),
            }
            assert quality[kind].keys() == expected.keys()
            for name, value in expected.items():
                assert quality[kind][name] == pytest.approx(value[0], abs=1e-4)


@pytest.mark.usefixtures("without_xla")
def test_the_denoiser_may_receive_the_estimated_level(denoiser):
    image, sigma = smooth(64, 48), 0.2
    known = pictures.measure(denoiser, image, (sigma,))
    found = pictures.measure(denoiser, image, (sigma,), estimate_sigma=True)
    clean = image[np.newaxis] / 255
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    noisy = np.float32(clean + sigma * noise)
    level = skimage.restoration.estimate_sigma(noisy[0, ..., 0])
    assert level == pytest.approx(sigma, rel=0.1)
    denoised = np.clip(denoiser.denoise(noisy, level), 0, 1)
    expected = image_quality.psnr(denoised, clean)[0]
    assert found[sigma]["psnr"][""] == pytest.approx(expected, abs=1e-3)
    assert found[sigma]["psnr"][""] != known[sigma]["psnr"][""]
    assert found[sigma]["psnr"]["noisy"] == known[sigma]["psnr"]["noisy"]
    numbers = {"a": found}
    (note, *_) = [
        text
        for text in pictures.sections(numbers, denoiser, (), False, True)[
            "pictures"
        ].notes
        if "estimated" in text
    ]
    assert "receives the noise level" in note


def test_pictures_count_equally_and_small_ones_have_no_ssim(denoiser):
    found = {
        "a": {0.1: {"psnr": {"": 30.0, "noisy": 20.0}, "ssim": {"": 0.9,
              "noisy": 0.5}}},
        "b/c": {0.1: {"psnr": {"": 33.0, "noisy": 21.0}}},
    }  # fmt: skip
    sections = pictures.sections(found, denoiser, ("nlm",))
    measures = sections["pictures"].measures
    assert measures.keys() == {"psnr/0.1", "ssim/0.1"}
    psnr = measures["psnr/0.1"]
    assert psnr.label == "PSNR at sigma 0.1" and psnr.unit == "dB"
    assert psnr.estimate == pytest.approx((31.5, 1.5))
    assert psnr.references["noisy"].value == 20.5
    assert measures["ssim/0.1"].estimate == (0.9, None)
    each = sections["each_picture"].measures
    assert each.keys() == {"psnr/0.1/a", "ssim/0.1/a", "psnr/0.1/b/c"}
    assert each["psnr/0.1/b/c"].label == "b/c, PSNR at sigma 0.1"
    assert "non-local means" in sections["pictures"].reference_notes[0]


def test_levels_beyond_the_training_are_noted(denoiser):
    found = {"a": {sigma: {"psnr": {"": 1.0}} for sigma in (5 / 255, 0.5)}}
    *_, note = pictures.sections(found, denoiser, ())["pictures"].notes
    assert note == "Trained for a sigma of 0.05 to 1, without 5/255."
    with pytest.raises(ValueError, match="no pictures"):
        pictures.sections({}, denoiser, ())


@pytest.mark.parametrize(
    ("sigma", "text"),
    [(25 / 255, "25/255"), (0.2, "0.2"), (0.1, "0.1"), (1.0, "1"),
     (0.123456, "0.123456"), (51 / 255, "0.2")],
)  # fmt: skip
def test_levels_are_written_as_users_write_them(sigma, text):
    assert pictures.level_as_text(sigma) == text


def test_the_flags_have_the_names_of_the_library():
    assert {*classical.CLASSICAL} == {*picture_flags._PEERS}
    assert picture_flags.STANDARD == standard_pictures.NAME


@pytest.mark.parametrize("name", classical.CLASSICAL)
def test_classical_denoisers_remove_noise(name):
    peer = classical.CLASSICAL[name]
    if not peer.is_installed():
        pytest.skip(f"{name} is not installed")
    clean = smooth(40, 49, 3) / 255
    noisy = clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape)
    found = peer.denoise(noisy, 0.1)
    before, after = image_quality.psnr(np.stack([noisy, found]), clean[None])
    assert after > before + 4
    side = max(2, peer.least_side)
    tiny = peer.denoise(noisy[:side, :side, :1], 0.1)
    assert tiny.shape == (side, side, 1) and np.isfinite(tiny).all()
