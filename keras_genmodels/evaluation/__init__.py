"""Evaluates a model on data: sections of measures."""
