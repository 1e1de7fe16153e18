"""Encodes images with a trained model: the parameters of q(z|x).

  python -m apps.encode --workdir=DIR --output=z.npz
  python -m apps.encode --workdir=DIR --input=PICTURES --output=z.npz

The file holds `loc` [n, latent_size] and `stddev` [n, latent_size] or, for a
full covariance, `scale_tril` [n, latent_size, latent_size]; for the test
split also `label` [n] where the data set has labels.
"""

from absl import flags

from . import common_flags, guard

FLAGS = flags.FLAGS

common_flags.define_path("workdir", "runs/vae", "A finished run.")
common_flags.define_path(
    "input",
    None,
    "A picture or a folder of pictures; they are resized to the model's size "
    "and binarised as in training (default: the test split that the run was "
    "evaluated on).",
)
common_flags.define_path(
    "data_dir", None, "Where the run's data set lies, if it has moved."
)
common_flags.define_path(
    "output", None, "An .npz file (default: encoded.npz of the run)."
)


def main():
    """Encodes, and writes the arrays."""
    workdir, output = common_flags.workdir_and_output("encoded.npz", (".npz",))
    import numpy as np

    from keras_genmodels import datasets, files
    from keras_genmodels.errors import UserError
    from keras_genmodels.models import VAE

    model = workdir.load_model()
    if not isinstance(model, VAE):
        raise UserError(
            f"{workdir} holds a {type(model).__name__}, which has no q(z|x) to "
            "encode with: give the --workdir of a run of train_vae"
        )
    recorded = workdir.read_flags()
    if FLAGS.input:
        images = datasets.read_pictures(
            FLAGS.input, image_shape=model.event_shape
        )
        split = datasets.Split(images, None)
    else:
        split = common_flags.data_of_run(recorded, FLAGS.data_dir).test
    batches = datasets.evaluation_batches(
        split,
        batch_size=512,
        seed=int(recorded["seed"]),
        binarization=recorded["binarization"],
    )
    parts = [parameters(model.encode(batch["image"])) for batch in batches]
    arrays = {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }
    if split.labels is not None:
        arrays["label"] = split.labels
    files.write_arrays(output, **arrays)
    shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in arrays.items())
    print(f"{shapes} in {output}")


def parameters(posterior):
    """Names the parameters of q(z|x) for the file."""
    if "scale_tril" in posterior.parameters:
        spread = {"scale_tril": posterior.scale_tril.numpy()}
    else:
        spread = {"stddev": posterior.stddev().numpy()}
    return {"loc": posterior.loc.numpy(), **spread}


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
