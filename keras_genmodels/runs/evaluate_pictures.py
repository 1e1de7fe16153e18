"""Measures the denoiser of a finished run on pictures at their own sizes."""

import dataclasses
import pathlib
import sys
import time
import zlib
from typing import NamedTuple

import tqdm

from keras_genmodels._version import __version__
from keras_genmodels.core import files, wording
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.events import is_any_size
from keras_genmodels.datasets import (
    list_pictures,
    notes,
    pictures,
    standard_pictures,
)
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.evaluation import pictures as evaluation
from keras_genmodels.evaluation.classical import CLASSICAL
from keras_genmodels.runs import results
from keras_genmodels.runs.evaluate import finished_metrics, model_checksum
from keras_genmodels.sampling.tiles import MAX_PIXELS, check_sizes

# Pictures that a message names.
_MOST_NAMES = 3


@dataclasses.dataclass(frozen=True)
class PictureSettings:
    """What pictures are measured, and how.

    Args:
        source: a picture file, a folder of pictures, or
            `standard_pictures.NAME`.
        levels: tuple of noise levels, each > 0.
        peers: tuple of names of `classical.CLASSICAL`.
        seed: int, of the noise.
        num_pictures: int >= 1, how many pictures, the first ones; None for
            all.
        max_pixels: int >= 1, pixels that the network takes at a time.
        self_ensemble: bool, whether D is averaged over flips and turns.
        white_level: int, the value of white in 16-bit pictures; None for that
            of the training, or else as in `datasets.load`.
        estimate_sigma: bool, whether D receives estimated levels.
    """

    source: str
    levels: tuple = evaluation.LEVELS
    peers: tuple = ()
    seed: int = 0
    num_pictures: int | None = None
    max_pixels: int = MAX_PIXELS
    self_ensemble: bool = False
    white_level: int | None = None
    estimate_sigma: bool = False

    def as_texts(self):
        """Returns what the numbers depend on, besides the pictures."""
        texts = {
            "sigma": ", ".join(map(evaluation.level_as_text, self.levels)),
            "peers": ", ".join(self.peers) or "none",
            "seed": self.seed,
        }
        if self.self_ensemble:
            texts["self_ensemble"] = "true"
        if self.white_level is not None:
            texts["white_level"] = self.white_level
        if self.estimate_sigma:
            texts["estimate_sigma"] = "true"
        return texts


def evaluate(workdir, settings):
    """Measures the denoiser of a finished run on pictures.

    The results become `pictures` in the run's `metrics.json`, until the run is
    extended, in the form of `evaluation`.

    Args:
        workdir: a `Workdir` with a finished run.
        settings: `PictureSettings`.

    Returns:
        dict, that `pictures`; see `runs.evaluate.evaluate`.

    Raises:
        UserError: as `check`.
    """
    finished_metrics(workdir)  # Before the lock, which would create a folder.
    with workdir.locked():
        metrics = finished_metrics(workdir)
        start = time.monotonic()
        denoiser, chosen = check(workdir, settings)
        found = {
            **_identity(workdir, settings, chosen),
            "kind": type(denoiser).__name__,
            "dataset": metrics.get("dataset") or settings.source,
            "num_images": {"pictures": len(chosen)},
            "channels": denoiser.event_shape[-1],
            "sections": _measure(workdir, denoiser, chosen, settings),
            "seconds": round(time.monotonic() - start, 1),
            **results.written(),
        }
        found = files.as_json(found)
        files.write_json(workdir.metrics, {**metrics, "pictures": found})
    return found


def read_current(workdir, settings):
    """Returns `pictures` of metrics.json if it is up to date, else None.

    Args:
        workdir, settings: as in `evaluate`.
    """
    found = finished_metrics(workdir).get("pictures")
    if not isinstance(found, dict):
        return None
    chosen = _choose(settings, found["channels"])
    identity = _identity(workdir, settings, chosen)
    same = all(found.get(name) == value for name, value in identity.items())
    version = found.get("versions", {}).get("keras_genmodels")
    return found if same and version == __version__ else None


def with_other_sections(metrics, found):
    """Adds what else was measured of the same model to an evaluation.

    Args:
        metrics: dict, the content of metrics.json.
        found: dict as from `evaluate` here or of `runs.evaluate`.

    Returns:
        dict like `found`.
    """
    sections = {}
    for name in ("evaluation", "pictures"):
        other = metrics.get(name)
        if isinstance(other, dict) and other.get("model") == found["model"]:
            sections |= other["sections"]
    return {**found, "sections": {**sections, **found["sections"]}}


def check(workdir, settings):
    """Checks that the denoiser of a run can be measured.

    Every picture is decoded once, as a measurement takes far longer, and a
    damaged one would end it.

    Args:
        workdir, settings: as in `evaluate`.

    Returns:
        the denoiser and the list of `_Picture`s.

    Raises:
        UserError: if there is no finished run, or its model is no denoiser of
            pictures of any size, or not one for the settings; if a file is no
            picture or is damaged, is too small for the network or for a peer,
            or requires tiles that the network does not allow.
    """
    denoiser = _load_denoiser(workdir)
    if settings.estimate_sigma and not denoiser.needs_sigma:
        raise UserError(
            "estimate_sigma requires a denoiser that receives sigma, and that "
            f"of {workdir} does not"
        )
    channels = denoiser.event_shape[-1]
    chosen = _choose(settings, channels)
    sizes = {picture.path: picture.size for picture in chosen}
    with user_errors(f"{workdir}: "):
        check_sizes(denoiser, sizes, settings.max_pixels)
    _check_peers(settings.peers, sizes)
    _check_pixels(chosen, channels, _white_level(workdir, settings))
    return denoiser, chosen


class _Picture(NamedTuple):
    name: str
    path: pathlib.Path
    size: tuple[int, int]
    is_standard: bool

    def read(self, channels, white_level):
        if self.is_standard:
            return standard_pictures.read(self.path, channels)
        return pictures.read_own_size(self.path, channels, white_level)


def _load_denoiser(workdir):
    denoiser = workdir.load_model(Denoiser)
    shape = denoiser.event_shape
    if not is_any_size(shape):
        raise UserError(
            f"{workdir} has a denoiser of images of {shape}, and pictures "
            "require one of images of any size: evaluate it without --input"
        )
    if shape[-1] not in (1, 3):
        raise UserError(
            f"pictures have 1 or 3 channels, and the denoiser of {workdir} "
            f"takes {shape[-1]}: evaluate it without --input"
        )
    if denoiser.num_classes is not None and not denoiser.label_dropout:
        raise UserError(
            f"the denoiser of {workdir} is conditioned on labels, which "
            "pictures do not have: evaluate it without --input"
        )
    return denoiser


def _choose(settings, channels):
    """Lists the pictures that are measured."""
    is_standard = settings.source == standard_pictures.NAME
    if is_standard:
        paths = standard_pictures.paths(channels)
        names = [path.stem for path in paths]
        if not paths:
            raise UserError(
                "the installed scikit-image lacks these pictures: give a folder"
            )
    else:
        paths = list_pictures(settings.source)
        base = files.local_path(settings.source)
        base = base if base.is_dir() else base.parent
        names = [path.relative_to(base).as_posix() for path in paths]
    count = settings.num_pictures
    paths, names = paths[:count], names[:count]
    sizes = [header.size for header in pictures.read_headers(paths)]
    if is_standard:
        sizes = [*map(standard_pictures.size_of, sizes)]
    return [
        _Picture(*picture, is_standard)
        for picture in zip(names, paths, sizes, strict=True)
    ]


def _check_peers(peers, sizes):
    """Checks that the peers take pictures of these sizes."""
    for name in peers:
        peer = CLASSICAL[name]
        small = [
            f"{path} ({size[0]}x{size[1]})"
            for path, size in sizes.items()
            if min(size) < peer.least_side
        ]
        if small:
            least = f"{peer.least_side}x{peer.least_side}"
            others = ",".join(other for other in peers if other != name)
            raise UserError(
                f"{peer.label} takes pictures from {least} pixels on, unlike "
                f"{wording.listed(small, _MOST_NAMES)}: give peers="
                f"{others or 'none'}, or larger pictures"
            )


def _check_pixels(chosen, channels, white_level):
    """Checks that the pictures can be decoded."""
    unreadable = []
    for picture in chosen:
        try:
            picture.read(channels, white_level)
        except UserError as error:
            unreadable.append(str(error))
    if unreadable:
        count = len(unreadable)
        raise UserError(
            (f"{count} pictures: " if count > 1 else "")
            + wording.listed(unreadable, _MOST_NAMES)
        )


def _white_level(workdir, settings):
    """Returns the value of white in 16-bit pictures, or None."""
    if settings.white_level is not None:
        return settings.white_level
    source = workdir.read_run().source
    return source and source.white_level


def _identity(workdir, settings, chosen):
    """Returns what the numbers depend on, besides our own version."""
    checksum = 0
    for picture in chosen:
        checksum = zlib.crc32(picture.name.encode(), checksum)
        checksum = zlib.crc32(picture.path.read_bytes(), checksum)
    return {
        "settings": settings.as_texts(),
        "model": model_checksum(workdir),
        "test_images": f"{checksum:08x}",
        "peer_versions": {
            name: CLASSICAL[name].versions() for name in settings.peers
        },
    }


def _measure(workdir, denoiser, chosen, settings):
    """Returns the sections, as dicts."""
    white_level = _white_level(workdir, settings)
    bar = tqdm.tqdm(
        chosen,
        unit="picture",
        file=sys.stdout,
        disable=not sys.stdout.isatty(),
    )
    found = {}
    for picture in bar:
        image = picture.read(denoiser.event_shape[-1], white_level)
        for note in notes.on_dark_picture(image, picture.path, white_level):
            bar.write(note)
        with user_errors(f"{picture.path}: "):
            found[picture.name] = evaluation.measure(
                denoiser,
                image,
                settings.levels,
                settings.peers,
                seed=settings.seed,
                max_pixels=settings.max_pixels,
                self_ensemble=settings.self_ensemble,
                estimate_sigma=settings.estimate_sigma,
            )
    sections = evaluation.sections(
        found,
        denoiser,
        settings.peers,
        settings.self_ensemble,
        settings.estimate_sigma,
    )
    return {name: section.as_dict() for name, section in sections.items()}
