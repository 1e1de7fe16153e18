"""What a workdir takes, and what it says about what it finds."""

import keras
import pytest
from support.small_vaes import make_vae

from keras_genmodels.core.errors import UserError
from keras_genmodels.runs.workdir import Workdir, load_model

FLAGS = {"beta": "1.0", "epochs": "3"}


def run(**flags):
    return {"program": "train_vae", "data": "5 images", "flags": flags}


def test_flags_are_kept_as_a_flag_file(tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.check(**run(**FLAGS))
    workdir.claim(**run(**FLAGS))
    assert workdir.flags.read_text() == (
        "# program=train_vae\n# data=5 images\n--beta=1.0\n--epochs=3\n"
    )
    assert workdir.read_flags() == FLAGS
    workdir.claim(**run(**FLAGS))


def test_another_run_is_refused_and_told_apart(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(**run(**FLAGS))
    before = workdir.flags.read_text()
    for use in (workdir.check, workdir.claim):
        with pytest.raises(UserError, match=r"--beta=2\.0 \(was 1\.0\)"):
            use(**run(**{**FLAGS, "beta": "2.0"}))
        with pytest.raises(UserError, match=r"another program \(train_vae\)"):
            use(**{**run(**FLAGS), "program": "train_dae"})
        with pytest.raises(UserError, match="other data: 5 images, now 6"):
            use(**{**run(**FLAGS), "data": "6 images"})
    with pytest.raises(UserError, match="of 3 epochs: --epochs=2"):
        workdir.claim(**run(**{**FLAGS, "epochs": "2"}))
    assert workdir.flags.read_text() == before


def test_a_flag_given_once_only_is_a_contradiction(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(**run(image_size="9", **FLAGS))
    with pytest.raises(UserError, match=r"--image_size.*was 9"):
        workdir.check(**run(**FLAGS))
    with pytest.raises(UserError, match=r"--posterior=full \(was not"):
        workdir.check(**run(image_size="9", posterior="full", **FLAGS))


def test_free_flags_may_change_and_epochs_may_grow(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(**run(data_dir="/a", **FLAGS))
    longer = run(**{**FLAGS, "data_dir": "/b", "epochs": "9"})
    with pytest.raises(UserError, match="--data_dir=/b"):
        workdir.claim(**longer)
    workdir.claim(**longer, free=("data_dir",))
    assert workdir.read_flags()["epochs"] == "9"


def test_flags_that_are_missing_are_told(tmp_path):
    with pytest.raises(UserError, match=r"holds no flags\.txt"):
        Workdir(tmp_path).read_flags()


def test_a_model_comes_back(tmp_path):
    workdir = Workdir(tmp_path)
    make_vae().save(workdir.model)
    assert type(workdir.load_model()).__name__ == "VAE"


def test_what_is_no_model_is_refused_in_a_line(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(UserError, match="no directory"):
        Workdir(tmp_path / "none").load_model()
    with pytest.raises(UserError, match="holds no model"):
        Workdir(tmp_path).load_model()
    with pytest.raises(UserError, match="no file"):
        load_model(path)
    path.write_text("not a model")
    with pytest.raises(UserError, match="not a Keras model"):
        load_model(path)
    make_vae().save(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="cut short"):
        load_model(path)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(UserError, match="holds a Sequential"):
        load_model(path)


def test_no_code_is_run_from_a_file(tmp_path):
    path = tmp_path / "model.keras"
    keras.Sequential(
        [keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)]
    ).save(path)
    with pytest.raises(UserError, match="can't read") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_flags_that_there_were_not_yet_are_as_they_were_in_effect(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(**run(**FLAGS))
    now = {**FLAGS, "filters": "16"}
    with pytest.raises(UserError, match=r"--filters=16 \(was not given\)"):
        workdir.check(**run(**now))
    assumed = {"filters": "16", "other": "1"}
    workdir.check(**run(**now), assumed=assumed)
    workdir.claim(**run(**now), assumed=assumed)
    with pytest.raises(UserError, match=r"--filters=8 \(was 16\)"):
        workdir.check(**run(**{**FLAGS, "filters": "8"}), assumed=assumed)
