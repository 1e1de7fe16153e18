"""Encodes images with a trained model: the parameters of q(z|x).

  python -m apps.encode --workdir=DIR --output=z.npz
  python -m apps.encode --workdir=DIR --input=PICTURES --output=z.npz

The file holds `loc` [n, latent_size] and `stddev` [n, latent_size] or, for a
full covariance, `scale_tril` [n, latent_size, latent_size]; and `label` [n]
where there are labels. A conditional model gives q(z|x, c).
"""

from absl import flags

from .cli import common_flags, guard, input_flags

FLAGS = flags.FLAGS

common_flags.define_path("workdir", "runs/vae", "A finished run.")
input_flags.define_flags(" They are binarised as in training.")
common_flags.define_label(
    "Of a model of labels: that of all pictures of --input;"
)
common_flags.define_path(
    "output", None, "An .npz file (default: encoded.npz of the run)."
)


def main():
    """Encodes, and writes the arrays."""
    workdir, output = common_flags.workdir_and_output("encoded.npz", (".npz",))
    from keras_genmodels.core import arrays as arrays_lib
    from keras_genmodels.core import files
    from keras_genmodels.runs import latent
    from keras_genmodels.training import inputs as latent_inputs

    model = latent.load_model(workdir)
    split = labelled(input_flags.read_split(workdir, model.event_shape), model)
    batches = latent_inputs.as_trained(split, workdir)
    arrays = arrays_lib.concatenate(
        parameters(model.encode(*inputs))
        for inputs in latent_inputs.arguments_of(model, batches)
    )
    if split.labels is not None and FLAGS.label != "none":
        arrays["label"] = split.labels
    files.write_arrays(output, **arrays)
    shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in arrays.items())
    print(f"{shapes} in {output}")


def labelled(split, model):
    """Gives pictures the label that a model of labels needs, --label."""
    import numpy as np

    from keras_genmodels import datasets
    from keras_genmodels.core.errors import UserError

    num_labels = getattr(model, "num_labels", None)
    if num_labels is None or split.labels is not None:
        guard.refuse(("label",), "pictures and a conditional model of labels")
        if num_labels is not None and not (
            0 <= split.labels.min() <= split.labels.max() < num_labels
        ):
            raise UserError(
                f"{FLAGS.input} has labels from {split.labels.min()} to "
                f"{split.labels.max()}, the model knows 0 to {num_labels - 1}"
            )
        return split
    if FLAGS.label is None:
        raise guard.WrongFlags(
            "this model of labels has to be told that of the pictures: give "
            "--label"
        )
    label = common_flags.read_label(model)
    if label is None:
        label = num_labels
    return datasets.Split(split.images, np.full(len(split.images), label))


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
