"""A small gRPC server of exported models, for tests and for trying them.

It answers Predict and GetModelMetadata of TensorFlow Serving's
PredictionService, with the same loader and session. It is not TensorFlow
Serving: it does not batch requests, serves one version of each model, does not
look for new versions while it runs, and has no REST.
"""

import concurrent.futures
import contextlib

import grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.export.versions import versions_in
from keras_genmodels.serving.served_model import ServedModel
from keras_genmodels.serving.service import PredictionService

_MEGABYTE = 2**20


class Server:
    """Serves the newest version of each model in a folder.

    All models are loaded and answer their warm-up records before the server
    accepts requests. Beyond `num_workers` + `queue_size` requests at once,
    further ones are refused with RESOURCE_EXHAUSTED. XLA is disabled in the
    whole process, as by `Loader`.

    Args:
        export_dir: folder with `<name>/<integer>/`, as `export` writes it.
        host: address to listen on; by default this machine only.
        port: 0 for a free one.
        num_workers: number of requests answered at once.
        queue_size: number of requests that may wait.
        max_message_mb: maximum size of a request and of an answer, in MiB.

    Attributes:
        address: host:port.
        versions: dict of the models' names to their versions.

    Raises:
        UserError: if there is no model, a model cannot be loaded, it refuses
            a warm-up record, or the port is taken.
    """

    def __init__(
        self,
        export_dir,
        *,
        host="127.0.0.1",
        port=8500,
        num_workers=4,
        queue_size=64,
        max_message_mb=64,
    ):
        max_bytes = max_message_mb * _MEGABYTE
        with contextlib.ExitStack() as undo:
            models = {
                path.parent.name: undo.enter_context(
                    ServedModel(path, max_bytes)
                )
                for path in find_versions(export_dir)
            }
            self._pool = concurrent.futures.ThreadPoolExecutor(num_workers)
            self._server = grpc.server(
                self._pool,
                options=_options(max_bytes),
                maximum_concurrent_rpcs=num_workers + queue_size,
            )
            prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
                PredictionService(models), self._server
            )
            self.address = _bind(self._server, host, port)
            self._models = undo.pop_all()
        self.versions = {name: model.version for name, model in models.items()}
        self._server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, grace=5.0):
        """Stops the server after the running requests.

        Args:
            grace: seconds after which clients that still wait get an error.
        """
        self._server.stop(grace).wait()
        self._pool.shutdown(cancel_futures=True)
        self._models.close()


def find_versions(export_dir):
    """Lists the folder of the newest version of each model.

    Raises:
        UserError: if there is none.
    """
    with user_errors():
        export_dir = files.local_path(export_dir)
    newest = []
    for folder in sorted(export_dir.glob("*")):
        complete = [
            path
            for _, path in versions_in(folder)
            if (path / "saved_model.pb").is_file()
        ]
        newest += complete[-1:]
    if not newest:
        raise UserError(
            f"{export_dir} holds no exported model (NAME/VERSION/"
            "saved_model.pb): export one with python -m apps.export"
        )
    return newest


def _options(max_bytes):
    return [
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", max_bytes),
        # Otherwise a second server on the same port gets half of the requests.
        ("grpc.so_reuseport", 0),
    ]


def _bind(server, host, port):
    """Starts to listen, and returns the address."""
    host = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise UserError(
            f"cannot listen on {host}:{port}, perhaps because another server "
            "does: give another port, 0 for a free one"
        ) from error
    return f"{host}:{bound}"
