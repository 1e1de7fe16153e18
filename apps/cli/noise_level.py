"""Warnings of noise levels that are probably on a wrong scale."""

# Of pixels in [0, 1], noise beyond this hides everything.
_LARGEST = 2


def warn_if_unlikely(flag, levels, denoiser=None):
    """Prints a line if noise levels are probably not what was meant.

    Args:
        flag: name of the flag.
        levels: list of floats; None is left out.
        denoiser: the `Denoiser` that they are passed to, if it is known.
    """
    from keras_genmodels.training import fit

    levels = [level for level in levels if level is not None]
    if not levels:
        return
    highest = max(levels)
    given = ",".join(f"{level:g}" for level in levels)
    if min(levels) > _LARGEST:
        print(
            f"--{flag}={given}: sigma is in units of pixels in [0, 1]: write "
            f"{highest:g}/255 if it counts grey levels."
        )
    elif denoiser is not None and fit.is_trainable(denoiser):
        low, high = denoiser.sigma_range
        # The flag may have fewer digits than the range.
        if min(levels) < 0.999 * low or highest > 1.001 * high:
            print(
                f"--{flag}={given}: the denoiser was trained for a sigma of "
                f"{low:g} to {high:g}."
            )
