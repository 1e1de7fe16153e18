"""Encodes images with a trained model: writes the parameters of q(z|x).

  python -m apps.encode --workdir=DIR --output=z.npz
  python -m apps.encode --workdir=DIR --input=PICTURES --output=z.npz

The file holds `loc` [n, latent_size] and `stddev` [n, latent_size] or, for a
full covariance, `scale_tril` [n, latent_size, latent_size]; and `label` [n]
if there are labels. A conditional model writes those of q(z|x, c).
"""

from .cli import flag_types, guard, input_flags, label_flag, output_flag
from .cli.config import Config

flag_types.define_path("workdir", "runs/vae", "A finished run.")
guard.define_import_flag()
input_flags.define_flags(" They are binarized as in training.")
label_flag.define_flag(
    "With pictures and a model conditioned on labels: the label of all "
    "pictures."
)
output_flag.define_flag("An .npz file (default: encoded.npz of the run).")


def main():
    """Encodes, and writes the arrays."""
    config = Config.read(__name__)
    output = output_flag.path(config, "encoded.npz", (".npz",))
    input_flags.check_output(config.input, [output])
    guard.load_tensorflow(config.import_module)
    from keras_genmodels.core import arrays as arrays_lib
    from keras_genmodels.core import files
    from keras_genmodels.core.errors import user_errors
    from keras_genmodels.distributions import latents
    from keras_genmodels.models import LatentVariableModel
    from keras_genmodels.runs import Workdir
    from keras_genmodels.training import inputs as latent_inputs

    workdir = Workdir(config.workdir)
    model = workdir.load_model(LatentVariableModel)
    run = workdir.read_run()
    split = input_flags.read_split(config, workdir, model.event_shape)
    split = labelled(config, split, model, run)
    if run.binarization not in (None, "none"):
        input_flags.check_scale(split.images, model.event_shape, config.input)
    batches = run.evaluation_batches(split)
    with user_errors():
        arrays = arrays_lib.concatenate(
            latents.parameters(model.encode(*inputs))
            for inputs in latent_inputs.arguments_of(model, batches)
        )
    if split.labels is not None and config.label != "none":
        arrays["label"] = split.labels
    files.write_arrays(output, **arrays)
    shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in arrays.items())
    print(f"{shapes} in {output}")


def labelled(config, split, model, run):
    """Returns pictures with the label that the model needs, from --label."""
    import numpy as np

    from keras_genmodels import datasets

    num_classes = model.num_classes
    if num_classes is None or split.labels is not None:
        config.forbid(("label",), "pictures and a model conditioned on labels")
        if num_classes is not None:
            label_flag.check_labels(split.labels, num_classes, config.input)
        return split
    if config.label is None:
        raise guard.WrongFlags(
            "this model is conditioned on labels, which pictures do not have: "
            "give --label"
        )
    label = label_flag.read(config.label, model, run.training_labels)
    if label is None:
        label = num_classes
    return datasets.Split(split.images, np.full(len(split.images), label))


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
