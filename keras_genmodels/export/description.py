"""What an export tells of itself: assets.extra/model.json."""

import pathlib

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError

EXTRA = "assets.extra"


DESCRIPTION = "model.json"


def read_description(version):
    """Reads the model.json of a version.

    Args:
        version: folder.

    Raises:
        UserError: if it is not of an export of this package.
    """
    path = pathlib.Path(version, EXTRA, DESCRIPTION)
    description = files.read_json(path)
    if not isinstance(description, dict) or "signatures" not in description:
        raise UserError(
            f"{version} is no version that `export` wrote: it has no "
            f"{EXTRA}/{DESCRIPTION} that tells of signatures; give a folder "
            "<export_dir>/<name>/<integer>"
        )
    return description
