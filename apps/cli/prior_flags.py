"""Flags of the prior p(z) or p(z|c), and the layer that they describe."""

from absl import flags

from . import guard


def define_flags(is_conditional=False):
    """Defines --prior and the flags of each prior.

    Args:
        is_conditional: whether the prior may depend on a condition.
    """
    kinds = (
        "a normalizing flow (RealNVP), a mixture of Gaussians, or a mixture of "
        "the posteriors of trained pseudo-inputs (VampPrior)"
    )
    flags.DEFINE_enum(
        "prior",
        "standard",
        [*_sizes(is_conditional)],
        "p(z|condition): N(0, I) for every condition; or trained, and a "
        f"function of the condition: a Gaussian (learned), {kinds}, the last "
        "of labels only."
        if is_conditional
        else f"p(z): N(0, I), or trained: {kinds}.",
    )
    for prior, name, what in (
        ("flow", "num_couplings", "affine couplings"),
        ("mixture", "num_components", "Gaussians"),
        ("vamp", "num_pseudo_inputs", "pseudo-inputs"),
    ):
        default = _sizes(is_conditional)[prior][name]
        flags.DEFINE_integer(
            name,
            None,
            f"With --prior={prior}: number of {what} (default: {default}).",
            lower_bound=1,
        )


def _sizes(is_conditional):
    """Returns the flag of the size of each prior, and its default."""
    learned = {"learned": {}} if is_conditional else {}
    return {
        "standard": {},
        **learned,
        "flow": {"num_couplings": 8},
        "mixture": {"num_components": 100},
        # Each one is encoded with each label.
        "vamp": {"num_pseudo_inputs": 50 if is_conditional else 500},
    }


def resolve(config):
    """Checks the flags and fills in defaults.

    Raises:
        WrongFlags: for a flag of another prior, and a flow of one latent.
    """
    sizes = config.values.get("latent_sizes")
    if config.prior == "flow" and (sizes or [config.latent_size])[-1] < 2:
        name = "the last of --latent_sizes" if sizes else "--latent_size"
        raise guard.WrongFlags(f"--prior=flow requires {name} to be 2 or more")
    sizes_of_each = _sizes(is_conditional="condition" in config.values)
    for prior, sizes in sizes_of_each.items():
        if prior != config.prior:
            config.forbid(sizes, f"--prior={prior}")
    return config.fill(**sizes_of_each[config.prior])


def build(config, data, latent_size, condition_size=0):
    """Builds the layer of p(z), or of that of the top layer of latents.

    Args:
        config: `Config`.
        data: `datasets.ImageDataset`.
        latent_size: int, width of z.
        condition_size: width of the features of a condition, 0 for none.

    Returns:
        a `PriorLayer`; None for --prior=learned.
    """
    import keras_genmodels as kgm

    given = {"condition_size": condition_size}
    if config.prior == "learned":
        return None
    if config.prior == "flow":
        return kgm.RealNVPPrior(latent_size, config.num_couplings, **given)
    if config.prior == "mixture":
        return kgm.MixturePrior(latent_size, config.num_components, **given)
    if config.prior == "vamp":
        return kgm.VampPrior(data.image_shape, config.num_pseudo_inputs)
    return kgm.StandardNormal(latent_size)
