"""A workdir's description of its run, and the model in it."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.small_vaes import make_vae

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.core.errors import UserError
from keras_genmodels.runs.description import RunDescription
from keras_genmodels.runs.workdir import Workdir, load_model

SETTINGS = {"beta": 1.0, "hidden_sizes": [20, 30], "warmup": False}
DIGITS = datasets.Source("digits", "/a", (9, 9), 0.1, 3)
RUN = RunDescription(
    kind="VAE",
    data="digits",
    fingerprint="5 images",
    source=DIGITS,
    label_names=("0", "1"),
    binarization="dynamic",
    seed=3,
    epochs=3,
    settings=SETTINGS,
    program="train_vae",
)
OLD = pathlib.Path(__file__).parents[1] / "data" / "run_of_version_0_2"


def changed(run=RUN, settings=None, **fields):
    settings = {**run.settings, **(settings or {})}
    return dataclasses.replace(run, settings=settings, **fields)


def test_run_json_holds_the_whole_description(tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.check(RUN)
    workdir.claim(RUN)
    assert workdir.read_run() == RUN
    assert RUN.versions["keras_genmodels"] == kgm.__version__
    workdir.claim(RUN)


def test_flags_txt_repeats_the_command(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(RUN)
    assert workdir.flags.read_text().splitlines() == [
        "--dataset=digits",
        "--data_dir=/a",
        "--image_size=9,9",
        "--validation_split=0.1",
        "--binarization=dynamic",
        "--seed=3",
        "--epochs=3",
        "--beta=1.0",
        "--hidden_sizes=20,30",
        "--warmup=false",
    ]


def test_a_run_of_a_script_has_no_flags_txt(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(changed(program=None))
    assert not workdir.flags.exists()
    with pytest.raises(UserError, match=r": beta=2\.0 \(was 1\.0\)"):
        workdir.check(changed(program=None, settings={"beta": 2.0}))
    with pytest.raises(UserError, match=r"\(VAE, not ConditionalVAE\)"):
        workdir.check(changed(program=None, kind="ConditionalVAE"))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (changed(settings={"beta": 2.0}), r"beta=2\.0 \(was 1\.0\)"),
        (changed(settings={"posterior": "full"}), r"full \(was not given\)"),
        (changed(binarization=None), r"binarization= \(was dynamic\)"),
        (changed(seed=4), r"seed=4 \(was 3\)"),
        (changed(program="train_dae"), r"another program \(train_vae\)"),
        (changed(fingerprint="6 images"), "other data: 5 images, now 6"),
    ],
)
def test_another_run_is_refused_by_what_differs(tmp_path, other, named):
    workdir = Workdir(tmp_path)
    workdir.claim(RUN)
    before = workdir.run.read_bytes(), workdir.flags.read_bytes()
    for use in (workdir.check, workdir.claim):
        with pytest.raises(UserError, match=named):
            use(other)
    assert (workdir.run.read_bytes(), workdir.flags.read_bytes()) == before


def test_epochs_may_grow_and_not_shrink(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(RUN)
    workdir.claim(changed(epochs=9))
    assert workdir.read_run().epochs == 9
    with pytest.raises(UserError, match="of 9 epochs: epochs=8"):
        workdir.claim(changed(epochs=8))


@pytest.mark.parametrize("name", ["digits", "image_folder"])
def test_data_may_move(tmp_path, name):
    workdir = Workdir(tmp_path)
    source = dataclasses.replace(DIGITS, name=name)
    moved = dataclasses.replace(source, data_dir="/b")
    workdir.claim(changed(source=source))
    workdir.claim(changed(source=moved))
    assert workdir.read_run().source.data_dir == "/b"
    if name == "image_folder":
        other = changed(source=source, fingerprint="6 images")
        with pytest.raises(UserError, match=": data_dir=/a"):
            workdir.claim(other)


def test_a_file_may_move(tmp_path):
    workdir = Workdir(tmp_path)
    paths = ("/a/x.npz", "/b/x.npz", "/b/y.npz")
    run, moved, other = (
        changed(source=dataclasses.replace(DIGITS, name=name, data_dir=None))
        for name in paths
    )
    workdir.claim(run)
    workdir.claim(moved)
    with pytest.raises(UserError, match=r"dataset=/b/y\.npz"):
        workdir.claim(other)


def test_the_labels_and_the_white_level_of_the_data_are_recorded(tmp_path):
    workdir = Workdir(tmp_path)
    deep = dataclasses.replace(DIGITS, white_level=4095)
    run = changed(source=deep, training_labels=(1, 2, 4))
    workdir.claim(run)
    assert workdir.read_run() == run
    assert "--white_level=4095" in workdir.flags.read_text().splitlines()
    with pytest.raises(UserError, match=r"white_level= \(was 4095\)"):
        workdir.check(RUN)


def test_runs_of_version_0_3_have_no_labels_and_no_white_level(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(RUN)
    content = json.loads(workdir.run.read_text())
    del content["data"]["training_labels"]
    del content["data"]["source"]["white_level"]
    workdir.run.write_text(json.dumps(content))
    assert workdir.read_run() == RUN
    workdir.claim(RUN)


def test_settings_that_a_run_does_not_record_are_assumed(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(RUN)
    now = changed(settings={"filters": 16})
    with pytest.raises(UserError, match=r"filters=16 \(was not given\)"):
        workdir.check(now)
    assumed = {"filters": 16, "other": 1}
    workdir.claim(now, assumed)
    with pytest.raises(UserError, match=r"filters=8 \(was 16\)"):
        workdir.check(changed(settings={"filters": 8}), assumed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no run\.json"),
        ("{", "not JSON"),
        ('{"format": 1}', "damaged"),
        ('{"format": 99}', "newer version"),
    ],
)
def test_a_run_json_that_cannot_be_read_is_an_error(tmp_path, content, message):
    workdir = Workdir(tmp_path)
    if content:
        workdir.run.write_text(content)
    with pytest.raises(UserError, match=message):
        workdir.read_run()


def test_a_run_of_version_0_2_is_described():
    run = Workdir(OLD).read_run()
    assert (run.kind, run.program, run.epochs) == ("VAE", "train_vae", 1)
    assert run.source == datasets.Source("digits")
    assert run.fingerprint == "1365+72+360 images, checksum 5ec60aff"
    assert run.label_names == tuple(map(str, range(10)))
    assert run.binarization == "dynamic"
    assert run.settings["beta"] == "1.0"
    assert run.versions["keras_genmodels"] == "0.2.2"


def test_flags_that_changed_since_version_0_2_are_converted(tmp_path):
    lines = ["# program=train_dae", "# data=5 images", "--denoiser=linear"]
    lines += ["--dataset=/x.npz", "--image_size=9", "--copies=1", "--seed=3"]
    (tmp_path / "flags.txt").write_text("\n".join(lines))
    run = Workdir(tmp_path).read_run()
    assert run.kind == "LinearDenoiser"
    assert run.source == datasets.Source("/x.npz", None, (9, 9), 0.0, 3)
    assert run.settings == {
        "denoiser": "linear",
        "num_noise_draws": "1",
        "gradient_clip_norm": "0.0",
    }


def test_data_are_loaded_as_they_were_and_checked(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", image=images)
    data = datasets.load(f"{tmp_path}/x.npz", validation_split=0.2, seed=7)
    run = RunDescription("VAE", data.name, data.fingerprint(), data.source)
    assert run.load_data().fingerprint() == data.fingerprint()
    (tmp_path / "moved").mkdir()
    (tmp_path / "x.npz").rename(tmp_path / "moved" / "x.npz")
    moved = run.load_data(f"{tmp_path}/moved")
    assert moved.fingerprint() == data.fingerprint()
    np.savez(tmp_path / "x.npz", image=images[::-1])
    with pytest.raises(UserError, match="other data"):
        run.load_data()
    with pytest.raises(UserError, match="script"):
        changed(source=None).load_data()


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


@pytest.mark.slow
def test_a_kind_of_another_module_is_named_and_not_imported(tmp_path):
    """No file decides which code is run."""
    module = tmp_path / "users_vae.py"
    module.write_text(
        "import keras\n"
        "import keras_genmodels as kgm\n"
        "@keras.saving.register_keras_serializable('users')\n"
        "class UsersVAE(kgm.VAE):\n"
        "    pass\n"
    )
    make_run = (
        "import sys; sys.path.insert(0, {folder!r})\n"
        "import keras, numpy as np, keras_genmodels as kgm\n"
        "from keras_genmodels import datasets, runs\n"
        "from users_vae import UsersVAE\n"
        "data = datasets.load('digits')\n"
        "posterior = kgm.MultivariateNormalDiag(2)\n"
        "likelihood = kgm.IndependentBernoulli(data.image_shape)\n"
        "model = UsersVAE(\n"
        "    kgm.mlp_encoder(data.image_shape, posterior.params_size),\n"
        "    kgm.mlp_decoder(2, likelihood.params_shape),\n"
        "    posterior, likelihood)\n"
        "workdir = runs.Workdir({workdir!r})\n"
        "run = runs.RunDescription.of(model, data)\n"
        "workdir.path.mkdir()\n"
        "run.write(workdir.run)\n"
        "model.save(workdir.model)\n"
    )
    script = make_run.format(
        folder=str(tmp_path), workdir=str(tmp_path / "run")
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(UserError, match="--import_module=users_vae"):
        Workdir(tmp_path / "run").load_model()
    assert "users_vae" not in sys.modules
