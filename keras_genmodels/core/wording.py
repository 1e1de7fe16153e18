"""Nouns in messages, after "a" or "an"."""


def with_article(noun):
    """Returns such as "a VAE" or "an EmpiricalDenoiser"."""
    return f"{'an' if noun[0] in 'AEIOaeio' else 'a'} {noun}"


def kind_of(value):
    """Returns the name of a value's type with its article."""
    return with_article(type(value).__name__)
