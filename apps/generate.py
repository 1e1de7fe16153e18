"""Draws images from a trained model.

  python -m apps.generate --workdir=DIR --seed=1 --output=grid.png
  python -m apps.generate --workdir=DIR --label=3 --guidance=1
  python -m apps.generate --workdir=DIR --input=PICTURES --num_completions=4
  python -m apps.generate --workdir=DIR --num_images=50000 --shard=3/16
  python -m apps.generate --merge=FIRST.npz,SECOND.npz --output=ALL.npz

A denoiser goes from noise to images in --num_steps evaluations; one of a VAE's
latents goes from noise to latents, which the VAE decodes. A model that is
conditioned on labels draws images of --label, or else a row for each label of
the training images, each column from the same random numbers; one that
completes images draws several completions of each image of --input, shown next
to the observed part and the original.

An --output that ends in .npz holds an array `image`, float32 in [0, 1]
[num_images, height, width, channels], and the `label` [num_images] of each;
completions are [num_images, num_completions, height, width, channels], with
the original images as `truth` [num_images, height, width, channels].

The shards of a job can be made by several machines; --merge joins them, and
those of the app encode, to the file of the whole job.
"""

from absl import flags

from .cli import (
    flag_types,
    guard,
    input_flags,
    label_flag,
    merging,
    output_flag,
    shard_flag,
    walks,
)
from .cli.config import Config

# Defaults of --num_images.
_NUM_IMAGES = 64
_NUM_PER_LABEL = 10
_NUM_COMPLETED = 8

flag_types.define_path("workdir", "runs/vae", "A finished run.")
guard.define_import_flag()
flags.DEFINE_integer(
    "num_images",
    None,
    f"Number of images (default: {_NUM_IMAGES}; for each label, without "
    f"--label, {_NUM_PER_LABEL}; to complete, {_NUM_COMPLETED} of a split, all "
    "of your own).",
    lower_bound=1,
)
flag_types.define_seed("Seed; image i depends on the seed and i only.")
label_flag.define_flag("With a model conditioned on labels: the label to draw.")
flags.DEFINE_float(
    "guidance",
    0.0,
    "Guidance scale, with a model trained with --label_dropout: the decoder's "
    "parameters (logits, for bernoulli), or the images that a denoiser "
    "returns, become (1 + guidance) times those with the label minus guidance "
    "times those without.",
    lower_bound=0,
)
input_flags.define_flags(
    " With a model that completes images: the images to complete."
)
flags.DEFINE_integer(
    "num_completions",
    6,
    "With a model that completes images: completions of each image.",
    lower_bound=1,
)
walks.define_flags()
output_flag.define_flag(
    "A .png (one sheet) or .npz (default: figures/generated.png of the run, "
    "or generated_INDEX_of_COUNT.npz there for a shard)."
)
shard_flag.define_flag("the images")
flag_types.define_path_list(
    "merge",
    None,
    "Instead: join these .npz files, in this order, to --output. They are all "
    "shards of a job of this app, encode or restore, or files with the same "
    "arrays.",
)

# Flags that only apply to some kinds of models.
_LABEL_FLAGS = ("label", "guidance")
_COMPLETION_FLAGS = ("input", "data_dir", "num_completions")


def main():
    """Draws, and writes one sheet or the arrays."""
    config = Config.read(__name__)
    if config.merge:
        merging.run(config)
        return
    if config.shard:
        config.forbid(("trajectory",), "a run without --shard")
    output = output_flag.path(config, "figures/generated.png", (".png", ".npz"))
    input_flags.check_data_dir(config)
    input_flags.check_output(config.input, [output])
    if config.trajectory and not config.trajectory.endswith(".gif"):
        raise guard.WrongFlags(
            f"--trajectory={config.trajectory} must end in .gif"
        )
    guard.load_tensorflow(config.import_module)
    import numpy as np

    from keras_genmodels import plots
    from keras_genmodels.core import files
    from keras_genmodels.core.errors import user_errors
    from keras_genmodels.runs import Workdir

    workdir = Workdir(config.workdir)
    model = workdir.load_model()
    with user_errors():
        what, arrays, picture = drawer_of(config, model)(config, model, workdir)
    if output.suffix == ".png":
        plots.save_png(output, picture())
    else:
        # The mean of a Gaussian, or D(x), may be slightly out of range.
        arrays["image"] = np.clip(arrays["image"], 0, 1).astype(np.float32)
        files.write_arrays(output, **arrays)
    print(f"{shard_flag.title(config)}{what} in {output}")
    if config.trajectory:
        with user_errors():
            num = config.num_images or _NUM_IMAGES
            walks.save(config, model, num, training_labels(workdir))
        print(f"the walk in {config.trajectory}")


def drawer_of(config, model):
    """Returns the function that draws from this kind of model.

    Returns:
        one of the functions below. They take the `Config`, a model and its
        `Workdir`, and return a summary, the arrays of an .npz file, and a
        function that draws the picture.
    """
    from keras_genmodels.training import inputs

    inputs.check_condition(model)
    if walks.walking(model) is None:
        config.forbid(walks.FLAGS, "a denoiser")
    kind = model.condition_kind
    if kind != "label":
        config.forbid(_LABEL_FLAGS, "a model conditioned on labels")
    if kind != "observed":
        config.forbid(_COMPLETION_FLAGS, "a model of quadrants")
    if kind is None:
        return plain_images
    if config.guidance and (config.label == "none" or not model.label_dropout):
        raise guard.WrongFlags(
            "--guidance requires a label and a model trained with "
            "--label_dropout"
        )
    if kind == "observed":
        return completions
    if config.label is None:
        return images_of_each_label
    return images_of_one_label


def plain_images(config, model, workdir):
    """Draws from a VAE or a denoiser."""
    from keras_genmodels.plots.denoiser import only_restores

    if walks.walking(model) is model and only_restores(model):
        print(
            f"This denoiser was trained for noise up to sigma "
            f"{model.sigma_range[1]:g}, which hides no image: expect textures, "
            "unless it is trained with a range such as --sigma=0.02,40."
        )
    return _sheet(config, model, workdir, **walks.settings(config, model))


def images_of_one_label(config, model, workdir):
    """Draws images of --label."""
    label = label_flag.read(config.label, model, training_labels(workdir))
    settings = {"guidance": config.guidance, **walks.settings(config, model)}
    return _sheet(config, model, workdir, label, **settings)


def images_of_each_label(config, model, workdir):
    """Draws images of each label of the training, from the same noise."""
    import numpy as np

    from keras_genmodels.models import batched_sampling
    from keras_genmodels.plots import latent

    count = config.num_images or _NUM_PER_LABEL
    labels = training_labels(workdir) or range(model.num_classes)
    settings = walks.settings(config, model)
    condition, row_seeds = batched_sampling.rows_of_each_label(
        labels, count, config.seed
    )
    part = shard_flag.part_of(
        config, len(condition), batched_sampling.BATCH_SIZE
    )
    images = batched_sampling.sample(
        model,
        condition=condition,
        seed=row_seeds,
        rows=part.rows,
        guidance=config.guidance,
        **settings,
    )
    shared = "starts from the same noise" if settings else "has the same latent"
    run = workdir.find_run()
    names = run and run.label_names
    return (
        f"{part.title}{count} images of each of {len(labels)} labels",
        {
            "image": images,
            "label": np.repeat(np.asarray(labels), count)[part.slice],
            **shard_flag.arrays_of(config, part, workdir.model),
        },
        lambda: latent.label_sheet(
            images.reshape(len(labels), count, *images.shape[1:]),
            names,
            labels,
            shared,
        ),
    )


def training_labels(workdir):
    """Returns the labels that training images have, None if unknown."""
    run = workdir.find_run()
    return run and run.training_labels


def completions(config, model, workdir):
    """Completes the images of --input."""
    from keras_genmodels.core import arrays, seeds
    from keras_genmodels.models import batched_sampling
    from keras_genmodels.plots import latent

    count = config.num_images
    if input_flags.is_split(config.input):
        count = count or _NUM_COMPLETED
    split = input_flags.read_split(config, workdir, model.event_shape).take(
        count
    )
    count, batch_size = len(split.images), batched_sampling.BATCH_SIZE
    part = shard_flag.part_of(config, count, batch_size)
    input_flags.check_range(config.input, split.images[part.slice])
    computed = arrays.rows_of_batches(part.rows, count, batch_size)
    batches = workdir.read_run().evaluation_batches(split, rows=computed)
    truth = arrays.concatenate(batch["image"] for batch in batches)
    images = batched_sampling.complete(
        model,
        truth,
        config.num_completions,
        seed=seeds.row_seeds(config.seed, len(computed), computed.start),
    )
    images, truth = arrays.take_rows((images, truth), part.rows, computed)
    return (
        f"{part.title}{config.num_completions} completions of each of {count} "
        "images",
        {
            "image": images,
            "truth": truth,
            **shard_flag.arrays_of(config, part, workdir.model, split),
        },
        lambda: latent.completion_sheet(truth, images, model.observed_mask),
    )


def _sheet(config, model, workdir, label=None, **settings):
    """Draws --num_images, of one label or without."""
    import numpy as np

    from keras_genmodels import plots
    from keras_genmodels.models import batched_sampling

    count = config.num_images or _NUM_IMAGES
    part = shard_flag.part_of(config, count, batched_sampling.BATCH_SIZE)
    labels = None if label is None else np.full(count, label)
    images = batched_sampling.sample(
        model,
        count if label is None else None,
        labels,
        seed=config.seed,
        rows=part.rows,
        **settings,
    )
    labels = {} if label is None else {"label": labels[part.slice]}
    return (
        f"{part.title}{count} images",
        {
            "image": images,
            **labels,
            **shard_flag.arrays_of(config, part, workdir.model),
        },
        lambda: plots.image_grid(images),
    )


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
