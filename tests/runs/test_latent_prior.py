"""What a run of a VAE's latents records, and finds changed on resuming."""

import dataclasses

import pytest
from support.small_vaes import make_vae
from support.tiny_data import tiny_data

import keras_genmodels as kgm
from keras_genmodels.runs import training
from keras_genmodels.runs.workdir import Workdir
from keras_genmodels.training import fit


def describe(vae, **settings):
    """Describes a run of a script on the latents of a VAE."""
    network = kgm.mlp_denoiser((vae.latent_size,), hidden_sizes=(4,))
    denoiser = kgm.DenoisingAutoencoder(network, **settings)
    model = kgm.LatentDiffusion(vae, denoiser)
    options = fit.Options(epochs=1, steps_per_epoch=2)
    data = tiny_data(9, 4)
    return training._describe(model, data, options, None, "none", 0, 4, None)


def test_another_vae_and_other_settings_are_refused(tmp_path):
    workdir, vae = Workdir(tmp_path / "run"), make_vae()
    run = describe(vae, sigma=(0.1, 1.0))
    workdir.path.mkdir()
    run.write(workdir.run)
    assert workdir.read_run() == run
    workdir.check(describe(vae, sigma=(0.1, 1.0)))
    with pytest.raises(kgm.UserError, match=r"denoiser\.sigma=0\.1,2\.0 \(was"):
        workdir.check(describe(vae, sigma=(0.1, 2.0)))
    vae.set_weights([weight + 1 for weight in vae.get_weights()])
    with pytest.raises(kgm.UserError, match="trained anew"):
        workdir.check(describe(vae, sigma=(0.1, 1.0)))


def test_a_run_of_an_older_version_records_neither_and_goes_on(tmp_path):
    workdir, run = Workdir(tmp_path / "run"), describe(make_vae())
    own = {k: v for k, v in run.settings.items() if k.startswith("denoiser.")}
    assert own
    rest = {k: v for k, v in run.settings.items() if k not in own}
    workdir.path.mkdir()
    dataclasses.replace(run, vae=None, settings=rest).write(workdir.run)
    workdir.check(run, own)
