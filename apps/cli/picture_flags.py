"""The flags of an evaluation on pictures at their own sizes."""

from absl import flags

from . import flag_types, guard, input_flags

# The name of scikit-image's pictures, as in `datasets.standard_pictures`.
STANDARD = "skimage"
# Of `evaluation.classical`.
_PEERS = ("nlm", "tv", "wavelets", "bm3d")
_ALL, _NONE = "all", "none"
_FLAGS = (
    *("sigma", "peers", "max_pixels", "self_ensemble", "white_level"),
    "estimate_sigma",
)

flags.disclaim_key_flags()


class _PeersParser(flags.ArgumentParser):
    """Parses names of denoisers joined by commas, all or none."""

    syntactic_help = f"{_ALL}, {_NONE}, or some of {','.join(_PEERS)}"

    def parse(self, argument):
        if argument in (_ALL, _NONE) or isinstance(argument, tuple):
            return argument
        names = tuple(argument.split(","))
        if not {*names} <= {*_PEERS} or len({*names}) < len(names):
            raise ValueError(f"{self.syntactic_help} expected")
        return names

    def flag_type(self):
        return "names"


def define_flags():
    """Defines --input, --sigma, --peers and --max_pixels."""
    flag_types.define_path(
        "input",
        None,
        "With a denoiser of images of any size: a picture or a folder of "
        f"pictures, or {STANDARD} for ten grey (or five colour) pictures of "
        "scikit-image. They are measured at their own sizes instead of the "
        "test images.",
        words=(STANDARD,),
    )
    flag_types.define_level_list(
        "sigma",
        None,
        "With --input: noise levels joined by commas, in units of pixels in "
        "[0, 1] (default: 15/255,25/255,50/255).",
    )
    flag_types.define(
        _PeersParser(),
        "peers",
        None,
        f"With --input: classical denoisers to compare with, {_NONE}, {_ALL} "
        f"(that are installed; the default) or some of {','.join(_PEERS)} "
        "joined by commas. bm3d requires the package bm3d, and takes longest.",
    )
    flags.DEFINE_integer(
        "max_pixels",
        None,
        "With --input: pixels that the network takes at a time (default: "
        "1048576). Larger pictures are denoised in overlapping tiles, with the "
        "same result.",
        lower_bound=1,
    )
    define_self_ensemble("With --input: ")
    define_white_level("With --input: ")
    flags.DEFINE_bool(
        "estimate_sigma",
        False,
        "With --input: the denoiser receives the noise level that is estimated "
        "from the noisy picture, as by restore --sigma=auto, and not --sigma, "
        "that of the noise.",
    )


def define_self_ensemble(when):
    """Defines --self_ensemble.

    Args:
        when: start of its help, with what the flag goes.
    """
    flags.DEFINE_bool(
        "self_ensemble",
        False,
        f"{when}average over the 8 flips and quarter turns of a picture, which "
        "takes 8 times as long, and is closer to the clean one.",
    )


def define_white_level(when):
    """Defines --white_level.

    Args:
        when: start of its help, with what the flag goes.
    """
    flags.DEFINE_integer(
        "white_level",
        None,
        f"{when}the value of white in 16-bit pictures (default: that of the "
        "training; without one 65535, or what the chunk sBIT of a PNG says).",
        lower_bound=1,
        upper_bound=65535,
    )


def check(config, others):
    """Checks the flags, before anything is loaded.

    Args:
        config: `Config`.
        others: names of flags that --input excludes.
    """
    if config.input is None:
        config.forbid(_FLAGS, "--input")
        return
    for name in others:
        if name in config.present:
            raise guard.WrongFlags(f"--{name} and --input exclude each other")
    if config.input == STANDARD:
        config.forbid(["white_level"], "16-bit pictures, these have 8 bits")
    elif input_flags.is_arrays(config.input):
        raise guard.WrongFlags(
            f"--input={config.input} must be a picture, a folder of pictures "
            f"or {STANDARD}"
        )


def settings_of(config):
    """Returns the `PictureSettings` of the flags; prints what is left out."""
    from keras_genmodels.evaluation import pictures
    from keras_genmodels.runs.evaluate_pictures import PictureSettings
    from keras_genmodels.sampling import tiles

    count = config.num_images if "num_images" in config.present else None
    if config.input == STANDARD:
        _print_missing()
    else:
        input_flags.print_skipped(config.input)
        describe(config, count)
    return PictureSettings(
        config.input,
        config.sigma or pictures.LEVELS,
        _peers_of(config.peers),
        config.seed,
        count,
        config.max_pixels or tiles.MAX_PIXELS,
        config.self_ensemble,
        config.white_level,
        config.estimate_sigma,
    )


def describe(config, count):
    """Prints what of the pictures of --input is not read as it is stored.

    Args:
        config: `Config` with --input and --white_level.
        count: how many pictures, the first ones; None for all.

    Raises:
        WrongFlags: for --white_level, if none has 16 bits.
        UserError: if a file is no picture.
    """
    from keras_genmodels import datasets
    from keras_genmodels.datasets import notes, pictures

    paths = datasets.list_pictures(config.input)[:count]
    headers = pictures.read_headers(paths)
    if config.white_level and all(header.bits == 8 for header in headers):
        raise guard.WrongFlags(
            f"--white_level={config.white_level} requires 16-bit pictures, "
            f"those of {config.input} have 8 bits"
        )
    for note in notes.on_headers(headers):
        print(note)


def _print_missing():
    from keras_genmodels.datasets import standard_pictures

    if missing := standard_pictures.missing():
        print(f"The installed scikit-image lacks {', '.join(missing)}.")


def _peers_of(value):
    """Returns the names of --peers; raises if one is not installed."""
    from keras_genmodels.evaluation.classical import CLASSICAL

    if value == _NONE:
        return ()
    lacking = [n for n in _PEERS if not CLASSICAL[n].is_installed()]
    if value in (None, _ALL):
        for name in lacking if value == _ALL else ():
            print(f"Without {name}: the package {name} is not installed.")
        return tuple(name for name in _PEERS if name not in lacking)
    for name in value:
        if name in lacking:
            raise guard.WrongFlags(
                f"--peers={name} requires the package {name}: pip install "
                f"{name}, whose licence is for non-commercial use"
            )
    return value
