"""Where patches are in the pictures that they were drawn from."""

import numpy as np


def places_of(images, pictures, symmetries=1):
    """Returns where each patch is in the pictures.

    Args:
        images: patches `[side, side]` of integers.
        pictures: list of arrays `[height, width]`, whose patches all differ.
        symmetries: 1, 4 or 8: as they are, turned, or flipped too.

    Returns:
        List of (number of the picture, row, column, 4 * flip + turns).
    """
    side, everything = len(images[0]), {}
    for number, of_one in enumerate(pictures):
        for row in range(of_one.shape[0] - side + 1):
            for column in range(of_one.shape[1] - side + 1):
                patch = of_one[row : row + side, column : column + side]
                flips = (patch, patch[:, ::-1])[: 1 + (symmetries > 1)]
                for flip, flipped in enumerate(flips):
                    for turns in range(min(symmetries, 4)):
                        key = np.rot90(flipped, turns).tobytes()
                        place = (number, row, column, 4 * flip + turns)
                        everything[key] = place
    return [everything[np.ascontiguousarray(it).tobytes()] for it in images]
