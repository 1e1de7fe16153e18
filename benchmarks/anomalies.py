"""Measures how well log p(x) separates other images from test images.

  python benchmarks/anomalies.py --workdir=RUN       # about 10 seconds

RUN is a finished run of `apps.train_vae` on binarised images. The other images
are distorted test images, noise, white and black. For each kind the mean of
-log p(x), estimated by `kgm.log_likelihood` in nats, is printed, and the area
under the ROC curve: 1 if each of them has a lower log p(x) than every test
image, 0.5 for chance, 0 if each has a higher one.
"""

import sys

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("workdir", "runs/vae", "A finished run of train_vae.")
flags.DEFINE_string(
    "data_dir", None, "Folder of the data set, if it has moved."
)
flags.DEFINE_integer("images", 1000, "Number of test images.", lower_bound=1)
flags.DEFINE_integer(
    "num_samples", 100, "Importance samples per image.", lower_bound=1
)


def main(_):
    """Prints a line for each kind of images."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    import keras_genmodels as kgm
    from keras_genmodels.core import arrays
    from keras_genmodels.runs.workdir import Workdir

    workdir = Workdir(FLAGS.workdir)
    model, run = workdir.load_model(), workdir.read_run()
    test = run.load_data(FLAGS.data_dir).test
    batches = run.evaluation_batches(test.take(FLAGS.images))
    images = arrays.concatenate(batch["image"] for batch in batches)

    def nats(images):
        return -kgm.log_likelihood(
            model, images, num_samples=FLAGS.num_samples
        ).numpy()

    usual = nats(images)
    print(f"{'test images':<12} {usual.mean():8.1f} nats")
    for kind, others in kinds(images).items():
        found = nats(others)
        is_other = np.repeat([0, 1], [len(usual), len(found)])
        area = roc_auc_score(is_other, np.concatenate([usual, found]))
        print(f"{kind:<12} {found.mean():8.1f} nats, area {area:.3f}")
    return 0


def kinds(images):
    """Returns a dict of kinds to images, as many as `images`."""
    import numpy as np

    rng = np.random.default_rng(0)
    pixels = rng.permuted(images.reshape(len(images), -1), axis=1)
    return {
        "noise": rng.integers(0, 2, images.shape).astype(np.float32),
        "shuffled": pixels.reshape(images.shape),
        "inverted": 1 - images,
        "rotated": np.rot90(images, axes=(1, 2)).copy(),
        "mirrored": images[:, :, ::-1].copy(),
        "white": np.ones_like(images),
        "black": np.zeros_like(images),
    }


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
