"""Serves exported models over gRPC, to try them without a container.

  python -m apps.serve                       # all of saved_models
  python -m apps.serve --export_dir=DIR --port=0

A small local server: it answers TensorFlow Serving's Predict and
GetModelMetadata, by the loader and session that TensorFlow Serving has, for
the newest version of each model. It does not imitate the rest: batching,
several versions, new versions while it runs, REST. Only this machine can ask
it, unless --host says otherwise: it has no encryption and asks for no
password.

It prints its address once it answers, and ends by Ctrl-C or SIGTERM. It needs
the extra `serving`.
"""

import contextlib
import os
import signal
import time

from absl import flags

from .cli import flag_types, guard

FLAGS = flags.FLAGS

flag_types.define_path(
    "export_dir", "saved_models", "With NAME/VERSION/ as exports make it."
)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
flags.DEFINE_integer(
    "port", 8500, "0 for a free one.", lower_bound=0, upper_bound=65535
)
flags.DEFINE_integer(
    "num_workers", 4, "Requests answered at once.", lower_bound=1
)
flags.DEFINE_integer(
    "queue_size",
    64,
    "Requests that may wait; more are refused.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "max_message_mb",
    64,
    "The largest request and answer, in MiB.",
    lower_bound=1,
    upper_bound=2047,
)


def main():
    """Serves until it is told to end."""
    # What it has to say of a port is said below, in one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    guard.load_tensorflow()
    from keras_genmodels import serving

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        serving.Server(
            FLAGS.export_dir,
            host=FLAGS.host,
            port=FLAGS.port,
            num_workers=FLAGS.num_workers,
            queue_size=FLAGS.queue_size,
            max_message_mb=FLAGS.max_message_mb,
        ) as server,
        contextlib.suppress(KeyboardInterrupt),
    ):
        models = ", ".join(f"{k} ({v})" for k, v in server.versions.items())
        print(f"Serving {models} at {server.address}", flush=True)
        while True:
            # In parts: a signal just before one would wait for its end.
            time.sleep(1)
    print("Ended.")


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
