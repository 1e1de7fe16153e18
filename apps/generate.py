"""Draws images from a trained model.

  python -m apps.generate --workdir=DIR --seed=1 --output=grid.png
  python -m apps.generate --workdir=DIR --label=3 --guidance=0.5
  python -m apps.generate --workdir=DIR --input=PICTURES --num_completions=4

A denoiser walks from noise to images in --num_steps steps. A conditional
model of labels draws those of --label, or else a row for each label, with the
same latent in each column; one that completes images draws several
completions of each image of --input, beside what was given and the truth.

An --output that ends in .npz holds them as an array `image`, float32 in [0, 1]
[num_images, height, width, channels], with the `label` [num_images] of each;
completions are [num_images, num_completions, height, width, channels], with
the `truth` [num_images, height, width, channels].
"""

import functools

from absl import flags

from .cli import common_flags, guard, input_flags

FLAGS = flags.FLAGS

# So many images are made at once.
_PART = 256
_NUM_IMAGES = 64
_OF_EACH_LABEL = 10
_COMPLETED = 8

common_flags.define_path("workdir", "runs/vae", "A finished run.")
flags.DEFINE_integer(
    "num_images",
    None,
    f"How many images (default: {_NUM_IMAGES}; of each label, without "
    f"--label, {_OF_EACH_LABEL}; to complete, {_COMPLETED} of a split, all of "
    "your own).",
    lower_bound=1,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Image i depends on the seed and i alone.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
common_flags.define_label("Of a model of labels: draw this one;")
flags.DEFINE_float(
    "guidance",
    0.0,
    "Of a model trained with --label_dropout: how much the label is "
    "strengthened. The decoder's parameters (for bernoulli the logits) become "
    "1 + guidance times those with the label less guidance times those "
    "without.",
    lower_bound=0,
)
input_flags.define_flags(
    " Of a model that completes images: those whose known part is given."
)
flags.DEFINE_integer(
    "num_completions",
    6,
    "Of a model that completes images: of each image.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "num_steps", 100, "Of a denoiser: steps of the walk.", lower_bound=1
)
flags.DEFINE_float(
    "stochasticity",
    0.0,
    "Of a denoiser: how much noise is put back on the way, in [0, 1).",
    lower_bound=0,
    upper_bound=0.999,
)
common_flags.define_levels(
    "sigma",
    None,
    "Of a denoiser: LOWEST,HIGHEST noise level of the walk (default: the "
    "range that it was made for).",
    least=2,
)
common_flags.define_path(
    "output",
    None,
    "A .png (one sheet) or .npz (default: figures/generated.png of the run).",
)

# Flags that other kinds of models refuse.
_OF_DENOISER = ("num_steps", "stochasticity", "sigma")
_OF_LABELS = ("label", "guidance")
_OF_COMPLETION = ("input", "data_dir", "num_completions")


def main():
    """Draws, and writes one sheet or the arrays."""
    workdir, output = common_flags.workdir_and_output(
        "figures/generated.png", (".png", ".npz")
    )
    import numpy as np

    from keras_genmodels import plots
    from keras_genmodels.core import files

    model = workdir.load_model()
    what, arrays, picture = drawer_of(model)(model, workdir)
    if output.suffix == ".png":
        plots.save_png(output, picture())
    else:
        # A Gaussian's mean or a walk's end may lie a little outside.
        arrays["image"] = np.clip(arrays["image"], 0, 1).astype(np.float32)
        files.write_arrays(output, **arrays)
    print(f"{what} in {output}")


def drawer_of(model):
    """Gives the function that draws from such a model.

    Returns:
        one of the functions below. They take a model and its `Workdir` and
        give what was drawn in words, the arrays of an .npz file, and a
        function that makes the picture.
    """
    from keras_genmodels.denoisers import Denoiser
    from keras_genmodels.models import ConditionalVAE
    from keras_genmodels.training import inputs

    inputs.check_condition(model)
    if not isinstance(model, Denoiser):
        guard.refuse(_OF_DENOISER, "a denoiser")
    conditional = isinstance(model, ConditionalVAE)
    if not conditional or model.num_labels is None:
        guard.refuse(_OF_LABELS, "a conditional model of labels")
    if not conditional or model.known is None:
        guard.refuse(_OF_COMPLETION, "a conditional model of quadrants")
    if not conditional:
        return plain_images
    if FLAGS.guidance and (FLAGS.label == "none" or not model.label_dropout):
        raise guard.WrongFlags(
            "--guidance needs a label, and a model trained with --label_dropout"
        )
    if model.known is not None:
        return completions
    if FLAGS.label is None:
        return images_of_each_label
    return images_of_one_label


def plain_images(model, workdir):
    """Draws from a VAE or a denoiser."""
    return _sheet(sampler(model))


def images_of_one_label(model, workdir):
    """Draws from a model of labels, of --label."""
    label = common_flags.read_label(model)

    def draw(num, seed):
        given = {"num": num} if label is None else {"condition": [label] * num}
        return model.sample(**given, seed=seed, guidance=FLAGS.guidance)

    return _sheet(draw, **({} if label is None else {"label": label}))


def images_of_each_label(model, workdir):
    """Draws from a model of labels, the same latents for each."""
    import numpy as np

    from keras_genmodels.core import files
    from keras_genmodels.models import conditional_sampling
    from keras_genmodels.plots import latent

    count = FLAGS.num_images or _OF_EACH_LABEL
    images = conditional_sampling.sample_each_label(
        model, count, seed=FLAGS.seed, guidance=FLAGS.guidance
    )
    names = (files.read_json(workdir.metrics) or {}).get("label_names")
    arrays = {
        "image": images.reshape(-1, *images.shape[2:]),
        "label": np.repeat(np.arange(model.num_labels), count),
    }
    return (
        f"{count} images of each of {model.num_labels} labels",
        arrays,
        lambda: latent.label_sheet(images, names),
    )


def completions(model, workdir):
    """Completes the images of --input."""
    import numpy as np

    from keras_genmodels.core import arrays
    from keras_genmodels.core.errors import UserError
    from keras_genmodels.models import conditional_sampling
    from keras_genmodels.plots import latent
    from keras_genmodels.training import inputs

    count = FLAGS.num_images
    if input_flags.of_split():
        count = count or _COMPLETED
    split = input_flags.read_split(workdir, model.event_shape)
    split = input_flags.first_of(split, count)
    if split.images.dtype != np.uint8 and not (
        0 <= split.images.min() <= split.images.max() <= 1
    ):
        raise UserError(
            f"{FLAGS.input} has pixels outside of [0, 1], and what is given "
            "is kept as it is: clip them"
        )
    batches = inputs.as_trained(split, workdir)
    truth = arrays.concatenate(batch["image"] for batch in batches)
    images = conditional_sampling.complete(
        model, truth, FLAGS.num_completions, seed=FLAGS.seed
    )
    return (
        f"{FLAGS.num_completions} completions of each of {len(truth)} images",
        {"image": images, "truth": truth},
        lambda: latent.completion_sheet(truth, images, model.known),
    )


def _sheet(draw, **same_for_all):
    """Draws --num_images by a function of a number and seeds."""
    import numpy as np

    from keras_genmodels import plots
    from keras_genmodels.core import arrays, seeds

    count = FLAGS.num_images or _NUM_IMAGES
    images = arrays.map_batches(
        lambda rows: draw(len(rows), seed=rows),
        seeds.row_seeds(FLAGS.seed, count),
        batch_size=_PART,
    )
    same = {k: np.full(count, value) for k, value in same_for_all.items()}
    return (
        f"{count} images",
        {"image": images, **same},
        lambda: plots.image_grid(images),
    )


def sampler(model):
    """Gives the function of a number and seeds that draws images."""
    from keras_genmodels.denoisers import Denoiser
    from keras_genmodels.sampling.restoration import generate

    if not isinstance(model, Denoiser):
        return model.sample
    lowest, highest = model.sigma_range
    if lowest == highest:
        guard.refuse(
            ("stochasticity", "sigma"),
            "a denoiser of a range of noise levels (this one knows "
            f"{lowest:g})",
        )
    sigma_min, sigma_max = FLAGS.sigma or (None, None)
    return functools.partial(
        generate,
        model,
        model.event_shape,
        num_steps=FLAGS.num_steps,
        stochasticity=FLAGS.stochasticity,
        sigma_max=sigma_max,
        sigma_min=sigma_min,
    )


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
