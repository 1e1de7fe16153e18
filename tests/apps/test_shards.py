"""Shards of the jobs of generate, encode and restore, and how they are joined.

Each job is made whole and in shards, by the apps.
"""

import shutil
import types

import numpy as np
import pytest
from support.app_runs import assert_refused, contents, save_noise, succeed

from apps.cli import guard, merging, shard_flag
from apps.cli.shard_flag import Shard
from keras_genmodels import datasets


@pytest.mark.parametrize("num_rows", [5, 6, 64, 100, 1000])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_in_order_hold_each_row_once(num_rows, count):
    parts = [Shard(k, count).rows(num_rows, 20) for k in range(count)]
    assert [row for part in parts for row in part] == [*range(num_rows)]
    sizes = [len(part) for part in parts]
    assert 0 < min(sizes) <= max(sizes) <= max(2 * min(sizes), 20)
    if num_rows >= 20 * count:
        assert all(part.start % 20 == 0 for part in parts)


def test_more_shards_than_rows_are_refused():
    with pytest.raises(guard.WrongFlags, match="5 rows"):
        Shard(0, 6).rows(5, 2)


def test_the_flag_is_parsed():
    parse = shard_flag._ShardParser().parse
    assert parse("3/16") == Shard(3, 16)
    assert str(parse("3/16")) == "3/16"
    assert parse("3/16").suffix == "_003_of_016"
    for text in ("", "3", "3/", "-1/2", "2/2", "0/0", "1.0/2", "1/2/3", "٣/٩"):
        with pytest.raises(ValueError, match="INDEX/COUNT"):
            parse(text)


def test_jobs_on_other_images_or_labels_are_others(tmp_path):
    model_file = tmp_path / "model.keras"
    model_file.write_bytes(b"model")

    def job(split, **flags):
        values = {"seed": 1, "output": "o.npz", "input": "x.npz", **flags}
        config = types.SimpleNamespace(values=values, input=values["input"])
        return shard_flag.checksum(config, model_file, split)

    images = np.zeros((2, 3, 3, 1), np.uint8)
    first = job(datasets.Split(images, None))
    assert job(datasets.Split(images.copy(), None), input="y.npz") == first
    assert job(datasets.Split(images, None), output="p.npz") == first
    others = [
        job(datasets.Split(images, None), seed=2),
        job(datasets.Split(images + np.uint8(1), None)),
        job(datasets.Split(images, np.array([0, 1]))),
        job(datasets.Split(images, np.array([1, 0]))),
        job(datasets.Split(images, None), input="test"),
    ]
    assert len({first, *others}) == 6


# What an archive of each job holds, in two shards of three rows and two.


def shards(**changes):
    whole = {
        "image": np.arange(10.0).reshape(5, 2),
        "label": np.arange(5),
        "mask": np.array([True, False]),
    }
    made = []
    for first, end in ((0, 3), (3, 5)):
        archive = {
            name: values if name == "mask" else values[first:end]
            for name, values in whole.items()
        }
        archive["shard_rows"] = np.array([first, end, 5])
        archive["shard_job"] = np.uint32(7)
        made.append((f"{first}.npz", archive))
    made[1][1].update(changes)
    return whole, made


def test_joined_shards_are_the_whole_archive():
    whole, made = shards()
    joined = merging.join(made)
    assert [*joined] == [*whole]
    for name, values in whole.items():
        np.testing.assert_array_equal(joined[name], values)


def test_other_archives_are_joined_in_the_order_given():
    one, other = {"loc": np.arange(4)}, {"loc": np.arange(2)}
    joined = merging.join([("b", other), ("a", one)])
    assert joined["loc"].tolist() == [0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: made[:1], ["0.npz", "row 2 of 5"]),
        (lambda made: made[1:], ["3.npz", "row 3, not 0"]),
        (lambda made: made[::-1], ["3.npz", "order"]),
        (lambda made: [*made, made[1]], ["3.npz", "row 3, not 5"]),
        (lambda made: [made[0], ("x", {"image": 0})], ["x", "is a shard"]),
    ],
    ids=["last", "first", "order", "twice", "other"],
)
def test_an_incomplete_set_is_refused(change, words):
    with pytest.raises(guard.WrongFlags) as refusal:
        merging.join(change(shards()[1]))
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"shard_job": np.uint32(8)},
        {"shard_rows": np.array([3, 5, 6])},
        {"shard_rows": np.arange(2)},
        {"extra": np.arange(2)},
        {"image": np.zeros((2, 3))},
        {"image": np.zeros((2, 2), np.float32)},
        {"mask": np.array([True, True])},
    ],
    ids=lambda changes: "".join(changes),
)
def test_parts_that_do_not_belong_together_are_refused(changes):
    with pytest.raises(guard.WrongFlags, match=r"--merge: .*3\.npz"):
        merging.join(shards(**changes)[1])


# By the apps. The rows of "vae" and "labels" are two batches: three shards
# begin within a batch, two shards with one.

JOBS = {
    "vae": ("generate", ["--num_images=300"], 3),
    "labels": ("generate", ["--num_images=30", "--guidance=0.5"], 2),
    "quadrants": ("generate", ["--num_images=5", "--num_completions=2"], 2),
    "learned": ("generate", ["--num_images=5", "--num_steps=3"], 2),
    "encoded": ("encode", ["--input=train"], 2),
}


@pytest.fixture
def own_copy(finished, tmp_path):
    """Returns a function of a kind to a copy of its workdir."""
    return lambda kind: shutil.copytree(finished(kind), tmp_path / kind)


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_joined_shards_have_the_bits_of_one_run(
    launch, own_copy, tmp_path, job
):
    app, flags, count = JOBS[job]
    workdir = own_copy("vae" if job == "encoded" else job)
    flags = [f"--workdir={workdir}", *flags]
    started = [
        launch(app, *flags, f"--output={tmp_path / 'whole.npz'}"),
        *(launch(app, *flags, f"--shard={k}/{count}") for k in range(count)),
    ]
    said = [succeed(process.result()) for process in started]
    assert f"Shard 0/{count}: " in said[1]
    folder = workdir / "figures" if app == "generate" else workdir
    parts = [folder / f"{app}d_{k:03}_of_{count:03}.npz" for k in range(count)]
    merge = f"--merge={','.join(map(str, parts))}"
    succeed(launch("generate", merge, f"--output={tmp_path}/all.npz").result())
    whole, joined = (
        np.load(tmp_path / f"{name}.npz") for name in ("whole", "all")
    )
    assert joined.files == whole.files
    for name in whole.files:
        assert joined[name].dtype == whole[name].dtype
        np.testing.assert_array_equal(joined[name], whole[name])


@pytest.mark.slow
def test_shards_of_a_folder_are_restored_next_to_each_other(
    launch, finished, tmp_path
):
    for name in "abcde":
        save_noise(tmp_path / "in" / f"{name}.png", (8, 8))
    flags = [
        f"--workdir={finished('learned')}",
        f"--input={tmp_path / 'in'}",
        "--add_noise=0.3",
        "--sigma=0.3",
        "--max_steps=3",
    ]
    outputs = {"whole": [], "parts": ["--shard=0/2"]}
    for output, more in (*outputs.items(), ("parts", ["--shard=1/2"])):
        place = f"--output={tmp_path / output}"
        succeed(launch("restore", *flags, place, *more).result())
    whole, parts = (contents(tmp_path / output) for output in outputs)
    for path, picture in whole.items():
        if path.parent.name == "images":
            assert parts.pop(path) == picture
        else:
            for k in range(2):
                assert parts.pop(path.with_stem(f"{path.stem}_00{k}_of_002"))
    assert not parts
    merge = ",".join(
        f"{tmp_path}/parts/restored_00{k}_of_002.npz" for k in range(2)
    )
    output = f"--output={tmp_path}/all.npz"
    succeed(launch("generate", f"--merge={merge}", output).result())
    joined = np.load(tmp_path / "all.npz")
    expected = np.load(tmp_path / "whole" / "restored.npz")
    assert joined.files == expected.files
    for name in expected.files:
        np.testing.assert_allclose(joined[name], expected[name], atol=1e-5)


@pytest.mark.slow
def test_a_shard_does_not_replace_another(launch, finished, tmp_path):
    flags = [f"--workdir={finished('vae')}", f"--output={tmp_path}/z.npz"]
    succeed(launch("encode", *flags, "--shard=0/2").result())
    before = contents(tmp_path)
    process = launch("encode", *flags, "--shard=1/2").result()
    assert_refused(process, "encode", "z.npz", "another shard")
    assert contents(tmp_path) == before
