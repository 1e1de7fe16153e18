"""assets.extra/model.json: what an exported version says of itself."""

import pathlib

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.export import description_0_2

EXTRA = "assets.extra"
DESCRIPTION = "model.json"
# 1 is that of keras_genmodels 0.2, which does not write it.
FORMAT = 2


def read_description(version):
    """Reads the model.json of a version.

    Args:
        version: folder <export_dir>/<name>/<integer>.

    Returns:
        dict in the present format, also if the version was exported by
        keras_genmodels 0.2.

    Raises:
        UserError: if the folder was not written by `export`, or by a newer
            version of it.
    """
    path = pathlib.Path(version, EXTRA, DESCRIPTION)
    with user_errors():
        description = files.read_json(path)
    if not isinstance(description, dict) or "signatures" not in description:
        raise UserError(
            f"{version} is no version that `export` wrote: it has no "
            f"{EXTRA}/{DESCRIPTION} with signatures; give a folder "
            "<export_dir>/<name>/<integer>"
        )
    if "format" not in description:
        return {**description_0_2.upgraded(description), "format": FORMAT}
    if description["format"] > FORMAT:
        raise UserError(
            f"{path} has format {description['format']}, and this version of "
            f"keras_genmodels reads formats up to {FORMAT}: update it"
        )
    return description
