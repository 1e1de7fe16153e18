"""Why a training cannot go on."""


class TrainingError(ValueError):
    """No checkpoint can be read, or the numbers are not finite."""


class NotFiniteError(TrainingError):
    """A loss or a weight is infinite or NaN."""
