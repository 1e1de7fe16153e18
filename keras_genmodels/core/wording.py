"""Nouns and lists in messages."""


def with_article(noun):
    """Returns such as "a VAE" or "an EmpiricalDenoiser"."""
    return f"{'an' if noun[0] in 'AEIOaeio' else 'a'} {noun}"


def kind_of(value):
    """Returns the name of a value's type with its article."""
    return with_article(type(value).__name__)


def count_of(num, noun):
    """Returns such as "1 picture" or "2 pictures"."""
    return f"{num} {noun}" if num == 1 else f"{num} {noun}s"


def listed(texts, most):
    """Returns such as "a, b and 3 more", with at most `most` of the texts."""
    more = len(texts) - most
    shown = ", ".join(texts[:most])
    return f"{shown} and {more} more" if more > 0 else shown
