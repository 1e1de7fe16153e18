"""Curves of the report, read from the scalars of a run."""

import xml.etree.ElementTree as ET

import numpy as np
import tensorflow as tf
from support.curve_values import CURVES

from keras_genmodels.reports import curves as report_curves


def write_scalars(folder, values, suffix):
    writer = tf.summary.create_file_writer(str(folder), filename_suffix=suffix)
    with writer.as_default():
        for step, value in values.items():
            tf.summary.scalar("epoch_elbo", value, step)
            tf.summary.scalar("epoch_learning_rate", 0.1, step)
            tf.summary.scalar("other", value, step)
            tf.summary.image("picture", np.zeros((1, 8, 8, 3)), step)
    writer.close()


def test_curves_of_a_resumed_run_have_one_value_per_epoch(tmp_path):
    write_scalars(tmp_path / "train", {0: -3.0, 1: -2.0}, "a")
    write_scalars(tmp_path / "train", {1: -2.5, 2: -1.0}, "b")
    write_scalars(tmp_path / "validation", {0: -4.0}, "a")
    assert report_curves.read(tmp_path) == {
        "elbo": {
            "train": [(1, -3.0), (2, -2.5), (3, -1.0)],
            "validation": [(1, -4.0)],
        }
    }


def test_curves_of_the_psnr_are_read_for_each_noise_level(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path / "pictures"))
    with writer.as_default():
        for step in (0, 3):
            tf.summary.scalar("psnr/sigma_0.25", 20.0 + step, step)
            tf.summary.image("denoising", np.zeros((1, 8, 8, 3)), step)
    writer.close()
    assert report_curves.read(tmp_path) == {
        "psnr at sigma 0.25": {"validation": [(1, 20.0), (4, 23.0)]}
    }


def test_a_curve_is_a_reproducible_svg():
    runs = {"a": CURVES, "b": {}}
    picture = report_curves.draw(runs, "elbo")
    root = ET.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert picture == report_curves.draw(runs, "elbo")
    assert picture != report_curves.draw(runs, "rate")
