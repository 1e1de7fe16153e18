"""All private and undocumented parts of Keras that this package uses.

`tests/core/test_private_api.py` fails where a new version of Keras or
TensorFlow lacks one of them.
"""


def flatten_layers(model):
    """Returns a Keras model and its layers at every depth, as an iterator."""
    return model._flatten_layers()


def is_compiled_with_loss(model):
    """Returns whether `loss=` was passed to `model.compile`."""
    return model._compile_loss is not None


def skip_training_calls(model, num):
    """Makes the first `num` calls of a model's training function do nothing.

    Keras calls that function for each execution of steps, but it can only
    start `fit` at an epoch, not within one.

    Args:
        model: a compiled Keras model.
        num: int >= 0.
    """
    model.make_train_function()
    train = model.train_function
    left = num

    def train_function(iterator):
        nonlocal left
        if left:
            left -= 1
            return {}
        return train(iterator)

    model.train_function = train_function
