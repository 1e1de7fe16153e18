"""Short trainings of a small VAE, for tests of `training.fit`."""

import keras
import numpy as np

from keras_genmodels import datasets
from keras_genmodels.runs.workdir import Workdir
from keras_genmodels.training import fit as training
from support.image_batches import as_image, image_batches
from support.small_vaes import make_vae

STEPS = 7


BATCH = 16


def _split(n, seed):
    rng = np.random.default_rng(seed)
    # Four kinds of images, so that there is something to learn.
    kinds = rng.random((4, 8, 8, 1))
    images = kinds[rng.integers(0, 4, n)] + 0.1 * rng.random((n, 8, 8, 1))
    return datasets.Split((images > 0.6).astype(np.float32), None)


TRAIN, VALIDATION = _split(100, 0), _split(40, 1)


def options(**changes):
    return training.Options(
        **{
            "epochs": 4,
            "steps_per_epoch": STEPS,
            "checkpoint_every": 4,
            "jit_compile": False,
            "learning_rate": 1e-2,
            "ema_momentum": 0.9,
            **changes,
        }
    )


def run(workdir, given=None, model=None, validation=VALIDATION, verbose=0):
    keras.utils.set_random_seed(0)
    model = model or make_vae()
    report = training.fit(
        model,
        Workdir(workdir),
        given or options(),
        batches=image_batches(TRAIN, BATCH),
        validation=validation
        and datasets.evaluation_batches(validation, batch_size=64, seed=0).map(
            as_image
        ),
        verbose=verbose,
    )
    return model, report


def assert_same_weights(one, other):
    for mine, theirs in zip(
        one.get_weights(), other.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
