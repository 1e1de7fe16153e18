"""Plots that return pictures: uint8 arrays `[height, width, 3]`."""

from keras_genmodels.plots.grid import image_grid, save_png, titled

__all__ = [
    "image_grid",
    "save_png",
    "titled",
]
