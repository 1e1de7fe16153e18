"""How good a denoiser is: against closed forms, and where it leads to."""

import numpy as np

from keras_genmodels import attractors
from keras_genmodels.core import arrays, seeds
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.denoisers import EmpiricalDenoiser, LinearDenoiser
from keras_genmodels.evaluation import memorization, noise_level
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics import image_quality
from keras_genmodels.metrics.denoising import noise_levels
from keras_genmodels.metrics.estimates import Estimate, average
from keras_genmodels.sampling.restoration import denoise_once

# Images at a time.
_PART = 128
# Whose noise level is estimated, each by about a hundred D.
_BLIND_IMAGES = 32
_REFERENCES = {
    "noisy": "the noisy input",
    "V V'": "V V' of the rank that is best at the level",
    "Wiener": "the Wiener filter",
    "exact": "the exact posterior mean",
}
# Of the search for fixed points: starts of each kind, and updates of each.
_STARTS = 16
_MOST_STEPS = 200
_TOLERANCE = 1e-4
# Fixed points whose Jacobian is looked at.
_NUM_SPECTRA = 4


def denoising(denoiser, train, images, *, seed):
    """Measures how well noise is taken off, beside closed-form denoisers.

    These are adapted to `train`: V V' keeps the axes along which the data's
    variance is above sigma^2, which is the best rank on these images (an axis
    kept adds sigma^2 to the squared error, one dropped its variance); the
    Wiener filter; and the exact posterior mean. Of
    `sample_evaluation.all_training_images` they are the same for runs of
    other seeds, which held out others for their validation.

    The noise is sigma times the draw of `numpy.random.default_rng(seed)`, the
    same for each sigma; nothing is clipped.

    Args:
        denoiser: a `Denoiser` of images.
        train: array `[num_train, height, width, channels]`, the images for
            training and validation, floating in [0, 1], or uint8, read as
            value / 255.
        images: the same, `[n, height, width, channels]`, not trained on.
        seed: int.

    Returns:
        `Section` with, for each level S of `levels_of(denoiser)`, `psnr/S`,
        `ssim/S` (where a side has 7 pixels), `noise_level/S` (as
        `blind_levels.estimate_levels` finds it of the first 32 images) and
        `harm/S`.

    Raises:
        UserError: as the denoisers.
    """
    images = arrays.as_float(images)
    levels = levels_of(denoiser)
    others, notes = _closed_forms(denoiser, train, levels)
    found = {
        sigma: _at_level(denoiser, others(sigma), images, sigma, seed)
        for sigma in levels
    }
    shown = ["noisy", *others(levels[0])]
    # Tables are read by quantity, and not by level.
    names = found[levels[0]]
    return Section(
        "Denoising",
        {
            f"{name}/{sigma:g}": found[sigma][name]
            for name in names
            for sigma in levels
        },
        [
            f"Over {len(images)} test images; sigma is the noise's standard "
            "deviation, pixels being in [0, 1].",
        ],
        [
            "Beside it: " + "; ".join(_REFERENCES[k] for k in shown) + ".",
            "They know the images for training and validation.",
            *notes,
        ],
    )


def levels_of(denoiser):
    """Gives the levels to measure at: those of all, and the lowest it knows."""
    lowest, _ = denoiser.sigma_range
    return sorted({lowest, *noise_levels(denoiser)})


def fixed_points(denoiser, train, held_out, *, seed):
    """Measures where restoring leads to at the lowest common noise level.

    Args:
        denoiser: as in `denoising`.
        train: array `[num_train, height, width, channels]`, the images that
            it was trained on, floating in [0, 1] or uint8.
        held_out: array `[n, height, width, channels]`, not trained on.
        seed: int.

    Returns:
        `Section` of `settled`, `num_fixed_points` and, where there are any,
        `memorized_fixed_points` (of those that noise comes to rest at; not
        where test images are copies of training images) and
        `spectral_radius`.

    Raises:
        UserError: as `attractors.fixed_points` and `attractors.memorization`.
    """
    sigma = noise_levels(denoiser)[0]
    told = sigma if denoiser.needs_sigma else None
    starts = _starts(denoiser, train, seed)
    found = attractors.fixed_points(
        denoiser,
        starts,
        sigma=told,
        max_steps=_MOST_STEPS,
        tolerance=_TOLERANCE,
    )
    measures = _on_search(found)
    notes = [
        f"Restoring at sigma {sigma:g}, from {len(starts) // 2} training "
        "images and from as much noise."
    ]
    # Of a D that changes nothing, each start is a fixed point: that training
    # images stay where they are tells nothing of memory, that noise becomes
    # one does.
    reached = np.unique(found.assignments[len(starts) // 2 :])
    reached = reached[reached >= 0]
    if len(reached):
        memorized, why = _memorized(found.points[reached], train, held_out)
        if memorized is not None:
            measures["memorized_fixed_points"] = memorized
        notes += why
    if len(found.points):
        try:
            measures["spectral_radius"] = _spectral_radius(
                denoiser, found.points[:_NUM_SPECTRA], told, seed
            )
        except NotMeasured as error:
            # Arnoldi iteration need not converge; the rest holds all the same.
            notes.append(f"Spectral radius not measured: {error}.")
    return Section("Attractors", measures, notes)


def best_rank(eigenvalues, sigma):
    """Gives the rank of V V' with the least squared error on its own data.

    Args:
        eigenvalues: array `[k]`, variances along the axes.
        sigma: noise level > 0.

    Returns:
        int in [1, k]: how many variances are above sigma^2.
    """
    return max(1, int(np.sum(np.asarray(eigenvalues) > sigma**2)))


def _closed_forms(denoiser, train, levels):
    """Adapts the denoisers to compare with; gives them by level, and notes."""
    same, notes = {}, []
    if not isinstance(denoiser, EmpiricalDenoiser):
        same["exact"] = EmpiricalDenoiser()
        same["exact"].adapt(train)
    wiener = LinearDenoiser()
    try:
        wiener.adapt(train)
        ranks = {s: best_rank(wiener.eigenvalues, s) for s in levels}
        projections = {r: wiener.with_rank(r) for r in {*ranks.values()}}
    except ValueError as error:
        notes.append(f"Without V V' and Wiener: {error}.")
        return lambda sigma: same, notes
    same = {"Wiener": wiener, **same}
    told = ", ".join(f"{rank} at {s:g}" for s, rank in ranks.items())
    notes.append(f"Ranks of V V': {told}.")
    return lambda sigma: {"V V'": projections[ranks[sigma]], **same}, notes


def _denoise(denoiser, noisy, sigma):
    return arrays.map_batches(
        lambda part: denoise_once(denoiser, part, sigma),
        noisy,
        batch_size=_PART,
    )


def _at_level(denoiser, others, images, sigma, seed):
    """Puts noise of one level on, takes it off, and gives the measures."""
    noise = np.random.default_rng(seed).standard_normal(images.shape)
    noisy = (images + sigma * noise).astype(images.dtype)
    outputs = {"noisy": noisy}
    for name, other in others.items():
        outputs[name] = _denoise(other, noisy, sigma)
    own = _denoise(denoiser, noisy, sigma)
    levels = {
        name: average(
            noise_level.estimate_levels(other, noisy[:_BLIND_IMAGES], seed=seed)
        )
        for name, other in {"own": denoiser, **others}.items()
    }
    return _measured(own, noisy, outputs, images, sigma, levels)


def _measured(own, noisy, others, truth, sigma, levels):
    """Gives the measures of one level.

    Args:
        own, noisy, truth: arrays `[n, ...]`, what the denoiser gave of which
            noisy images, and what they were.
        others: dict of arrays `[n, ...]`, of the references.
        sigma: the level.
        levels: dict of `Estimate`s of it, by "own" and by references.
    """
    at = f"at sigma {sigma:g}"
    measures = {
        "psnr": Measure(
            f"PSNR {at}",
            average(image_quality.psnr(own, truth)),
            "10 log10(1 / mean squared error) of each image, averaged: higher "
            "is better.",
            "dB",
            {
                name: average(image_quality.psnr(output, truth))
                for name, output in others.items()
            },
        )
    }
    if min(truth.shape[1:3]) >= image_quality.SSIM_WINDOW:
        measures["ssim"] = Measure(
            f"SSIM {at}",
            average(image_quality.ssim(own, truth)),
            "Structural similarity to the clean image, 1 for the same: higher "
            "is better.",
            references={
                name: average(image_quality.ssim(output, truth))
                for name, output in others.items()
            },
        )
    return measures | _on_noise(own, noisy, others, truth, sigma, levels)


def _on_noise(own, noisy, others, truth, sigma, levels):
    """Gives what the noise taken off tells, and whether that did harm."""
    others = {k: v for k, v in others.items() if k != "noisy"}
    before = image_quality.psnr(noisy, truth)

    def harms(output):
        # What is not even a number does harm, too.
        return average(~(image_quality.psnr(output, truth) >= before))

    return {
        "noise_level": Measure(
            f"Noise level at sigma {sigma:g}",
            levels["own"],
            f"Estimated of at most {_BLIND_IMAGES} images: the s that solves "
            "|y - D(y, s)|^2 = s^2 (M - div D(y, s)), at which y is the "
            "likeliest. Nobody is told sigma, but the rank of V V' goes by it.",
            references={name: levels[name] for name in others},
        ),
        "harm": Measure(
            f"Harm done at sigma {sigma:g}",
            harms(own),
            "Share of the images that are further from the clean one "
            "afterwards than before: 0 is right.",
            references={k: harms(output) for k, output in others.items()},
        ),
    }


def _starts(denoiser, train, seed):
    """Gives some training images, and as much noise of the highest level."""
    # Not the first ones: folders of images are sorted by label.
    drawn = np.random.default_rng(seed).permutation(len(train))[:_STARTS]
    near = arrays.as_float(train[np.sort(drawn)])
    rows = seeds.row_seeds(seed, len(near))
    noise = seeds.normal(rows, near.shape[1:]).numpy()
    far = np.asarray(denoiser.data_mean) + denoiser.sigma_range[1] * noise
    return np.concatenate([near, far.astype(near.dtype)])


def _on_search(found):
    """Tells how many starts came to rest, and at how many points."""
    return {
        "settled": Measure(
            "Starts that come to rest",
            average(found.assignments >= 0),
            f"Share whose root mean square of D(x) - x falls to {_TOLERANCE:g} "
            f"in {_MOST_STEPS} steps of size 1.",
        ),
        "num_fixed_points": Measure(
            f"Fixed points, of {len(found.ends)} starts",
            Estimate(len(found.points)),
            "How many distinct images they come to rest at: few of them "
            "attract much, one for each start none.",
        ),
    }


def _memorized(points, train, held_out):
    """Gives a measure and notes, as `copies.measure`."""
    return memorization.measure(
        points,
        train,
        held_out,
        label="Fixed points from noise that are training images",
        meaning=f"Share, of the {len(points)} that noise comes to rest at, "
        "that is nearer to a training image than all but 1 % of the test "
        "images are.",
        unknown="how many fixed points are training images",
    )


def _spectral_radius(denoiser, points, sigma, seed):
    radii = attractors.jacobian_eigenvalues(
        denoiser,
        points,
        seed=seed,
        sigma=sigma,
        num_eigenvalues=1,
        tolerance=1e-3,
    ).spectral_radius
    return Measure(
        "Spectral radius at fixed points",
        average(radii),
        "Largest modulus of an eigenvalue of D's Jacobian, over the "
        f"{len(radii)} that most starts went to: below 1 a point attracts, "
        "exactly 1 decides nothing.",
    )
