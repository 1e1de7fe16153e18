"""Evaluated runs that a report shows."""

import dataclasses
import io

import numpy as np
import PIL.Image

from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics.estimates import Estimate
from keras_genmodels.reports import page as report
from support.curve_values import CURVES

# Colours that occur nowhere else on the page.
SHEETS = {"reconstructions": (250, 0, 250), "samples": (0, 250, 120)}


OTHER_CURVES = {
    name: {
        split: [(epoch, 1.2 * value) for epoch, value in curve]
        for split, curve in splits.items()
    }
    for name, splits in CURVES.items()
}


def sheet(colour, size=(120, 200)):
    picture = np.full((*size, 3), colour, np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def sections():
    references = {
        "noisy": Estimate(20.104, 0.012),
        "V V'": Estimate(21.4, 0.11),
        "Wiener": Estimate(22.66, 0.1),
        "exact": Estimate(17.04, 0.2),
    }
    psnr = {
        f"psnr/{sigma}": Measure(
            f"PSNR at sigma {sigma}",
            Estimate(24.31 - sigma, 0.12),
            "10 log10(1 / mean squared error): higher is better.",
            "dB",
            references,
        )
        for sigma in (0.1, 0.25)
    }
    # The longest numbers.
    psnr["ssim/0.01"] = Measure(
        "SSIM at sigma 0.01",
        Estimate(0.9996876, 0.0000040),
        "Structural similarity.",
        references={
            name: Estimate(0.9996552, 0.0000043) for name in references
        },
    )
    elbo = Measure("Elbo", Estimate(-22.7, 0.43), "Higher is better.", "nats")
    latent = Measure("Latents", Estimate(16), "The width of z.")
    return {
        "likelihood": Section("Likelihood", {"elbo": elbo, "latents": latent}),
        "denoising": Section("Denoising", psnr, ["Over 360 test images."]),
    }


def make_run(path="/runs/a", flags=None, **changes):
    evaluation = {
        "kind": "VAE",
        "dataset": "digits",
        "num_images": {"train": 1365, "validation": 72, "test": 360},
        "test_images": "0f3a",
        "settings": {"num_images": 360, "num_samples": 500, "seed": 0},
        "sections": {k: s.as_dict() for k, s in sections().items()},
        "seconds": 31.4,
        "written": "2026-11-22T16:00:00+00:00",
    }
    metrics = {
        "training": {
            "epochs": 200,
            "steps": 2200,
            "best_epoch": 181,
            "seconds": 90.0,
            "validation_loss": 22.51,
        },
        "written": "2026-11-22T15:00:00+00:00",
        "versions": {"keras_genmodels": "0.1.0", "python": "3.11.9"},
    }
    flags = {"beta": "1.0", "latent_size": "16", **(flags or {})}
    figures = {name: sheet(colour) for name, colour in SHEETS.items()}
    run = report.Run(path, flags, metrics, evaluation, CURVES, figures)
    return dataclasses.replace(run, **changes)


RUNS = {
    "one": lambda: [make_run()],
    "two": lambda: [
        make_run(),
        make_run(
            "/runs/b", {"beta": "4.0", "posterior": "full"}, curves=OTHER_CURVES
        ),
    ],
    # A denoiser without training, curves or figures.
    "untrained": lambda: [
        make_run(metrics={"kind": "LinearDenoiser"}, curves={}, figures={})
    ],
}


def pages_in(folder):
    """Returns a function that writes the page of a name of RUNS once."""

    def write(name):
        path = folder / f"{name}.html"
        if not path.exists():
            report.write(path, RUNS[name]())
        return path

    return write
