"""Small trainings on several replicas, to be compared with one."""

import contextlib
import io
import os
import pathlib
import runpy
import sys
import tempfile
from unittest import mock

import keras
import numpy as np
import PIL.Image

import keras_genmodels as kgm
from keras_genmodels import datasets, runs
from keras_genmodels.core import disk_arrays
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import storage
from keras_genmodels.runs.workdir import Workdir
from keras_genmodels.training import fit, strategy
from support import small_priors, small_vaes
from support.app_runs import ROOT
from support.cheap_training import without_xla_and_figures
from support.image_batches import image_batches
from support.tiny_data import tiny_data

SHAPE = small_vaes.SHAPE


def _images(n, seed):
    images = np.random.default_rng(seed).random((n, *SHAPE))
    labels = np.arange(n, dtype="int32") % 3
    return datasets.Split((images > 0.5).astype("float32"), labels)


def _training_images(is_on_disk):
    """Returns images to train on, which are the same in memory and on disk."""
    split = _images(60, 0)
    if not is_on_disk:
        return split
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, split.images)
        file.flush()
        known = disk_arrays.statistics_of(split.images)
        return datasets.Split(storage.open_npy(file.name, known), split.labels)


def _vae():
    return small_vaes.make_vae(num_importance_samples=3, rate_warmup_steps=20)


def _vae_with_free_bits():
    return small_vaes.make_vae(free_bits=0.05)


def _vae_with_vamp_prior():
    model = small_vaes.make_vae(prior=small_priors.make_prior("vamp"))
    model.adapt(_images(60, 0).images)
    return model


def _autoencoder():
    model = kgm.DenoisingAutoencoder(
        kgm.mlp_denoiser(SHAPE, hidden_sizes=(8,), num_classes=3),
        num_noise_draws=2,
        num_classes=3,
        label_dropout=0.3,
    )
    model.adapt(_images(60, 0).images)
    return model


# Functions that make a model, and of a batch to its input.
KINDS = {
    "importance_weighted": (_vae, lambda batch: batch["image"]),
    "free_bits": (_vae_with_free_bits, lambda batch: batch["image"]),
    "vamp": (_vae_with_vamp_prior, lambda batch: batch["image"]),
    "conditional_denoiser": (
        _autoencoder,
        lambda batch: {"image": batch["image"], "condition": batch["label"]},
    ),
}


def _reader(images, as_input, parts):
    """Returns the `batches` of `fit`, which note into how many parts."""

    def read(step, part):
        parts.append(part.count)
        return datasets.training_batches(
            images, batch_size=12, seed=0, start_step=step, part=part
        ).map(as_input)

    return read


def train(kinds, name, workdir=None, **changes):
    """Trains models in float64.

    Args:
        kinds: names of `KINDS`.
        name: of the strategy.
        workdir: folder of the runs; by default a temporary one.
        **changes: of the `fit.Options`.

    Returns:
        dict of each kind to its weights and its report, with the number of
        `parts` into which batches were divided before they were read.
    """
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    built = strategy.build(name)
    workdir = pathlib.Path(workdir or tempfile.mkdtemp())
    images = _training_images(is_on_disk=name == "multi_worker")
    found = {}
    for kind in kinds:
        keras.utils.set_random_seed(0)
        make, as_input = KINDS[kind]
        model = make()
        options = {
            "epochs": 5,
            "steps_per_epoch": 20,
            "gradient_clip_norm": 1.0,
            "ema_momentum": 0.9,
            "checkpoint_every": 8,
            "jit_compile": False,
            "strategy": built,
            **changes,
        }
        parts = []
        report = fit.fit(
            model,
            Workdir(workdir / kind),
            fit.Options(**options),
            batches=_reader(images, as_input, parts),
            # The last batch leaves replicas without rows.
            validation=datasets.evaluation_batches(
                _images(15, 1), batch_size=7, seed=0
            ).map(as_input),
            verbose=0,
        )
        del report["training_seconds"]
        report["parts"] = parts
        found[kind] = model.get_weights(), report
    return found


def train_on_patches(*names):
    """Trains a network of any image size on patches, in float64.

    Args:
        *names: of strategies.

    Returns:
        list of the weights after three steps with each strategy.
    """
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        data = datasets.load(
            "image_folder",
            data_dir=_save_pictures(folder),
            patch_size=4,
            patches_per_epoch=18,
            in_memory=True,
        )
        for name in names:
            keras.utils.set_random_seed(0)
            model = kgm.DenoisingAutoencoder(
                kgm.unet((None, None, 1), filters=(4, 4), blocks=1),
                sigma=(0.1, 0.5),
            )
            model.adapt(data.train.for_statistics())
            fit.fit(
                model,
                Workdir(pathlib.Path(folder, name)),
                fit.Options(1, 3, jit_compile=False, strategy=name),
                batches=image_batches(data.train, 6),
                validation=None,
                verbose=0,
            )
            found.append(model.get_weights())
    return found


def _save_pictures(folder):
    """Writes pictures of several sizes, and returns their folder."""
    path = pathlib.Path(folder, "pictures")
    path.mkdir()
    rng = np.random.default_rng(0)
    for i, size in enumerate([(5, 9), (12, 7), (6, 6), (8, 5)]):
        pixels = rng.integers(0, 256, size, np.uint8)
        PIL.Image.fromarray(pixels).save(path / f"{i}.png")
    return path


def run_and_resume(name, workdir):
    """Makes runs in float64, and goes on with one of them on one device.

    Args:
        name: of the strategy of the first epoch.
        workdir: path of the run.

    Returns:
        the metrics and the weights after one epoch and after two.
    """
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    found = []
    for epochs, devices in ((1, name), (2, "one_device")):
        keras.utils.set_random_seed(0)
        with without_xla_and_figures():
            metrics = runs.train(
                small_vaes.make_vae(num_importance_samples=2),
                tiny_data(60, 8),
                workdir,
                epochs=epochs,
                batch_size=12,
                learning_rate_schedule="constant",
                jit_compile=False,
                strategy=devices,
                verbose=0,
            )
        weights = runs.load_model(workdir).get_weights()
        found.append((metrics["test"], weights))
    return found


def accumulated():
    """Returns the error of replicas that accumulate gradients."""
    with strategy.build("mirrored").scope():
        model = small_vaes.make_vae()
        model.compile(
            keras.optimizers.SGD(0.1, gradient_accumulation_steps=3),
            jit_compile=False,
        )
    try:
        model.fit(_images(24, 0).images, batch_size=12, verbose=0)
    except ValueError as error:
        return str(error)
    return ""


def run_app(app, *args):
    """Runs an app in this process, and returns its status (None: success)."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = [app, *args]
    try:
        runpy.run_module(f"apps.{app}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code
    return None


def wait_alone():
    """Returns the error of a worker whose others do not start."""
    with (
        mock.patch.object(strategy, "START_TIMEOUT", 4),
        mock.patch.object(strategy, "_PATIENCE", 0.5),
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        try:
            strategy.build("multi_worker")
        except ValueError as error:
            return str(error), printed.getvalue()
    return None, printed.getvalue()


def first_step_of_keras(name):
    """Returns weights after one step of Keras' own `fit`, and the losses.

    The rows of the batch cannot be shared equally.
    """
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    images = _images(10, 0).images.astype("float64")
    with strategy.build(name).scope():
        model = small_vaes.make_vae()
        model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    before = model.evaluate(images, batch_size=4, verbose=0)
    model.fit(images, batch_size=10, verbose=0, shuffle=False)
    return model.get_weights(), before


def metrics_of_keras(name):
    """Returns all metrics of Keras' own `fit`, as a dict of lists."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    with strategy.build(name).scope():
        model = small_vaes.make_vae()
        model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    batches = datasets.training_batches(
        _images(60, 0), batch_size=12, seed=0
    ).map(lambda batch: batch["image"])
    return model.fit(batches, steps_per_epoch=2, epochs=2, verbose=0).history


def refusals(*wrong):
    """Returns the messages of runs with wrong options on all devices."""
    data = datasets.load("digits")
    messages = []
    for options in wrong:
        with tempfile.TemporaryDirectory() as workdir:
            try:
                runs.train(
                    small_vaes.make_vae(),
                    data,
                    workdir,
                    strategy="mirrored",
                    **options,
                )
            except UserError as error:
                messages.append(str(error))
            assert not list(pathlib.Path(workdir).iterdir())
    return messages
