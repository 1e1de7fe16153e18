"""Files for TensorBoard's embedding projector."""

import numpy as np
from tensorboard.plugins import projector

from keras_genmodels import plots
from keras_genmodels.core import files

_LARGEST_SPRITE = 8192


def write(directory, latents, images, labels=None, label_names=None):
    """Writes latents with thumbnails and labels for TensorBoard's projector.

    Args:
        directory: folder of a TensorBoard run.
        latents: float array `[n, latent_size]`.
        images: float array `[n, height, width, channels]` in [0, 1], the
            thumbnails.
        labels: int array `[n]`, or None.
        label_names: list of str, or None to show the labels' numbers.
    """
    directory = files.local_path(directory)
    height, width = images.shape[1:3]
    # The projector reads the thumbnails from one square picture.
    side = min(
        int(np.ceil(np.sqrt(len(latents)))),
        _LARGEST_SPRITE // max(height, width),
    )
    latents, images = latents[: side**2], images[: side**2]
    sprite = plots.image_grid(images, side, gap=0, smallest_tile=1)
    missing = side * height - sprite.shape[0]
    sprite = np.pad(sprite, ((0, missing), (0, 0), (0, 0)), constant_values=255)
    plots.save_png(directory / "sprite.png", sprite)
    with files.replacing(directory / "latents.tsv") as temporary:
        np.savetxt(temporary, latents, fmt="%.6g", delimiter="\t")
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add(
        tensor_name="posterior mean", tensor_path="latents.tsv"
    )
    embedding.sprite.image_path = "sprite.png"
    embedding.sprite.single_image_dim.extend([width, height])
    if labels is not None:
        names = [label_names[i] if label_names else str(i) for i in labels]
        with files.replacing(directory / "labels.tsv") as temporary:
            temporary.write_text("\n".join(names[: len(latents)]) + "\n")
        embedding.metadata_path = "labels.tsv"
    projector.visualize_embeddings(str(directory), config)
