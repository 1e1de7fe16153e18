"""What all models and denoisers share: seeds, files, errors, compiled loops."""
