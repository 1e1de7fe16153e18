"""The dtype policy under which a model was built, kept in its file."""

import contextlib

import keras


@contextlib.contextmanager
def policy_scope(policy):
    """Makes a dtype policy the global one within a `with` block.

    Files of Keras keep the policy of each layer, but not that of a Functional
    or Sequential network, which casts its inputs by it.

    Args:
        policy: name of a policy, such as "float64"; None keeps the global one
            (for files of formats 1 and 2, which do not hold it).
    """
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
