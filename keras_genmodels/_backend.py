"""Raises ImportError where Keras does not run on TensorFlow."""

_MODULES = ("jax", "torch", "openvino")


def _keras_backend():
    """Returns the name of Keras' backend, or why that cannot be imported."""
    try:
        import keras
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _MODULES:
            raise
        return f"one that cannot be imported ({error})"
    except ValueError as error:
        return f"none ({error})"
    return keras.config.backend()


def _check():
    backend = _keras_backend()
    if backend != "tensorflow":
        raise ImportError(
            "keras_genmodels requires the TensorFlow backend of Keras; the "
            "variable KERAS_BACKEND or the file ~/.keras/keras.json names "
            f"{backend}: set KERAS_BACKEND=tensorflow",
            name=__package__,
        )


_check()
