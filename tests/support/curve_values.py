"""Values of training curves."""

CURVES = {
    "elbo": {
        "train": [(e, -30 + 8 * (1 - 0.9**e)) for e in range(1, 31)],
        "validation": [(e, -31 + 8 * (1 - 0.9**e)) for e in range(1, 31)],
    },
    "rate": {"train": [(1, 4.0)], "validation": [(1, 5.0)]},
}
