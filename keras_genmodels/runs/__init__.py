"""Runs: a workdir, what is written to it, what is read from it."""
