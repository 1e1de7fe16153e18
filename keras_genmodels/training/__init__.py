"""Trains a model: `fit` with checkpoints that resume exactly."""
