"""Values of flags that the library defines, for a --help without TensorFlow.

`tests/apps/test_choices.py` compares them with the library.
"""

BINARIZATIONS = ("none", "dynamic", "threshold")
COLORS = ("auto", "grey", "rgb")
PATCHES_PER_EPOCH = 10_000
LEARNING_RATE_SCHEDULES = ("cosine", "constant")
NOISE_SCHEDULES = ("geometric", "karras")
SOLVERS = ("dpmpp_2m", "heun", "euler")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
