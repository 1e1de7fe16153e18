import random
import time
import urllib.error

import numpy as np
import PIL.Image
import pytest
import scipy.special
import sklearn.datasets
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_genmodels import datasets
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import batches as _batches
from keras_genmodels.datasets import image_files, tfds_images


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
def digits_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    datasets.load("digits", data_dir=folder)
    return folder


def some_split(count=10, shape=(2, 3, 1), labelled=True):
    """A split whose image i is grey value i throughout."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, *shape)
    )
    labels = np.arange(count, dtype=np.int32) if labelled else None
    return datasets.Split(images.copy(), labels)


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def save_picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)


# Batches.


@pytest.mark.parametrize("batch_size", [1, 3, 10, 27])
def test_every_image_once_an_epoch(batch_size):
    batches = datasets.training_batches(
        some_split(), batch_size=batch_size, seed=3
    )
    drawn = take(batches, -(-200 // batch_size))
    labels = np.concatenate([batch["label"] for batch in drawn])[:200]
    orders = labels.reshape(-1, 10)
    np.testing.assert_array_equal(
        np.sort(orders), np.tile(np.arange(10), (20, 1))
    )
    assert len({tuple(order) for order in orders}) == 20
    images = np.concatenate([batch["image"] for batch in drawn])[:200]
    expected = np.broadcast_to(
        labels.astype(np.float32)[:, None, None, None] / 255, images.shape
    )
    np.testing.assert_array_equal(images, expected)


def test_the_order_depends_on_the_seed_and_not_on_the_batch_size():
    def order(seed, batch_size):
        batches = datasets.training_batches(
            some_split(30), batch_size=batch_size, seed=seed
        )
        drawn = take(batches, 60 // batch_size)
        return [label for batch in drawn for label in batch["label"]]

    assert order(0, 4) == order(0, 12)
    assert order(0, 4) != order(1, 4)


def test_orders_look_random():
    count, epochs, batch_size = 60000, 20, 128
    positions = tf.range(count, dtype=tf.int64)
    seed = _batches.stream_seed(0, _batches.ORDER)
    orders = np.stack(
        [
            _batches.shuffled(positions + epoch * count, count, seed)
            for epoch in range(epochs)
        ]
    )
    places = np.argsort(orders)
    correlations = [
        np.corrcoef(*places[i : i + 2])[0, 1] for i in range(epochs - 1)
    ]
    # Standard error count**-0.5; TF's own index_shuffle has 0.1 to 0.4 here.
    assert np.abs(correlations).max() < 5 / np.sqrt(count)
    # Neighbours share a batch as often as chance has it: 5 standard errors.
    together = np.sum(np.diff(places // batch_size, axis=1) == 0)
    expected = epochs * batch_size
    assert abs(together - expected) < 5 * np.sqrt(expected)


def test_orders_do_not_repeat_after_256_epochs():
    batches = datasets.training_batches(some_split(16), batch_size=16, seed=0)
    orders = [tuple(batch["label"]) for batch in take(batches, 600)]
    assert len(set(orders)) == 600


@pytest.mark.parametrize("binarization", datasets.BINARIZATIONS)
def test_start_step_gives_the_later_batches(binarization):
    split = datasets.Split(
        np.random.default_rng(0).integers(0, 256, (10, 5, 3, 1), np.uint8),
        np.arange(10, dtype=np.int32),
    )
    options = dict(batch_size=4, seed=7, binarization=binarization)
    whole = take(datasets.training_batches(split, **options), 12)
    resumed = take(datasets.training_batches(split, start_step=7, **options), 5)
    for batch, again in zip(whole[7:], resumed, strict=True):
        np.testing.assert_array_equal(batch["image"], again["image"])
        np.testing.assert_array_equal(batch["label"], again["label"])


def test_batches_have_static_shapes_and_no_end():
    split = some_split(labelled=False)
    batches = datasets.training_batches(split, batch_size=4, seed=0)
    assert batches.element_spec == {
        "image": tf.TensorSpec((4, 2, 3, 1), tf.float32)
    }
    assert batches.cardinality() == tf.data.INFINITE_CARDINALITY


def test_dynamic_binarization_draws_the_grey_value():
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    split = datasets.Split(np.repeat(grey, 8, axis=0), None)
    batches = datasets.training_batches(
        split, batch_size=64, seed=1, binarization="dynamic"
    )
    drawn = np.concatenate([batch["image"] for batch in take(batches, 200)])
    assert set(np.unique(drawn)) == {0.0, 1.0}
    mean = drawn.mean(axis=0).ravel()
    expected = np.arange(256) / 255
    assert mean[0] == 0 and mean[255] == 1
    error = np.sqrt(expected * (1 - expected) / len(drawn))[1:255]
    scores = (mean - expected)[1:255] / error
    # Both hold by chance for 254 standard normal numbers.
    assert np.abs(scores).max() < 4.5
    assert 0.7 < np.mean(scores**2) < 1.4
    # Two pixels are drawn from one random word: they must not correlate.
    pixels = drawn.reshape(len(drawn), -1)[:, 128:130].T
    assert abs(np.corrcoef(pixels)[0, 1]) < 5 / np.sqrt(len(drawn))


def test_dynamic_binarization_changes_between_epochs():
    split = datasets.Split(np.full((4, 8, 8, 1), 128, np.uint8), None)
    batches = datasets.training_batches(
        split, batch_size=4, seed=0, binarization="dynamic"
    )
    first, second = take(batches, 2)
    assert np.any(first["image"] != second["image"])
    assert np.any(first["image"][0] != first["image"][1])


def test_threshold_binarization():
    images = np.array([0, 127, 128, 255], np.uint8).reshape(4, 1, 1, 1)
    batch = next(
        iter(
            datasets.evaluation_batches(
                datasets.Split(images, None),
                batch_size=4,
                seed=0,
                binarization="threshold",
            )
        )
    )
    np.testing.assert_array_equal(batch["image"].numpy().ravel(), [0, 0, 1, 1])
    half = datasets.Split(np.full((1, 1, 1, 1), 0.5, np.float32), None)
    batches = datasets.training_batches(
        half, batch_size=1, seed=0, binarization="threshold"
    )
    assert take(batches, 1)[0]["image"].item() == 1


@pytest.mark.parametrize("binarization", datasets.BINARIZATIONS)
def test_evaluation_does_not_depend_on_the_batch_size(binarization):
    split = datasets.Split(
        np.random.default_rng(0).integers(0, 256, (150, 3, 3, 1), np.uint8),
        np.arange(150, dtype=np.int32),
    )
    passes = []
    for batch_size in (1, 7, 64, 100, 150, 400):
        batches = datasets.evaluation_batches(
            split, batch_size=batch_size, seed=2, binarization=binarization
        )
        drawn = take(batches, -1)
        assert len(drawn) == batches.cardinality() == -(-150 // batch_size)
        assert all(len(b["image"]) == batch_size for b in drawn[:-1])
        labels = np.concatenate([batch["label"] for batch in drawn])
        np.testing.assert_array_equal(labels, split.labels)
        passes.append(np.concatenate([batch["image"] for batch in drawn]))
    for images in passes[1:]:
        np.testing.assert_array_equal(images, passes[0])
    if binarization == "none":
        expected = split.images / np.float32(255)
        np.testing.assert_array_equal(passes[0], expected)


def test_float_images_pass_unchanged():
    images = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 2, 2, 1)
    split = datasets.Split(images, None)
    batches = datasets.evaluation_batches(split, batch_size=3, seed=0)
    np.testing.assert_array_equal(take(batches, 1)[0]["image"], images)


@pytest.mark.parametrize(
    "batches", [datasets.training_batches, datasets.evaluation_batches]
)
@pytest.mark.parametrize(
    "options, message",
    [
        (dict(batch_size=0, seed=0), "batch_size must be >= 1, got 0"),
        (dict(batch_size=1, seed=-1), r"seed must be in \[0, 2\*\*31\)"),
        (
            dict(batch_size=1, seed=0, binarization="static"),
            "binarization must be one of .* got 'static'",
        ),
    ],
)
def test_bad_batch_arguments(batches, options, message):
    with pytest.raises(ValueError, match=message):
        batches(some_split(), **options)


# Digits and other TFDS data sets.


def test_digits_are_scikit_learns(digits_dir):
    dataset = datasets.load("digits", data_dir=digits_dir, validation_split=0)
    values, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = np.rint(values * 255 / 16).reshape(-1, 8, 8, 1)
    np.testing.assert_array_equal(dataset.train.images, images[:1437])
    np.testing.assert_array_equal(dataset.test.images, images[1437:])
    np.testing.assert_array_equal(dataset.train.labels, labels[:1437])
    np.testing.assert_array_equal(dataset.test.labels, labels[1437:])
    assert dataset.validation is None
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int32
    assert dataset.label_names == tuple("0123456789")


def test_digits_entropy_floor(digits_dir):
    test = datasets.load("digits", data_dir=digits_dir).test

    def floor(probability):
        entropy = scipy.special.entr(probability)
        entropy += scipy.special.entr(1 - probability)
        return entropy.sum(axis=(1, 2, 3)).mean()

    # 13.30 nats for the values v / 16; rounding them to bytes adds 0.02.
    sixteenths = np.rint(test.images / 255 * 16) / 16
    assert round(floor(sixteenths), 2) == 13.30
    assert floor(test.images / 255) == pytest.approx(13.3246, abs=1e-4)


def test_validation_is_a_seeded_part_of_the_training_images(digits_dir):
    def load(seed, validation_split=0.1):
        return datasets.load(
            "digits",
            data_dir=digits_dir,
            seed=seed,
            validation_split=validation_split,
        )

    whole, dataset = load(0, 0), load(0)
    assert len(dataset.validation.images) == 144
    assert len(dataset.train.images) == 1437 - 144
    parts = np.concatenate([dataset.train.images, dataset.validation.images])
    rows = parts.reshape(1437, -1).tolist()
    assert sorted(rows) == sorted(whole.train.images.reshape(1437, -1).tolist())
    same, other = load(0).validation.images, load(1).validation.images
    np.testing.assert_array_equal(dataset.validation.images, same)
    assert np.any(dataset.validation.images != other)
    assert set(dataset.validation.labels) == set(range(10))


@pytest.mark.parametrize("validation_split", [-0.1, 1, 1e-6, 1 - 1e-6])
def test_bad_validation_split(digits_dir, validation_split):
    with pytest.raises(UserError, match="validation_split"):
        datasets.load(
            "digits", data_dir=digits_dir, validation_split=validation_split
        )


def test_image_size_resizes(digits_dir):
    dataset = datasets.load("digits", data_dir=digits_dir, image_size=(4, 2))
    assert dataset.image_shape == (4, 2, 1)
    assert dataset.train.images.dtype == np.uint8
    square = datasets.load("digits", data_dir=digits_dir, image_size=16)
    assert square.image_shape == (16, 16, 1)


@pytest.mark.parametrize("image_size", [0, (8, -1), (1, 2, 3), 8.5, "8"])
def test_bad_image_size(image_size):
    with pytest.raises(UserError, match="image_size must be"):
        datasets.load("digits", image_size=image_size)


def test_two_processes_may_prepare_at_once(tmp_path, monkeypatch):
    prepare_splits = tfds_images.Digits._split_generators
    folders = []

    def overtaken(self, dl_manager):
        folders.append(self.data_dir)
        if len(folders) == 1:
            random.seed(0)
            datasets.load("digits", data_dir=tmp_path)
        return prepare_splits(self, dl_manager)

    monkeypatch.setattr(tfds_images.Digits, "_split_generators", overtaken)
    random.seed(0)
    dataset = datasets.load("digits", data_dir=tmp_path, validation_split=0)
    assert len(dataset.train.images) == 1437
    assert len(folders) == 2 and folders[0] != folders[1]
    assert [path.name for path in tmp_path.glob("digits/*")] == ["1.0.0"]


def test_preparing_leaves_the_random_state_alone(tmp_path):
    random.seed(3)
    datasets.load("digits", data_dir=tmp_path)
    assert random.random() == random.Random(3).random()


def test_preparing_fails_in_one_line(tmp_path):
    (tmp_path / "digits").write_text("in the way")
    with pytest.raises(UserError, match="could not prepare digits in") as info:
        datasets.load("digits", data_dir=tmp_path)
    assert "\n" not in str(info.value)


def test_an_incomplete_folder_is_named(tmp_path):
    folder = tmp_path / "digits" / "1.0.0"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=f"{folder}: remove what is there"):
        datasets.load("digits", data_dir=tmp_path)


def test_without_network_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_images, "_any_answers", lambda addresses: False)
    with pytest.raises(UserError) as info:
        datasets.load("mnist", data_dir=tmp_path)
    for part in (f"{tmp_path}/mnist/", "tfds build mnist", "--data_dir"):
        assert part in str(info.value)
    assert "\n" not in str(info.value)


def test_the_probe_keeps_its_time_limit(monkeypatch):
    def hang(request, timeout):
        time.sleep(20)

    assert tfds_images._PROBE_SECONDS < 5
    monkeypatch.setattr(tfds_images.urllib.request, "urlopen", hang)
    monkeypatch.setattr(tfds_images, "_PROBE_SECONDS", 0.5)
    start = time.monotonic()
    assert not tfds_images._any_answers([f"https://host{i}/" for i in range(4)])
    # One wait for all, not one for each.
    assert time.monotonic() - start < 1.5


def test_the_probe_takes_one_answer_for_a_network(monkeypatch):
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
def test_unknown_name(tmp_path, name):
    with pytest.raises(UserError, match="choose digits, image_folder") as info:
        datasets.load(name, data_dir=tmp_path)
    if name == "fashon_mnist":
        assert "did you mean fashion_mnist" in str(info.value)


def test_unknown_configuration(tmp_path):
    with pytest.raises(UserError, match=r"mnist:9.9.9: TFDS says: .*3.0.1"):
        datasets.load("mnist:9.9.9", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["digits", "image_folder", "x.npz"])
def test_missing_data_dir(tmp_path, name):
    with pytest.raises(UserError, match="/none is not a folder"):
        datasets.load(name, data_dir=tmp_path / "none")


def test_images_of_different_sizes(tmp_path):
    with pytest.raises(UserError, match=r"not all of one size.*--image_size"):
        datasets.load("genmodels_shapes", data_dir=tmp_path)
    dataset = datasets.load("genmodels_shapes", data_dir=tmp_path, image_size=4)
    assert dataset.train.labels is None and dataset.label_names is None
    # A tenth of 12 is the test, a twentieth of the rest the validation.
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split.images) for split in splits] == [10, 1, 1]
    # Stored as 0 and 1.
    assert all(np.all(split.images == 255) for split in splits)


def test_the_validation_split_stands_in_for_a_test_split(tmp_path):
    dataset = datasets.load("genmodels_validated", data_dir=tmp_path)
    assert dataset.image_shape == (3, 5, 1)
    assert np.all(dataset.train.images == 4)
    assert np.all(dataset.validation.images == 4)
    assert np.all(dataset.test.images == 9)


def test_a_data_set_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"genmodels_texts .*found: text: Text"):
        datasets.load("genmodels_texts", data_dir=tmp_path)


def test_images_that_do_not_fit_in_memory(digits_dir, monkeypatch):
    monkeypatch.setattr(
        image_files, "available_memory", lambda: 2 * 1797 * 64 - 1
    )
    with pytest.raises(UserError, match=r"1797 images of 8x8x1 .*--image_size"):
        datasets.load("digits", data_dir=digits_dir)
    datasets.load("digits", data_dir=digits_dir, image_size=7)


# Array files.


def save_arrays(folder, **arrays):
    np.savez(folder / "x.npz", **arrays)
    return str(folder / "x.npz")


def test_arrays_of_bytes(tmp_path):
    images = np.arange(40 * 6, dtype=np.uint8).reshape(40, 2, 3)
    labels = np.arange(40, dtype=np.uint8)
    path = save_arrays(tmp_path, image=images, label=labels)
    dataset = datasets.load(path, validation_split=0.25)
    assert dataset.image_shape == (2, 3, 1)
    assert dataset.label_names is None
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split.images) for split in splits] == [27, 9, 4]
    assert all(split.labels.dtype == np.int32 for split in splits)
    rows = np.concatenate([split.labels for split in splits])
    assert sorted(rows) == list(range(40))
    loaded = np.concatenate([split.images for split in splits])
    np.testing.assert_array_equal(loaded[..., 0], images[rows])


def test_arrays_of_floats(tmp_path):
    images = np.random.default_rng(0).random((20, 8, 6, 3))
    save_arrays(tmp_path, image=images)
    dataset = datasets.load("x.npz", data_dir=tmp_path)
    assert dataset.train.images.dtype == np.float32
    assert dataset.train.labels is None
    small = datasets.load("x.npz", data_dir=tmp_path, image_size=(4, 3))
    assert small.image_shape == (4, 3, 3)
    # Antialiased: the mean survives, up to the borders' weights.
    mean = small.train.images.mean()
    assert mean == pytest.approx(dataset.train.images.mean(), abs=0.02)


@pytest.mark.parametrize(
    "arrays, message",
    [
        (dict(x=np.zeros(3), y=np.zeros(2)), "no array 'image' .found: x, y"),
        (dict(image=np.zeros((20, 4))), r"must be .*, got \[20, 4\]"),
        (dict(image=np.zeros((20, 3, 8, 8))), r"got \[20, 3, 8, 8\]"),
        (dict(image=np.zeros((20, 0, 8))), "the images are empty"),
        (dict(image=np.zeros((20, 2, 2), int)), "got int64"),
        (dict(image=np.zeros((20, 2, 2), bool)), "got bool"),
        (dict(image=np.full((20, 2, 2), 2.5)), "got values from 2.5 to 2.5"),
        (dict(image=np.full((20, 2, 2), -1.0)), "got values from -1 to -1"),
        (dict(image=np.full((20, 2, 2), np.nan)), "got NaN"),
        (dict(image=np.full((20, 2, 2), np.inf)), "got values from inf"),
        (dict(image=np.zeros((9, 2, 2))), "holds 9 images"),
        (dict(image=np.array([{}] * 20)), "cannot be read .*allow_pickle"),
        (
            dict(image=np.zeros((20, 2, 2)), label=np.zeros(19, int)),
            r"'label' must be integers \[20\].*, got int64 \[19\]",
        ),
        (
            dict(image=np.zeros((20, 2, 2)), label=np.zeros(20)),
            "'label' must be integers .*, got float64",
        ),
        (
            dict(image=np.zeros((20, 2, 2)), label=np.full(20, -1)),
            "'label' must be in .* from -1 to -1",
        ),
    ],
)
def test_bad_arrays(tmp_path, arrays, message):
    path = save_arrays(tmp_path, **arrays)
    with pytest.raises(UserError, match=message) as info:
        datasets.load(path)
    assert path in str(info.value) and "\n" not in str(info.value)


def test_missing_or_broken_array_file(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*none.npz"):
        datasets.load(str(tmp_path / "none.npz"))
    for content in (b"", b"PK\x03\x04 cut short", b"text"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"x.npz cannot be read"):
            datasets.load("x.npz", data_dir=tmp_path)


# Folders of pictures.


def grey_picture(value, height=5, width=7):
    return np.full((height, width), value, np.uint8)


def test_flat_folder_of_grey_pictures(tmp_path):
    for i in range(20):
        save_picture(tmp_path / f"{i:02}.png", grey_picture(10 * i))
    dataset = datasets.load(
        "image_folder", data_dir=tmp_path, image_size=(5, 7)
    )
    assert dataset.image_shape == (5, 7, 1)
    assert dataset.train.labels is None and dataset.label_names is None
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split.images) for split in splits] == [17, 1, 2]
    values = np.concatenate([s.images.reshape(-1, 35) for s in splits])
    assert np.all(np.ptp(values, axis=1) == 0)
    assert sorted(values[:, 0]) == list(range(0, 200, 10))
    default = datasets.load("image_folder", data_dir=tmp_path)
    assert default.image_shape == (64, 64, 1)


def test_labelled_folder_of_colour_pictures(tmp_path):
    for i in range(10):
        save_picture(tmp_path / "b" / f"{i}.png", grey_picture(200, 4 + i, 9))
    red = np.zeros((6, 5, 3), np.uint8)
    red[..., 0] = 250
    for i in range(8):
        save_picture(tmp_path / "a" / "deeper" / f"{i}.bmp", red)
    save_picture(tmp_path / ".hidden" / "x.png", red)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not a picture")
    dataset = datasets.load("image_folder", data_dir=tmp_path, image_size=4)
    assert dataset.image_shape == (4, 4, 3)
    assert dataset.label_names == ("a", "b")
    splits = (dataset.train, dataset.validation, dataset.test)
    labels = np.concatenate([split.labels for split in splits])
    images = np.concatenate([split.images for split in splits])
    assert np.bincount(labels).tolist() == [8, 10]
    assert labels.dtype == np.int32
    assert np.all(images[labels == 0] == [250, 0, 0])
    assert np.all(images[labels == 1] == 200)


def test_pictures_are_smoothed_before_they_shrink(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    for i in range(10):
        save_picture(tmp_path / f"{i}.png", noise)
    dataset = datasets.load(
        "image_folder", data_dir=tmp_path, image_size=8, validation_split=0
    )
    pictures = datasets.read_pictures(tmp_path, image_shape=(8, 8, 1))
    for images in (dataset.train.images, pictures):
        # 74 / 8 for the mean of 64 pixels, 74 / 2 without smoothing.
        assert np.std(images) < 15


def test_bad_folders(tmp_path):
    with pytest.raises(UserError, match="image_folder needs the folder"):
        datasets.load("image_folder")
    with pytest.raises(UserError, match=r"holds no picture .*png"):
        datasets.load("image_folder", data_dir=tmp_path)
    for i in range(9):
        save_picture(tmp_path / f"{i}.png", grey_picture(i))
    with pytest.raises(UserError, match="holds 9 images: give at least 10"):
        datasets.load("image_folder", data_dir=tmp_path)
    save_picture(tmp_path / "a" / "9.png", grey_picture(9))
    with pytest.raises(UserError, match=r"pictures \(0.png\) beside sub-fold"):
        datasets.load("image_folder", data_dir=tmp_path)


@pytest.mark.parametrize("kept_bytes", [0, 20, 80])
def test_a_broken_picture_is_named(tmp_path, kept_bytes):
    # Cut short in the header, which PIL sees, or after it, which TF sees.
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    for i, picture in enumerate(noise):
        save_picture(tmp_path / f"{i}.png", picture)
    broken = tmp_path / "7.png"
    broken.write_bytes(broken.read_bytes()[:kept_bytes])
    with pytest.raises(UserError, match=f"{broken} cannot be read"):
        datasets.load("image_folder", data_dir=tmp_path)
    with pytest.raises(UserError, match=f"{broken} cannot be read"):
        datasets.read_pictures(tmp_path, image_shape=(8, 8, 1))


def test_read_pictures(tmp_path):
    save_picture(tmp_path / "b.png", grey_picture(3))
    save_picture(tmp_path / "a" / "z.png", grey_picture(2, 9, 11))
    red = np.zeros((6, 5, 3), np.uint8)
    red[..., 0] = 100
    save_picture(tmp_path / "a.png", red)
    colours = datasets.read_pictures(tmp_path, image_shape=(5, 7, 3))
    assert colours.shape == (3, 5, 7, 3) and colours.dtype == np.uint8
    # Files of a folder before those of its sub-folders.
    expected = [[100, 0, 0], [3, 3, 3], [2, 2, 2]]
    np.testing.assert_array_equal(colours[:, 2, 3], expected)
    grey = datasets.read_pictures(tmp_path, image_shape=(5, 7, 1))
    # 0.2989 is red's part in luma.
    np.testing.assert_array_equal(grey[:, 2, 3, 0], [29, 3, 2])
    one = datasets.read_pictures(tmp_path / "b.png", image_shape=(5, 7, 1))
    np.testing.assert_array_equal(one[0, ..., 0], grey_picture(3))


def test_read_pictures_refuses(tmp_path):
    with pytest.raises(UserError, match="none: no such picture"):
        datasets.read_pictures(tmp_path / "none", image_shape=(8, 8, 1))
    with pytest.raises(UserError, match="holds no picture"):
        datasets.read_pictures(tmp_path, image_shape=(8, 8, 1))
    with pytest.raises(UserError, match="1 or 3 channels, the model takes 4"):
        datasets.read_pictures(tmp_path, image_shape=(8, 8, 4))


def test_pixels_off_the_levels_are_noticed(tmp_path, digits_dir):
    data = datasets.load("digits", data_dir=digits_dir)
    data.check_levels()
    levels = np.tile(np.arange(256) / 255, (12, 1)).reshape(12, 16, 16, 1)
    np.savez(tmp_path / "x.npz", image=levels.astype(np.float32))
    datasets.load(str(tmp_path / "x.npz"), validation_split=0.2).check_levels()
    np.savez(tmp_path / "x.npz", image=levels.astype(np.float32) * 0.999)
    between = datasets.load(str(tmp_path / "x.npz"), validation_split=0.2)
    with pytest.raises(UserError, match="not k/255"):
        between.check_levels()


def labelled(train, test, names=None):
    splits = (
        datasets.Split(
            np.zeros((8, 2, 2, 1), np.uint8),
            None if labels is None else np.int32(labels),
        )
        for labels in (train, test)
    )
    first, last = splits
    return datasets.ImageDataset("made", first, None, last, names)


def test_labels_are_counted():
    few, more = [0, 1] * 4, [2] * 8
    assert labelled(few, few).num_labels() == 2
    assert labelled(few, more).num_labels() == 3
    assert labelled(few, few, ("a", "b", "c", "d")).num_labels() == 4


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        (None, None, "no labels"),
        ([0, 1] * 4, None, "no labels"),
        ([0, 1] * 4, [-1] * 8, "from -1 to 1"),
        ([0, 1] * 4, [99] * 8, "from 0 to 99"),
    ],
)
def test_what_are_no_labels_is_told(train, test, told):
    with pytest.raises(UserError, match=told):
        labelled(train, test).num_labels()


@pytest.mark.parametrize(
    "batches", [datasets.training_batches, datasets.evaluation_batches]
)
def test_no_autotuner_holds_up_who_drops_an_iterator(batches):
    """Its sleeps are powers of two of 10 ms, and are waited for."""
    split = datasets.Split(np.zeros((8, 2, 2, 1), np.uint8), None)
    pipeline = batches(split, batch_size=8, seed=0).map(lambda rows: rows)
    assert pipeline.options().autotune.enabled is False
