"""Flags of the prior p(z) of a VAE, and the layer that they describe."""

from absl import flags

from . import guard

# The flag of the size of each prior, and its default.
_SIZES = {
    "standard": {},
    "flow": {"num_couplings": 8},
    "mixture": {"num_components": 100},
    "vamp": {"num_pseudo_inputs": 500},
}


def define_flags():
    """Defines --prior and the flags of each prior."""
    flags.DEFINE_enum(
        "prior",
        "standard",
        [*_SIZES],
        "p(z): N(0, I), or trained: a normalizing flow (RealNVP), a mixture of "
        "Gaussians, or a mixture of the posteriors of trained pseudo-inputs "
        "(VampPrior).",
    )
    for prior, name, what in (
        ("flow", "num_couplings", "affine couplings"),
        ("mixture", "num_components", "Gaussians"),
        ("vamp", "num_pseudo_inputs", "pseudo-inputs"),
    ):
        flags.DEFINE_integer(
            name,
            None,
            f"With --prior={prior}: number of {what} (default: "
            f"{_SIZES[prior][name]}).",
            lower_bound=1,
        )


def resolve(config):
    """Checks the flags and fills in defaults.

    Raises:
        WrongFlags: for a flag of another prior, and a flow of one latent.
    """
    sizes = config.values.get("latent_sizes")
    if config.prior == "flow" and (sizes or [config.latent_size])[-1] < 2:
        name = "the last of --latent_sizes" if sizes else "--latent_size"
        raise guard.WrongFlags(f"--prior=flow requires {name} to be 2 or more")
    for prior, sizes in _SIZES.items():
        if prior != config.prior:
            config.forbid(sizes, f"--prior={prior}")
    return config.fill(**_SIZES[config.prior])


def build(config, data, latent_size):
    """Builds the layer of p(z), or of that of the top layer of latents.

    Args:
        config: `Config`.
        data: `datasets.ImageDataset`.
        latent_size: int, width of z.

    Returns:
        a `PriorLayer`.
    """
    import keras_genmodels as kgm

    if config.prior == "flow":
        return kgm.RealNVPPrior(latent_size, config.num_couplings)
    if config.prior == "mixture":
        return kgm.MixturePrior(latent_size, config.num_components)
    if config.prior == "vamp":
        return kgm.VampPrior(data.image_shape, config.num_pseudo_inputs)
    return kgm.StandardNormal(latent_size)
