"""Which `model.keras` files this version reads: "Versions" in the README."""

# 2: VAEs have num_importance_samples and doubly_reparameterized, full
# posteriors are `relative`.
FORMAT = 2


def check_format(config):
    """Takes the format number out of a config and checks it.

    Returns:
        dict, the rest of the config.

    Raises:
        ValueError: if the file was written by a newer format.
    """
    config = dict(config)
    if (written := config.pop("format")) > FORMAT:
        raise ValueError(
            f"the file has format {written}, this version of keras_genmodels "
            f"reads up to {FORMAT}: upgrade the package"
        )
    return config
