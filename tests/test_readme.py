"""What the README shows works as it stands there."""

import json
import pathlib
import re

import numpy as np
import pytest
from support.exported_models import vae

from keras_genmodels import serving
from keras_genmodels.export import export
from keras_genmodels.export.replay import replay

README = pathlib.Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()
SCRIPTS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def run(script, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(script, "README.md", "exec"), names)
    return names


def test_no_script_is_left_out():
    assert len(SCRIPTS) == 4


def test_the_script_of_the_vae_runs(tmp_path, monkeypatch):
    names = run(SCRIPTS[0], tmp_path, monkeypatch)
    assert names["rate"].shape == names["elbo"].shape == (360,)
    assert names["images"].shape == (360, 8, 8, 1)
    assert names["samples"].shape == (16, 8, 8, 1)
    assert names["samples"].numpy().min() >= 0
    assert names["samples"].numpy().max() <= 1


def test_the_script_of_the_conditional_model_runs(tmp_path, monkeypatch):
    names = run(SCRIPTS[1], tmp_path, monkeypatch)
    assert names["images"].shape == (4, 8, 8, 1)
    assert names["threes"].shape == names["any_digit"].shape == (16, 8, 8, 1)
    # Of the same images; the bound of one draw scatters about its mean.
    assert names["elbo"].shape == names["nats"].shape == (4,)
    assert names["nats"].numpy().mean() > names["elbo"].numpy().mean()


def test_the_script_of_the_denoisers_runs(tmp_path, monkeypatch):
    names = run(SCRIPTS[2], tmp_path, monkeypatch)
    assert names["denoised"].shape == names["way"].x.shape == (16, 8, 8, 1)
    assert names["probabilities"].shape == names["indices"].shape == (16, 5)
    # What the exact denoiser generates are stored images.
    assert names["copies"].rate > 0.9
    assert names["basin"].smallest[0] > 0
    # The update at a stored image's place is all but constant.
    assert abs(names["spectrum"].spectral_radius[0]) < 1
    assert names["picture"].dtype == "uint8"


# Serving: on a model like the one that the README trains.


@pytest.fixture(scope="module")
def served(tmp_path_factory, in_process):
    """A folder with `saved_models/vae/1`, and the address of a server."""
    folder = tmp_path_factory.mktemp("served")
    export_dir = folder / "saved_models"
    export(vae(latent_size=16), export_dir, "vae", num_samples=5)
    with serving.Server(export_dir, port=0) as server:
        yield folder, server.address


def test_the_script_of_serving_runs(served, monkeypatch):
    folder, address = served
    assert SCRIPTS[3].count("127.0.0.1:8500") == 1
    script = SCRIPTS[3].replace("127.0.0.1:8500", address)
    names = run(script, folder, monkeypatch)
    assert names["images"].shape == (16, 8, 8, 1)
    assert names["nats"].shape == (16,)
    assert (names["nats"] < 0).all()
    assert names["drawn"].shape == (2, 8, 8, 1)
    assert not np.array_equal(*names["drawn"].numpy())


def columns_of(body, signature):
    """Reads a REST body as TensorFlow Serving does, row by row or not."""
    assert body.keys() in (
        {"signature_name", "inputs"},
        {"signature_name", "instances"},
    )
    columns = body.get("inputs")
    if columns is None:
        rows = body["instances"]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: np.array(values, signature.inputs[name].dtype)
        for name, values in columns.items()
    }


def test_the_bodies_of_rest_are_answered(served):
    folder, address = served
    bodies = re.findall(r"curl \S+/models/vae:predict -d '(.*)'\n", TEXT)
    requests = []
    with serving.Client(address, "vae") as client:
        for text in bodies:
            body = json.loads(text)
            name = body["signature_name"]
            columns = columns_of(body, client.signature(name))
            requests.append((name, columns))
    drawn, decoded = replay(folder / "saved_models" / "vae" / "1", requests)
    assert drawn["image"].shape == (2, 8, 8, 1)
    assert not np.array_equal(*drawn["image"])
    assert decoded["image"].shape == (1, 8, 8, 1)
