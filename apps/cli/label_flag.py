"""The flag --label of models that are conditioned on labels."""

from absl import flags

from . import guard

# The flag belongs to the module that calls `define_flag`.
flags.disclaim_key_flags()


def define_flag(purpose):
    """Defines --label.

    Args:
        purpose: what the label is used for, for the help.
    """
    flags.DEFINE_string(
        "label",
        None,
        f"{purpose} An integer from 0, or none for a model trained with "
        "--label_dropout, which also models images without a label.",
    )


def read(text, model, training_labels=None):
    """Parses --label for a model that is conditioned on labels.

    Args:
        text: the value of --label.
        model: the model.
        training_labels: the labels that its training images have; None if
            unknown.

    Returns:
        int, or None for "none".

    Raises:
        WrongFlags: if the model has no such label.
    """
    if text == "none":
        if model.label_dropout:
            return None
        raise guard.WrongFlags(
            "--label=none requires a model trained with --label_dropout"
        )
    if not text.isdecimal() or int(text) >= model.num_classes:
        raise guard.WrongFlags(
            f"--label={text} is not a label of this model: give 0 to "
            f"{model.num_classes - 1}"
        )
    label = int(text)
    if training_labels is not None and label not in training_labels:
        raise guard.WrongFlags(
            f"--label={label}: no training image has this label, so that the "
            "model does not know it"
        )
    return label


def check_labels(labels, num_classes, source):
    """Checks the labels of the images of --input.

    Args:
        labels: integer array `[n]`.
        num_classes: int, number of classes of the model.
        source: the value of --input, for the message.

    Raises:
        UserError: if the model does not have one of them.
    """
    from keras_genmodels.core.errors import UserError

    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise UserError(
            f"{source} has labels from {labels.min()} to "
            f"{labels.max()}, the model has 0 to {num_classes - 1}"
        )
