"""The flags' copies of choices that the library defines."""

from apps.cli import choices
from keras_genmodels.datasets.batches import BINARIZATIONS
from keras_genmodels.datasets.loading import COLORS, PATCHES_PER_EPOCH
from keras_genmodels.sampling.schedules import SCHEDULES
from keras_genmodels.sampling.solvers import SOLVERS
from keras_genmodels.training import fit, strategy


def test_flags_offer_the_choices_of_the_library():
    assert choices.BINARIZATIONS == BINARIZATIONS
    assert choices.COLORS == COLORS
    assert choices.PATCHES_PER_EPOCH == PATCHES_PER_EPOCH
    assert choices.LEARNING_RATE_SCHEDULES == fit.SCHEDULES
    assert tuple(SCHEDULES) == choices.NOISE_SCHEDULES
    assert tuple(SOLVERS) == choices.SOLVERS
    assert choices.STRATEGIES == strategy.NAMES
