"""Command-line programs; installed as `keras_genmodels_apps`."""
