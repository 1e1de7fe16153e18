"""Reads model.json as keras_genmodels 0.2 wrote it.

There, inputs had no `values` and no `example`, pixels were described by a
sentence, and two keys had other names.
"""

from keras_genmodels.export.values import (
    FINITE,
    Binary,
    Integers,
    Interval,
    Levels,
    LogInterval,
    labels,
)

_PIXELS = {
    "0 or 1": Binary(),
    "in [0, 1]": Interval(0, 1),
    "k / 255 for an integer k in [0, 255]": Levels(),
    "finite": FINITE,
}


def upgraded(description):
    """Returns the content of such a file in the present format."""
    new = {"warmup": True, **description}
    new["num_classes"] = new.pop("num_labels")
    new["has_observed_mask"] = new.pop("known")
    pixels = _PIXELS[new["pixels"]]
    new["pixels"] = pixels.to_json()
    new["signatures"] = {
        name: {
            **signature,
            "inputs": {
                key: {**spec, **_values(new, pixels, name, key, spec)}
                for key, spec in signature["inputs"].items()
            },
        }
        for name, signature in new["signatures"].items()
    }
    return new


def _values(description, pixels, signature, name, spec):
    """Returns the `values` and the `example` of an input."""
    if name == "condition":
        values, example = _condition(description, pixels, spec)
    elif name == "image":
        values = pixels if signature == "log_likelihood" else FINITE
        example = pixels
    else:
        values, example = _others(description)[name]
    return {"values": values.to_json(), "example": example.to_json()}


def _condition(description, pixels, spec):
    if description["num_classes"] is not None:
        no_label = description["no_label"] is not None
        accepted = labels(description["num_classes"], no_label)
        return accepted, accepted
    if spec["dtype"] == "int32":
        return Integers(0, 2**31 - 1), Integers(0, 0)
    if description["has_observed_mask"]:
        return FINITE, pixels
    return FINITE, Interval(0, 0.5)


def _others(description):
    steps = description["settings"].get("max_steps", 0)
    levels = description["sigma_range"] or (1.0, 1.0)
    return {
        "z": (FINITE, Interval(-2, 2)),
        "seed": (Integers(-(2**31), 2**31 - 1), Integers(0, 2**31 - 1)),
        "sigma": (Interval(0, bounds="()"), LogInterval(*levels)),
        "step_size": (Interval(0, 2, "()"), Interval(0.05, 1)),
        "max_steps": (Integers(0, steps), Integers(0, min(steps, 20))),
        "tolerance": (Interval(0), Interval(1e-3, 1e-3)),
    }
