"""Which `model.keras` files this version reads (docs/compatibility.md)."""

# 2: VAEs have num_importance_samples and doubly_reparameterized, and full
#    posteriors scale the rows of their factor by the diagonal.
# 3: the dtype policy is kept; num_labels, known and relative are num_classes,
#    observed_mask and scale_rows_by_diagonal.
# 4: VAEs, also conditional ones, have a prior and free_bits.
FORMAT = 4


def check_format(config):
    """Checks the format number of a config and removes it.

    Returns:
        dict, the rest of the config.

    Raises:
        ValueError: if the file was written in a newer format.
    """
    config = dict(config)
    if (written := config.pop("format")) > FORMAT:
        raise ValueError(
            f"the file has format {written}, this version of keras_genmodels "
            f"reads up to {FORMAT}: upgrade the package"
        )
    return config
