"""Evaluations of runs to one HTML page, and to tables of text."""
