"""Measures the local gRPC server under load, and checks every answer.

  python benchmarks/serving.py                    # 10 000 requests
  python benchmarks/serving.py --requests=1000

It exports an untrained VAE of the size for the digits, and serves it with
`apps.serve` in a process of its own. Requests run all five signatures in turn,
with 1 to 4 rows and inputs of their own, first in this process by `Loader.run`
and then over gRPC by `serving.Client`, from the same number of threads. The
answers over gRPC are compared with those in this process, which all differ: an
answer that is lost or belongs to another request ends the benchmark with an
error.

The clients are threads with a connection each: they mostly wait, without the
GIL, and processes would each load TensorFlow and compete with the server for
the cores. It prints p50 and p99 of the latency of a request, for all clients at
once and, in the last row, for one client, and the server's resident memory
after the warm-up and at the end. Growth by more than 20 MB is an error.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_integer("requests", 10_000, "Number of requests.", lower_bound=50)
flags.DEFINE_integer("clients", 8, "Number of clients at once.", lower_bound=1)
flags.DEFINE_integer(
    "warmup",
    1000,
    "Number of requests before memory is first measured.",
    lower_bound=1,
)

SHAPE = (8, 8, 1)
LATENT_SIZE = 8
ROOT = pathlib.Path(__file__).resolve().parents[1]
SIGNATURES = ("reconstruct", "encode", "decode", "generate", "log_likelihood")
MAX_GROWTH = 20.0  # MB
_MEGABYTE = 2**20


def main(_):
    """Exports, serves, sends the requests, and prints the results."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.ERROR)
    from keras_genmodels.export.loader import Loader

    requests = [request_of(i) for i in range(FLAGS.requests)]
    with tempfile.TemporaryDirectory() as folder:
        version = export_vae(folder)
        with Loader(version) as loader:
            inside, expected = measure([loader.run] * FLAGS.clients, requests)
        check_distinct(expected)
        with serving(folder) as (address, process), clients(address) as asks:
            outside, answers = measure(asks, requests, process)
    check_answers(answers, expected)
    report(inside, outside)
    print(
        f"{len(answers)} of {len(requests)} requests answered to "
        f"{FLAGS.clients} clients in {outside.total:.1f} s, "
        f"{len(answers) / outside.total:.0f} a second; each answer is that of "
        f"its request\nserver's memory: {outside.before:.1f} MB after the "
        f"warm-up, {outside.after:.1f} MB at the end, "
        f"{outside.after - outside.before:+.1f} MB"
    )
    check_memory(outside.before, outside.after)
    return 0


class Figures(NamedTuple):
    """Measurements.

    Attributes:
        alone: seconds of each request of a single client.
        seconds: seconds of each request, by all clients at once.
        total: seconds that all clients took together.
        before: MB of the server's memory before them.
        after: the same at the end.
    """

    alone: list
    seconds: list
    total: float
    before: float | None
    after: float | None


def measure(asks, requests, process=None):
    """Warms up, sends the requests, and returns the figures and the answers.

    Args:
        asks: as for `ask_all`.
        requests: as for `ask_all`.
        process: `psutil.Process` of the server, or None.
    """
    ask_all(asks, requests[: FLAGS.warmup])
    _, alone = ask_all(asks[:1], requests[: FLAGS.warmup])
    before = process and process.memory_info().rss / _MEGABYTE
    start = time.perf_counter()
    answers, seconds = ask_all(asks, requests)
    total = time.perf_counter() - start
    after = process and process.memory_info().rss / _MEGABYTE
    return Figures(alone, seconds, total, before, after), answers


def request_of(number):
    """Returns the name of a signature, and inputs of this request alone."""
    import numpy as np

    rng = np.random.default_rng(number)
    signature = SIGNATURES[number % len(SIGNATURES)]
    num = 1 + number // len(SIGNATURES) % 4
    image = np.float32(rng.random((num, *SHAPE)) < 0.3)
    seed = rng.integers(2**31, size=(num, 2), dtype=np.int32)
    return signature, {
        "reconstruct": {"image": image},
        "encode": {"image": image},
        "decode": {
            "z": rng.standard_normal((num, LATENT_SIZE), dtype=np.float32)
        },
        "generate": {"seed": seed},
        "log_likelihood": {"image": image, "seed": seed},
    }[signature]


def export_vae(folder):
    """Exports a VAE for the digits; returns the folder of the version."""
    import keras_genmodels as kgm
    from keras_genmodels.export import export

    posterior = kgm.MultivariateNormalDiag(LATENT_SIZE)
    likelihood = kgm.IndependentBernoulli(SHAPE)
    model = kgm.VAE(
        kgm.mlp_encoder(SHAPE, posterior.params_size),
        kgm.mlp_decoder(LATENT_SIZE, likelihood.params_shape),
        posterior,
        likelihood,
    )
    return export(model, folder, "vae")


@contextlib.contextmanager
def serving(export_dir):
    """Serves in a process of its own; yields its address and the process."""
    import psutil

    with subprocess.Popen(
        [
            *(sys.executable, "-m", "apps.serve", "--port=0"),
            f"--export_dir={export_dir}",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the server did not start")
            yield line.split()[-1], psutil.Process(process.pid)
        finally:
            process.terminate()
            process.communicate()


@contextlib.contextmanager
def clients(address):
    """Yields a function like `Loader.run` for each client."""
    from keras_genmodels import serving as served

    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(served.Client(address, "vae"))
            for _ in range(FLAGS.clients)
        ]
        yield [asker(client) for client in made]


def asker(client):
    """Returns a function of the name of a signature and a dict of inputs."""
    return lambda signature, inputs: client.predict(signature, **inputs)


def ask_all(asks, requests):
    """Sends requests from one thread for each function of `asks`.

    Returns:
        list of the answers, and list of the seconds that each took.
    """
    answers = [None] * len(requests)
    seconds = [None] * len(requests)

    def ask_some(first):
        for i in range(first, len(requests), len(asks)):
            start = time.perf_counter()
            answers[i] = asks[first](*requests[i])
            seconds[i] = time.perf_counter() - start

    with concurrent.futures.ThreadPoolExecutor(len(asks)) as pool:
        list(pool.map(ask_some, range(len(asks))))
    return answers, seconds


def check_distinct(answers):
    """Checks that the answers differ, so that a swapped one is noticed."""
    import numpy as np

    period = 4 * len(SIGNATURES)  # requests until the number of rows repeats
    for one, other in zip(answers, answers[period:], strict=False):
        if all(np.allclose(one[k], other[k], atol=1e-3) for k in one):
            raise RuntimeError("two requests have the same answer")


def check_answers(answers, expected):
    """Checks that every answer is that of its request."""
    import numpy as np

    for i, (found, right) in enumerate(zip(answers, expected, strict=True)):
        if found is None or found.keys() != right.keys():
            raise RuntimeError(f"the answer of request {i} is lost")
        for name, array in right.items():
            if found[name].shape != array.shape or not np.allclose(
                found[name], array, rtol=1e-5, atol=1e-5
            ):
                raise RuntimeError(f"request {i} got the {name} of another")


def check_memory(before, after):
    """Checks that memory, in MB, is flat after the warm-up."""
    if after - before > MAX_GROWTH:
        raise RuntimeError(
            f"the server's memory grew by {after - before:.1f} MB, by more "
            f"than {MAX_GROWTH:g} MB"
        )


def report(inside, outside):
    """Prints the latencies of each signature."""
    print(f"{'':16}in process, ms    over gRPC, ms")
    print(f"{'signature':16}" + "   p50     p99   " * 2)
    for first, signature in enumerate(SIGNATURES):
        rows = slice(first, None, len(SIGNATURES))
        report_row(signature, inside.seconds[rows], outside.seconds[rows])
    report_row("all", inside.seconds, outside.seconds)
    report_row("one at a time", inside.alone, outside.alone)


def report_row(name, *latencies):
    """Prints p50 and p99 of lists of seconds."""
    import numpy as np

    figures = [
        1e3 * np.percentile(seconds, percent)
        for seconds in latencies
        for percent in (50, 99)
    ]
    print(f"{name:16}" + "".join(f"{it:7.2f} " for it in figures))


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
