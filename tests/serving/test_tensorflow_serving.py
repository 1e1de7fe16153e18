"""TensorFlow Serving itself, if it is installed, answers like our server."""

import concurrent.futures
import contextlib
import json
import re
import shlex
import shutil
import subprocess
import urllib.request

import grpc
import numpy as np
import pytest
from serving import test_client as client_tests
from support.app_runs import ROOT, TIMEOUT
from support.exported_models import vae
from support.toy_server import free_port, save_toys, started

from keras_genmodels import serving
from keras_genmodels.core.errors import UserError
from keras_genmodels.export import export, serving_config, summary

BINARY = "tensorflow_model_server"
IMAGE_OF_SERVER = "tensorflow/serving"


def has_image():
    """Returns whether the container image of TensorFlow Serving is here."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    command = [docker, "image", "inspect", IMAGE_OF_SERVER]
    return not subprocess.run(command, capture_output=True).returncode


@pytest.fixture(scope="module")
def program():
    """The program that starts TensorFlow Serving."""
    if shutil.which(BINARY):
        return BINARY
    if has_image():
        return "docker run"
    pytest.skip(
        f"{BINARY} is not on PATH, nor is there the container image "
        f"{IMAGE_OF_SERVER}: this was tested against the local server, not "
        "against TensorFlow Serving"
    )


def root_of(program, path):
    """Returns the path of the exported models on the server."""
    return str(path) if program == BINARY else "/models"


@contextlib.contextmanager
def started_by(program, lines):
    """Starts TensorFlow Serving with a command that an export prints.

    Yields:
        the addresses of gRPC and REST.
    """
    joined = lines.replace("\\\n", " ").splitlines()
    (line,) = [it for it in joined if it.strip().startswith(program)]
    ports = free_port(), free_port()
    command, name = shlex.split(line), f"kgm-{ports[0]}"
    for before, after in (
        ("--port=8500", f"--port={ports[0]}"),
        ("--rest_api_port=8501", f"--rest_api_port={ports[1]}"),
        ("127.0.0.1:8500:8500", f"127.0.0.1:{ports[0]}:8500"),
        ("127.0.0.1:8501:8501", f"127.0.0.1:{ports[1]}:8501"),
        ("run", f"run --name={name}"),
    ):
        command = [
            part
            for word in command
            for part in (after.split() if word == before else [word])
        ]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    with started(command), grpc.insecure_channel(addresses[0]) as channel:
        try:
            grpc.channel_ready_future(channel).result(TIMEOUT)
            yield addresses
        finally:
            if program != BINARY:
                subprocess.run(["docker", "kill", name], capture_output=True)


@pytest.fixture(scope="module")
def genuine(program, tmp_path_factory):
    """The address of TensorFlow Serving itself, without batching."""
    export_dir = save_toys(tmp_path_factory.mktemp("saved_models"))
    root = root_of(program, export_dir)
    serving_config.write_models_config(export_dir, root)
    lines = serving_config.start_commands(export_dir, root).values()
    words = "\n".join(lines).replace("\\\n", " ")
    words = re.sub(r" \S*batching\S*", "", words)
    with started_by(program, words) as (address, _):
        yield address


@pytest.fixture(scope="module")
def as_printed(program, tmp_path_factory):
    """A VAE, and the addresses of TensorFlow Serving started as printed."""
    path = tmp_path_factory.mktemp("exported")
    model = vae(latent_size=16)
    root = root_of(program, path)
    version = export(model, path, "vae", serving_root=root)
    with started_by(program, summary.summary(version, root)) as addresses:
        yield model, *addresses


def test_tensorflow_serving_answers_alike(genuine):
    with serving.Client(genuine, "toy") as asking:
        client_tests.test_signatures(asking)
        client_tests.test_each_method_runs_its_signature(asking)
        client_tests.test_large_requests_are_split_and_joined_in_order(asking)
        client_tests.test_row_seeds_are_those_of_the_package(asking)
        client_tests.test_8_bit_images_are_read_as_fractions(asking)
        for ask, message in client_tests.WRONG:
            client_tests.test_errors_are_one_line(asking, ask, message)
        client_tests.test_two_clients_get_their_own_answers(asking)
        client_tests.test_a_timeout_is_reported(asking)


def test_the_printed_command_serves_joined_rows(as_printed):
    """Clients whose rows are batched together get their own answers."""
    model, address, _ = as_printed
    expected = [model.sample(num=32, seed=seed).numpy() for seed in range(8)]

    def ask(seed):
        with serving.Client(address, "vae") as own:
            for num in (1, 3, 8, 20, 32) * 4:
                np.testing.assert_allclose(
                    own.generate(num, seed=seed),
                    expected[seed][:num],
                    atol=1e-5,
                )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


def test_the_printed_command_serves_after_a_bad_row(as_printed):
    model, address, _ = as_printed
    x = np.zeros((3, 8, 8, 1), np.float32)
    bad = x.copy()
    bad[1, 2] = np.nan
    with serving.Client(address, "vae") as asking:
        with pytest.raises(UserError, match="refused this: image must be fini"):
            asking.reconstruct(bad)
        np.testing.assert_allclose(
            asking.reconstruct(x),
            model.decode(model.encode(x).mean()).mean(),
            atol=1e-5,
        )


def test_the_printed_command_answers_the_documented_rest_bodies(as_printed):
    model, _, address = as_printed
    drawn, decoded = (
        post(f"http://{address}/v1/models/vae:predict", body)
        for body in re.findall(
            r"curl \S+/models/vae:predict -d '(.*)'\n",
            (ROOT / "docs" / "serving.md").read_text(),
        )
    )
    expected = model.sample(num=2, seed=np.array([[0, 1], [0, 2]], np.int32))
    np.testing.assert_allclose(drawn["outputs"], expected, atol=1e-5)
    expected = model.decode(np.zeros((1, 16), np.float32)).mean()
    np.testing.assert_allclose(decoded["predictions"], expected, atol=1e-5)


def post(url, body):
    with urllib.request.urlopen(url, body.encode(), TIMEOUT) as answer:
        return json.load(answer)
