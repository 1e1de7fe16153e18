"""Paths that are URLs: of this machine they are read, others are refused."""

import pathlib

import numpy as np
import pytest
from support.small_vaes import make_vae

import keras_genmodels as kgm
from apps.cli import flag_types
from keras_genmodels import datasets, export, runs
from keras_genmodels.core import files
from keras_genmodels.export.check import check_version
from keras_genmodels.serving import server

REMOTE = ["s3://bucket/run", "gs://b/x", "https://h/x", "file://host/x"]


def parse(text):
    return pathlib.Path(flag_types._PathParser().parse(text))


@pytest.mark.parametrize("convert", [files.local_path, parse])
def test_a_file_url_is_the_local_path(convert):
    for text, path in {
        "/a/b c": "/a/b c",
        "file:///a/b%20c": "/a/b c",
        "file://localhost/a": "/a",
        "file:/a": "/a",
        "/a:/b": "/a:/b",
    }.items():
        assert convert(text) == pathlib.Path(path)
    for text in REMOTE:
        with pytest.raises(ValueError, match=r"\blocal path"):
            convert(text)


def test_a_data_set_of_tfds_may_be_on_google_cloud_storage():
    parser = flag_types._PathParser("gs")
    assert parser.parse("gs://tfds-data/datasets") == "gs://tfds-data/datasets"
    with pytest.raises(ValueError, match="s3 address"):
        parser.parse("s3://tfds-data/datasets")


@pytest.mark.parametrize("make", [str, pathlib.Path])
def test_the_library_refuses_urls_before_it_writes(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = make("s3://bucket/run")
    model = make_vae()
    for call in (
        lambda: runs.Workdir(url),
        lambda: runs.load_model(url),
        lambda: runs.train(model, None, url),
        lambda: export.export(model, url, "vae"),
        lambda: check_version(url),
        lambda: server.find_versions(url),
        lambda: datasets.load("digits", data_dir=url),
        lambda: datasets.load(f"{url}/x.npz"),
        lambda: files.write_arrays(url, a=np.eye(2)),
        lambda: files.read_json(url),
        lambda: files.read_arrays(url, "a"),
    ):
        with pytest.raises(ValueError, match="s3 address"):
            call()
    assert not [*tmp_path.iterdir()]
    assert issubclass(kgm.UserError, ValueError)
