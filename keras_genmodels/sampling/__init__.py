"""Loops over any denoiser: restoring, and generating from noise."""
