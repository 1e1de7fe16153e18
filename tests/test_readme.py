"""What the README shows works as it stands there."""

import pathlib
import re

README = pathlib.Path(__file__).parent.parent / "README.md"


SCRIPTS = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


def run(script, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(script, "README.md", "exec"), names)
    return names


def test_no_script_is_left_out():
    assert len(SCRIPTS) == 3


def test_the_script_of_the_vae_runs(tmp_path, monkeypatch):
    names = run(SCRIPTS[0], tmp_path, monkeypatch)
    assert names["rate"].shape == names["elbo"].shape == (360,)
    assert names["images"].shape == (360, 8, 8, 1)
    assert names["samples"].shape == (16, 8, 8, 1)
    assert names["samples"].numpy().min() >= 0
    assert names["samples"].numpy().max() <= 1


def test_the_script_of_the_conditional_model_runs(tmp_path, monkeypatch):
    names = run(SCRIPTS[1], tmp_path, monkeypatch)
    assert names["images"].shape == (4, 8, 8, 1)
    assert names["threes"].shape == names["any_digit"].shape == (16, 8, 8, 1)
    # Of the same images; the bound of one draw scatters about its mean.
    assert names["elbo"].shape == names["nats"].shape == (4,)
    assert names["nats"].numpy().mean() > names["elbo"].numpy().mean()


def test_the_script_of_the_denoisers_runs(tmp_path, monkeypatch):
    names = run(SCRIPTS[2], tmp_path, monkeypatch)
    assert names["denoised"].shape == names["way"].x.shape == (16, 8, 8, 1)
    assert names["probabilities"].shape == names["indices"].shape == (16, 5)
    # What the exact denoiser generates are stored images.
    assert names["copies"].rate > 0.9
    assert names["basin"].smallest[0] > 0
    # The update at a stored image's place is all but constant.
    assert abs(names["spectrum"].spectral_radius[0]) < 1
    assert names["picture"].dtype == "uint8"
