"""A denoiser of a user, in one file outside of the package, works everywhere.

It follows the recipe of docs/extending.md.
"""

import dataclasses
import importlib
import textwrap

import numpy as np
import pytest
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels import datasets, runs, serving
from keras_genmodels.export import export
from keras_genmodels.export.replay import replay
from keras_genmodels.runs import evaluate

MODULE = '''
    """Soft thresholding of cosine transform coefficients."""

    import keras
    import numpy as np
    import scipy.fft
    import tensorflow as tf

    from keras_genmodels.core.arrays import as_float
    from keras_genmodels.core.events import event_batches, per_event
    from keras_genmodels.denoisers import AdaptedDenoiser


    @keras.saving.register_keras_serializable("my_denoisers")
    class CosineThreshold(AdaptedDenoiser):
        """D(x, sigma) = m + C' soft(C (x - m), threshold sigma).

        C is the orthonormal cosine transform of an image, m the mean image.

        #### References

        Donoho (1995), De-noising by soft-thresholding, IEEE Transactions on
        Information Theory 41.
        """

        def __init__(self, *, threshold=1.0, name=None):
            super().__init__(name=name)
            self.threshold = threshold

        def adapt(self, data):
            images = np.concatenate(list(event_batches(data)))
            images = as_float(images, "float64")
            values = {"mean": images.mean(0).astype(self._float_dtype)}
            total_variance = float(images.var(0).sum())
            self._set_data(images.shape[1:], total_variance, values)

        def _denoise(self, x, sigma):
            mean = tf.cast(self._mean, x.dtype)
            rows, columns = (
                tf.cast(scipy.fft.dct(np.eye(n), axis=0, norm="ortho"), x.dtype)
                for n in self.event_shape[:2]
            )
            y = tf.einsum("ih,bhwc,jw->bijc", rows, x - mean, columns)
            limit = self.threshold * per_event(sigma, x)
            y = tf.sign(y) * tf.maximum(tf.abs(y) - limit, 0)
            return mean + tf.einsum("ih,bijc,jw->bhwc", rows, y, columns)
'''


@pytest.fixture(scope="module")
def kind(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "my_denoisers.py").write_text(textwrap.dedent(MODULE))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(folder)
        yield importlib.import_module("my_denoisers").CosineThreshold


@pytest.fixture(scope="module")
def data():
    """Returns few of the digits."""
    data = datasets.load("digits")
    train, test = data.train.take(300), data.test.take(60)
    return dataclasses.replace(data, train=train, test=test)


@pytest.fixture(scope="module")
def run(kind, data, tmp_path_factory):
    """Returns the workdir of a finished run, and its model."""
    workdir = runs.Workdir(tmp_path_factory.mktemp("runs") / "run")
    model = kind(threshold=0.7)
    runs.train(model, data, workdir, verbose=0)
    return workdir, model


def noisy(data, sigma=0.3, num=20):
    images = data.test.images[:num] / np.float32(255)
    return images, kgm.operators.gaussian(images, sigma, seed=0)


def test_a_run_is_saved_and_loaded(run, kind, data):
    workdir, model = run
    assert workdir.read_run().kind == "CosineThreshold"
    assert {path.name for path in workdir.figures.iterdir()} >= {
        *("denoising.png", "samples.png")
    }
    copy = runs.load_model(workdir)
    assert isinstance(copy, kind) and copy.threshold == 0.7
    _, x = noisy(data)
    np.testing.assert_array_equal(copy.denoise(x, 0.3), model.denoise(x, 0.3))


def test_it_restores_and_generates(run, data):
    _, model = run
    images, x = noisy(data)
    found = kgm.restore(model, x, sigma=0.3, step_size=1.0, max_steps=1)
    assert np.mean((found.x - images) ** 2) < 0.6 * np.mean((x - images) ** 2)
    samples = model.sample(3, seed=0, num_steps=5)
    assert samples.shape == (3, 8, 8, 1)


# The run ends with a brief evaluation; this is the full one.
@pytest.mark.slow
def test_its_run_is_evaluated(run, data):
    workdir, _ = run
    settings = evaluate.Settings(num_images=60, classifier_steps=20)
    found = evaluate.evaluate(workdir, data, settings)
    assert {"denoising", "attractors", "samples"} <= found["sections"].keys()


@pytest.mark.slow
def test_it_is_exported_and_served(run, data, tmp_path, in_process):
    workdir, model = run
    version = export(
        runs.load_model(workdir), tmp_path, "cosine", num_steps=4, warmup=False
    )
    _, x = noisy(data, num=3)
    requests = [
        ("denoise", {"image": x.numpy(), "sigma": np.full(3, 0.3, "f4")}),
        ("generate", {"seed": np.int32([[0, 1], [0, 2]])}),
    ]
    denoised, samples = replay(version, requests)
    np.testing.assert_allclose(
        denoised["denoised"], model.denoise(x, 0.3), atol=1e-5
    )
    expected = model.sample(2, seed=tf.constant([[0, 1], [0, 2]]), num_steps=4)
    np.testing.assert_allclose(samples["image"], expected, atol=1e-5)
    with (
        serving.Server(tmp_path, port=0) as server,
        serving.Client(server.address, "cosine") as client,
    ):
        np.testing.assert_allclose(
            client.denoise(x.numpy(), 0.3), denoised["denoised"], atol=1e-5
        )
        found = client.generate(seed=[[0, 1], [0, 2]])
        np.testing.assert_allclose(found, expected, atol=1e-5)
