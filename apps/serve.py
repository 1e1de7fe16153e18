"""Serves exported models over gRPC, to try them without a container.

  python -m apps.serve                       # all models in saved_models
  python -m apps.serve --export_dir=DIR --port=0

A small local server. It answers TensorFlow Serving's Predict and
GetModelMetadata, with the loader and session of TensorFlow Serving, for the
newest version of each model. It has no batching, serves one version of each
model, does not look for new versions while it runs, and has no REST. Unless
--host is given, only this machine can connect: there is no encryption and no
password.

It prints its address once it is ready, and stops on Ctrl-C or SIGTERM. It
needs the extra `serving`.
"""

import contextlib
import os
import signal
import time

from absl import flags

from .cli import flag_types, guard
from .cli.config import Config

flag_types.define_path(
    "export_dir", "saved_models", "Folder with NAME/VERSION/ of each model."
)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
flags.DEFINE_integer(
    "port", 8500, "0 for a free one.", lower_bound=0, upper_bound=65535
)
flags.DEFINE_integer(
    "num_workers", 4, "Number of requests answered at once.", lower_bound=1
)
flags.DEFINE_integer(
    "queue_size",
    64,
    "Number of requests that may wait; further ones are refused.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "max_message_mb",
    64,
    "Maximum size of a request and of an answer, in MiB.",
    lower_bound=1,
    upper_bound=2047,
)


def main():
    """Serves until the process gets a signal to stop."""
    # gRPC logs a port in use, which is reported below in one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    config = Config.read(__name__)
    guard.load_tensorflow()
    from keras_genmodels import serving

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        serving.Server(
            config.export_dir,
            host=config.host,
            port=config.port,
            num_workers=config.num_workers,
            queue_size=config.queue_size,
            max_message_mb=config.max_message_mb,
        ) as server,
        contextlib.suppress(KeyboardInterrupt),
    ):
        models = ", ".join(f"{k} ({v})" for k, v in server.versions.items())
        print(f"Serving {models} at {server.address}", flush=True)
        while True:
            # A signal just before the call is handled at its end.
            time.sleep(1)
    print("Stopped.")


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
