"""Extrapolates log p(x) of all images by many draws from few of the images.

  python -m apps.evaluate --workdir=RUN --shard=0/1 --num_images=10000 \\
      --num_samples=100 --output=few.npz
  python -m apps.evaluate --workdir=RUN --shard=0/1 --num_images=2000 \\
      --num_samples=5000 --output=many.npz
  python benchmarks/many_draws.py --few=few.npz --many=many.npz

Prints -log p(x) by the importance-weighted bound of all images in the first
file, and that less what the draws of the second gain on its images, which must
be the first ones of the others; in nats, with standard errors. The bound of
convolutional decoders by 5000 draws of 10 000 images would take hours.
"""

import math
import sys

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "few", None, "File of the bound of all images by few draws."
)
flags.DEFINE_string("many", None, "File of the first images by many draws.")

NAME = "likelihood/log_likelihood"


def main(_):
    """Prints the bounds of the files that the flags name."""
    if not (FLAGS.few and FLAGS.many):
        sys.exit("many_draws.py takes two files: --few=few.npz --many=many.npz")
    report(FLAGS.few, FLAGS.many)
    return 0


def report(few_path, many_path):
    """Prints the bounds of two files and the extrapolated one."""
    few, many = map(read, (few_path, many_path))
    if len(many) > len(few):
        sys.exit(
            f"{many_path} has {len(many)} images, more than the {len(few)} "
            f"of {few_path}"
        )
    gain = many - few[: len(many)]
    print(f"-log p(x), few draws: {as_text(-few)}, {len(few)} images")
    print(f"gain by many draws: {as_text(gain)}, {len(many)} images")
    print(f"-log p(x), many draws, extrapolated: {extrapolated(few, gain)}")


def read(path):
    """Returns the bound of each image in a file of `apps.evaluate`."""
    import numpy as np

    with np.load(path) as found:
        if NAME not in found or found["shard_rows"][0]:
            sys.exit(f"{path} has no {NAME} of the first images")
        return found[NAME]


def extrapolated(few, gain):
    """Returns the mean and its standard error, as text.

    The two parts count as independent.
    """
    parts = (few.var(ddof=1) / len(few), gain.var(ddof=1) / len(gain))
    error = math.sqrt(sum(parts))
    return f"{-few.mean() - gain.mean():.3f} ± {error:.3f}"


def as_text(values):
    """Returns the mean and its standard error."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():.3f} ± {error:.3f}"


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
