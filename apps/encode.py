"""Encodes images with a trained model: writes the parameters of q(z|x).

  python -m apps.encode --workdir=DIR --output=z.npz
  python -m apps.encode --workdir=DIR --input=PICTURES --output=z.npz
  python -m apps.encode --workdir=DIR --input=train --shard=3/16

The file holds `loc` [n, latent_size] and `stddev` [n, latent_size] or, for a
full covariance, `scale_tril` [n, latent_size, latent_size]; and `label` [n]
if there are labels. A conditional model writes those of q(z|x, c). A model
with several layers of latents writes `z` [n, latent_size], the mean of each
layer given the means of those above, in place of `loc`.

`python -m apps.generate --merge=FIRST.npz,SECOND.npz --output=ALL.npz` joins
the shards of a job to the file of the whole job.
"""

from .cli import (
    flag_types,
    guard,
    input_flags,
    label_flag,
    output_flag,
    shard_flag,
)
from .cli.config import Config

# Images that are encoded at once.
_BATCH_SIZE = 512

flag_types.define_path("workdir", "runs/vae", "A finished run.")
guard.define_import_flag()
input_flags.define_flags(" They are binarized as in training.")
label_flag.define_flag(
    "With pictures and a model conditioned on labels: the label of all "
    "pictures."
)
output_flag.define_flag(
    "An .npz file (default: encoded.npz of the run, or "
    "encoded_INDEX_of_COUNT.npz for a shard)."
)
shard_flag.define_flag("the images")


def main():
    """Encodes, and writes the arrays."""
    config = Config.read(__name__)
    output = output_flag.path(config, "encoded.npz", (".npz",))
    input_flags.check_output(config.input, [output])
    input_flags.check_data_dir(config)
    guard.load_tensorflow(config.import_module)
    from keras_genmodels.core import files
    from keras_genmodels.core.errors import user_errors
    from keras_genmodels.models import LatentVariableModel
    from keras_genmodels.runs import Workdir

    workdir = Workdir(config.workdir)
    model = workdir.load_model(LatentVariableModel)
    run = workdir.read_run()
    split = input_flags.read_split(config, workdir, model.event_shape)
    split = labelled(config, split, model, run)
    if run.binarization not in (None, "none"):
        input_flags.check_scale(split.images, model.event_shape, config.input)
    part = shard_flag.part_of(config, len(split.images), _BATCH_SIZE)
    with user_errors():
        arrays = encode(model, run, split, part.rows)
    if split.labels is not None and config.label != "none":
        arrays["label"] = split.labels[part.slice]
    extra = shard_flag.arrays_of(config, part, workdir.model, split)
    files.write_arrays(output, **arrays, **extra)
    shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in arrays.items())
    print(f"{shard_flag.title(config)}{shapes} in {output}")


def encode(model, run, split, rows):
    """Returns the parameters of q(z|x) of some rows of a split, a dict."""
    from keras_genmodels.core import arrays
    from keras_genmodels.distributions import latents
    from keras_genmodels.training import inputs

    count = len(split.images)
    computed = arrays.rows_of_batches(rows, count, _BATCH_SIZE)
    batches = run.evaluation_batches(
        split, batch_size=_BATCH_SIZE, rows=computed
    )
    found = arrays.concatenate(
        latents.parameters(model.encode(*x))
        for x in inputs.arguments_of(model, batches)
    )
    return arrays.take_rows(found, rows, computed)


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
