"""Data sets of TensorFlow Datasets: prepared, read, and refused in a line."""

import random
import time
import urllib.error

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_genmodels import datasets
from keras_genmodels.core import memory
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import tfds_images


class GenmodelsShapes(tfds.core.GeneratorBasedBuilder):
    """Twelve 0/1 images of different sizes, without labels and test split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 1))}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for key in range(12):
            yield key, {"image": np.ones((4 + key % 2, 4, 1), np.uint8)}


class GenmodelsValidated(GenmodelsShapes):
    """Images of one size, with the splits train and validation."""

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(4),
            "validation": self._generate_examples(9),
        }

    def _generate_examples(self, value):
        for key in range(12):
            yield key, {"image": np.full((3, 5, 1), value, np.uint8)}


class GenmodelsDeep(GenmodelsShapes):
    """16-bit images of 12 significant bits."""

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 4, 1), dtype=np.uint16)
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _generate_examples(self):
        for key in range(20):
            image = np.full((4, 4, 1), 2047, np.uint16)
            image[key % 4] += 1
            yield key, {"image": image}


class GenmodelsLabelled(GenmodelsShapes):
    """Images of different sizes with labels."""

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 1)),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _generate_examples(self):
        for key in range(12):
            image = np.full((4 + key % 2, 4, 1), 9 * key, np.uint8)
            yield key, {"image": image, "label": key % 3}


class GenmodelsTexts(GenmodelsShapes):
    """No images."""

    def _info(self):
        features = {"text": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _generate_examples(self):
        yield 0, {"text": "none"}


@pytest.fixture(scope="module")
def small_dir(tmp_path_factory):
    """A folder in which `genmodels_validated` is prepared."""
    folder = tmp_path_factory.mktemp("small")
    datasets.load("genmodels_validated", data_dir=folder)
    return folder


def test_image_size_resizes(small_dir):
    for size, shape in ((2, (2, 2, 1)), ((4, 2), (4, 2, 1)), (9, (9, 9, 1))):
        dataset = datasets.load(
            "genmodels_validated", data_dir=small_dir, image_size=size
        )
        assert dataset.image_shape == shape
        assert dataset.train.images.dtype == np.uint8
        assert np.all(dataset.test.images == 9)


@pytest.mark.slow
def test_two_processes_may_prepare_at_once(tmp_path, monkeypatch):
    prepare_splits = GenmodelsValidated._split_generators
    folders = []

    def overtaken(self, dl_manager):
        folders.append(self.data_dir)
        if len(folders) == 1:
            random.seed(0)
            datasets.load("genmodels_validated", data_dir=tmp_path)
        return prepare_splits(self, dl_manager)

    monkeypatch.setattr(GenmodelsValidated, "_split_generators", overtaken)
    random.seed(0)
    dataset = datasets.load("genmodels_validated", data_dir=tmp_path)
    assert len(dataset.train.images) == 11
    assert len(folders) == 2 and folders[0] != folders[1]
    versions = tmp_path.glob("genmodels_validated/*")
    assert [path.name for path in versions] == ["1.0.0"]


def test_preparing_leaves_the_random_state_alone(tmp_path):
    random.seed(3)
    datasets.load("genmodels_shapes", data_dir=tmp_path, image_size=4)
    assert random.random() == random.Random(3).random()


def test_preparing_fails_in_one_line(tmp_path):
    (tmp_path / "genmodels_validated").write_text("in the way")
    message = "could not prepare genmodels_validated in"
    with pytest.raises(UserError, match=message) as info:
        datasets.load("genmodels_validated", data_dir=tmp_path)
    assert "\n" not in str(info.value)


def test_an_incomplete_folder_is_named(tmp_path):
    folder = tmp_path / "genmodels_validated" / "1.0.0"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=f"{folder}: remove what is there"):
        datasets.load("genmodels_validated", data_dir=tmp_path)


def test_tfds_is_not_prepared_in_a_folder_of_pictures(tmp_path):
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "1.JPG").write_bytes(b"a picture")
    with pytest.raises(UserError, match=r"holds pictures.*image_folder"):
        datasets.load("genmodels_validated", data_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]


def test_16_bit_images_are_scaled_by_the_white_level(tmp_path):
    deep = datasets.load("genmodels_deep", data_dir=tmp_path, white_level=4095)
    assert deep.train.images.dtype == np.float32
    expected = np.array([2047, 2048]) / 4095
    np.testing.assert_allclose(np.unique(deep.train.images), expected)
    small = datasets.load("genmodels_deep", data_dir=tmp_path, image_size=2)
    np.testing.assert_allclose(small.train.images, 2047.5 / 65535, rtol=1e-3)
    with pytest.raises(UserError, match="above white_level=99"):
        datasets.load("genmodels_deep", data_dir=tmp_path, white_level=99)


def test_without_network_the_message_says_how_to_get_the_data(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tfds_images, "_any_answers", lambda addresses: False)
    with pytest.raises(UserError) as info:
        datasets.load("mnist", data_dir=tmp_path)
    for part in (f"{tmp_path}/mnist/", "tfds build mnist", "data_dir"):
        assert part in str(info.value)
    assert "\n" not in str(info.value)


def test_the_network_probe_keeps_its_time_limit(monkeypatch):
    def hang(request, timeout):
        time.sleep(20)

    assert tfds_images._PROBE_SECONDS < 5
    monkeypatch.setattr(tfds_images.urllib.request, "urlopen", hang)
    monkeypatch.setattr(tfds_images, "_PROBE_SECONDS", 0.5)
    start = time.monotonic()
    assert not tfds_images._any_answers([f"https://host{i}/" for i in range(4)])
    # One wait for all, not one for each.
    assert time.monotonic() - start < 1.5


def test_one_answer_is_enough_for_the_network_probe(monkeypatch):
    def one_refuses_to_serve(request, timeout):
        if "dead" in request.full_url:
            raise urllib.error.URLError("unknown host")
        raise urllib.error.HTTPError(request.full_url, 403, "no", {}, None)

    monkeypatch.setattr(
        tfds_images.urllib.request, "urlopen", one_refuses_to_serve
    )
    assert tfds_images._any_answers(["https://dead/", "https://alive/"])
    assert not tfds_images._any_answers(["https://dead/", "https://dead2/"])


@pytest.mark.parametrize("name", ["fashon_mnist", "no such", "", "../x"])
def test_an_unknown_name_is_refused_with_suggestions(tmp_path, name):
    with pytest.raises(UserError, match="choose digits, image_folder") as info:
        datasets.load(name, data_dir=tmp_path)
    if name == "fashon_mnist":
        assert "did you mean fashion_mnist" in str(info.value)


def test_an_unknown_version_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"mnist:9.9.9: TFDS says: .*3.0.1"):
        datasets.load("mnist:9.9.9", data_dir=tmp_path)


def test_images_of_different_sizes_need_an_image_size(tmp_path):
    with pytest.raises(UserError, match=r"not all of one size.*image_size"):
        datasets.load("genmodels_shapes", data_dir=tmp_path)
    dataset = datasets.load("genmodels_shapes", data_dir=tmp_path, image_size=4)
    assert dataset.train.labels is None and dataset.label_names is None
    # A tenth of 12 is the test, a twentieth of the rest the validation.
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split.images) for split in splits] == [10, 1, 1]
    # Stored as 0 and 1.
    assert all(np.all(split.images == 255) for split in splits)


def test_the_validation_split_stands_in_for_a_test_split(small_dir):
    dataset = datasets.load("genmodels_validated", data_dir=small_dir)
    assert dataset.image_shape == (3, 5, 1)
    assert np.all(dataset.train.images == 4)
    assert np.all(dataset.validation.images == 4)
    assert np.all(dataset.test.images == 9)


def test_a_data_set_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"genmodels_texts .*found: text: Text"):
        datasets.load("genmodels_texts", data_dir=tmp_path)


def test_images_that_do_not_fit_in_memory_are_refused(small_dir, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2 * 24 * 15 - 1)
    arguments = {"data_dir": small_dir, "in_memory": True}
    with pytest.raises(UserError, match=r"24 images of 3x5x1 .*image_size"):
        datasets.load("genmodels_validated", **arguments)
    datasets.load("genmodels_validated", image_size=2, **arguments)


def test_images_on_disk_are_those_in_memory(tmp_path, capsys):
    """Also binary ones, and those of which only the reading knows the label."""
    arguments = {"data_dir": tmp_path, "image_size": 4}
    for name in ("genmodels_shapes", "genmodels_labelled"):
        whole = datasets.load(name, **arguments, in_memory=True)
        for _ in range(2):
            data = datasets.load(name, **arguments, in_memory=False)
            assert data.fingerprint() == whole.fingerprint()
            np.testing.assert_array_equal(data.train.labels, whole.train.labels)
    assert capsys.readouterr().out.count("Preparing") == 2
