"""Fixed points of a denoiser: where they are, what they attract."""
