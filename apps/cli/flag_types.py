"""Kinds of flags that absl does not have: paths, sizes, noise levels, ..."""

import math
import os
import re
import urllib.parse

from absl import flags

FLAGS = flags.FLAGS

# The flags belong to the modules that call the functions below.
flags.disclaim_key_flags()


class _PathParser(flags.ArgumentParser):
    """Makes a path absolute, so that a flag file works from any directory.

    Args:
        remote: scheme of URLs that are accepted, in lower case.
        words: other values that are accepted, which are no paths.
    """

    syntactic_help = "a path"

    def __init__(self, remote=None, words=()):
        super().__init__()
        self.remote = remote
        self.words = words

    def parse(self, argument):
        if not argument:
            raise ValueError("a path expected, got nothing")
        if argument in self.words:
            return argument
        # As `core.files.local_path`, which would import TensorFlow.
        if found := re.match("([A-Za-z][A-Za-z0-9+.-]+):/", argument):
            url = urllib.parse.urlsplit(argument)
            if url.scheme == self.remote:
                return url.scheme + argument[len(url.scheme) :]
            if url.scheme != "file" or url.netloc not in ("", "localhost"):
                raise ValueError(
                    f"only local paths can be used, not {found[1]} addresses: "
                    "mount it, or copy to or from a local folder"
                )
            argument = urllib.parse.unquote(url.path)
        return os.path.abspath(os.path.expanduser(argument))

    def flag_type(self):
        return "path"


class _PathListParser(_PathParser):
    """Makes paths that are joined by commas absolute."""

    syntactic_help = "paths joined by commas"

    def parse(self, argument):
        paths = argument.split(",") if isinstance(argument, str) else argument
        return tuple(super(_PathListParser, self).parse(p) for p in paths)

    def flag_type(self):
        return "paths"


class _SizesParser(flags.ArgumentParser):
    """Parses integers of at least 1, or another number, joined by commas."""

    def __init__(self, most=99, least=1):
        super().__init__()
        self.most, self.least = most, least
        kind = "positive integers" if least == 1 else f"integers >= {least}"
        self.syntactic_help = f"{kind} joined by commas"

    def parse(self, argument):
        sizes = _numbers(argument, int)
        if not 1 <= len(sizes) <= self.most or min(sizes) < self.least:
            raise ValueError(f"{self.syntactic_help} expected")
        return sizes

    def flag_type(self):
        return "sizes"


class _SeedsParser(flags.ArgumentParser):
    """Parses seeds joined by commas."""

    syntactic_help = "different seeds in [0, 2147483647], joined by commas,"

    def parse(self, argument):
        seeds = _numbers(argument, int)
        in_range = all(0 <= seed < 2**31 for seed in seeds)
        if not seeds or not in_range or len({*seeds}) < len(seeds):
            raise ValueError(f"{self.syntactic_help} expected")
        return seeds

    def flag_type(self):
        return "seeds"


class _LevelsParser(flags.ArgumentParser):
    """Parses noise levels: one, or the lowest and the highest."""

    def __init__(self, least=1):
        super().__init__()
        self.least = least
        one = "LEVEL or " if least == 1 else ""
        self.syntactic_help = f"{one}LOWEST,HIGHEST, finite and > 0,"

    def parse(self, argument):
        levels = _numbers(argument, _fraction)
        if (
            not self.least <= len(levels) <= 2
            or not all(0 < level < math.inf for level in levels)
            or levels[0] > levels[-1]
        ):
            raise ValueError(f"{self.syntactic_help} expected")
        return levels

    def flag_type(self):
        return "levels"


class _LevelListParser(flags.ArgumentParser):
    """Parses different noise levels joined by commas."""

    syntactic_help = (
        "different noise levels > 0 joined by commas, such as 15/255,0.1,"
    )

    def parse(self, argument):
        levels = _numbers(argument, _fraction)
        if (
            not levels
            or not all(0 < level < math.inf for level in levels)
            # As results are named by these texts.
            or len({f"{level:g}" for level in levels}) < len(levels)
        ):
            raise ValueError(f"{self.syntactic_help} expected")
        return levels

    def flag_type(self):
        return "levels"


class _AutoOrBoolParser(flags.EnumParser):
    """Parses auto, true or false as "auto", True or False."""

    def __init__(self):
        super().__init__(["auto", "true", "false"])

    def parse(self, argument):
        if isinstance(argument, bool):
            return argument
        text = super().parse(argument)
        return text if text == "auto" else text == "true"


class _LevelParser(flags.FloatParser):
    """Parses a noise level: a number, a fraction such as 25/255, or a word."""

    def __init__(self, words=(), **bounds):
        super().__init__(**bounds)
        self.words = words

    def parse(self, argument):
        return argument if argument in self.words else super().parse(argument)

    def convert(self, argument):
        if isinstance(argument, str):
            return _fraction(argument)
        return super().convert(argument)


def _fraction(text):
    """Parses a number or a fraction such as 25/255.

    Raises:
        ValueError: for other text.
    """
    above, is_fraction, below = text.partition("/")
    if not is_fraction:
        return float(above)
    if not float(below):
        raise ValueError(f"a number or a fraction expected, got {text}")
    return float(above) / float(below)


def _numbers(argument, kind):
    """Parses numbers joined by commas as a tuple, empty for other text."""
    if not isinstance(argument, str):
        return tuple(argument)
    try:
        return tuple(kind(part) for part in argument.split(","))
    except ValueError:
        return ()


class _Serializer(flags.ArgumentSerializer):
    def serialize(self, value):
        if isinstance(value, bool):
            return "true" if value else "false"
        return ",".join(map(str, value)) if isinstance(value, tuple) else value


def define(parser, name, default, help_text):
    """Defines a flag of any parser."""
    return flags.DEFINE(parser, name, default, help_text, FLAGS, _Serializer())


# Old names of flags, which are accepted for one version.
ALIASES = set()


def define_alias(old, new):
    """Defines an old name of a flag."""
    ALIASES.add(old)
    flags.DEFINE_alias(old, new)


def define_path(name, default, help_text, remote=None, words=()):
    """Defines a flag of a path, a URL of the scheme `remote` or a word."""
    return define(_PathParser(remote, words), name, default, help_text)


def define_paths(name, default, help_text):
    """Defines a flag that holds paths; it may be given several times."""
    flags.DEFINE_multi(
        _PathParser(), flags.ArgumentSerializer(), name, default, help_text
    )


def define_path_list(name, default, help_text):
    """Defines a flag that holds paths joined by commas."""
    define(_PathListParser(), name, default, help_text)


def define_sizes(name, default, help_text, most=99, least=1):
    """Defines a flag that holds positive integers, such as 200,200."""
    define(_SizesParser(most, least), name, default, help_text)


def define_seeds(name, help_text):
    """Defines a flag that holds seeds, such as 0,1,2, or None."""
    define(_SeedsParser(), name, None, help_text)


def define_level(name, default, help_text, lower_bound=None, words=()):
    """Defines a flag of a noise level, such as 0.1 or 25/255, or a word."""
    parser = _LevelParser(words, lower_bound=lower_bound)
    define(parser, name, default, help_text)


def define_levels(name, default, help_text, least=1):
    """Defines a flag that holds one or two noise levels, such as 5/255,1.5."""
    define(_LevelsParser(least), name, default, help_text)


def define_level_list(name, default, help_text):
    """Defines a flag that holds noise levels, such as 15/255,0.1,0.2."""
    define(_LevelListParser(), name, default, help_text)


def define_auto_or_bool(name, default, help_text):
    """Defines a flag that is auto, true or false."""
    define(_AutoOrBoolParser(), name, default, help_text)


def define_seed(help_text):
    """Defines --seed, an integer in [0, 2**31), 0 by default."""
    flags.DEFINE_integer(
        "seed", 0, help_text, lower_bound=0, upper_bound=2**31 - 1
    )
