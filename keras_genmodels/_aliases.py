"""Old module paths that still work in this version, with a DeprecationWarning.

`MODULES` is the one table. A version from now this file is deleted.
"""

import importlib
import importlib.abc
import importlib.util
import sys
import warnings

_ROOT = "keras_genmodels"

# Old path: the modules that its names moved to, below the package.
MODULES = {
    "attractor_plots": ("plots.attractors",),
    "corruptions": ("operators",),
    "denoiser_networks": ("networks.denoisers",),
    "distribution_layers": ("distributions.layers",),
    "errors": ("core.errors",),
    "evaluation": (
        "core.arrays",
        "metrics.estimates",
        "metrics.image_quality",
        "metrics.denoising",
        "metrics.likelihood",
        "metrics.old_names",
    ),
    "label_metrics": ("metrics.labels", "metrics.old_names"),
    "latent_evaluation": ("metrics.old_names",),
    "likelihood": ("models.likelihood",),
    "models": ("denoisers",),
    "models.cvae": ("models.conditional_vae",),
    "models.dae": ("denoisers.autoencoder",),
    "noise_schedules": ("sampling.schedules",),
    "restoration": ("sampling.restoration", "sampling.generation"),
    "sample_metrics": ("metrics.sample_quality",),
    "seeds": ("core.seeds",),
    "serving.loader": ("export.loader",),
    "serving.replay": ("export.replay",),
    "training": ("training.fit",),
    "workdir": ("runs.workdir",),
}


def names_of(old):
    """Returns the `__getattr__` of a package that some names moved out of.

    Args:
        old: str, the package's `__name__`; below keras_genmodels it is a key
            of `MODULES`.

    Returns:
        function of a name: the object of that name in one of the new modules,
        after a DeprecationWarning.
    """
    old = old.removeprefix(f"{_ROOT}.")

    def find(name):
        # `from package import submodule` first asks for an attribute.
        submodule = f"{_ROOT}.{old}.{name}"
        if importlib.util.find_spec(submodule) is not None:
            raise AttributeError(f"{submodule} is not imported yet")
        new = _home(old, name)
        _warn(f"{old}.{name}", f"{new.__name__}.{name}")
        return getattr(new, name)

    return find


def module_of(name):
    """Returns the module at an old path: the `__getattr__` of the root.

    Raises:
        AttributeError: if there was none.
    """
    if name not in MODULES:
        raise AttributeError(f"module {_ROOT} has no attribute {name}")
    _warn_of_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(f"{_ROOT}.{name}")


def install():
    """Makes the old paths importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the old paths at which there is no module any more."""

    def find_spec(self, fullname, path=None, target=None):
        """Returns the spec of an old path, None for any other module."""
        root, _, old = fullname.partition(".")
        if root != _ROOT or old not in MODULES:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def exec_module(self, module):
        """Lets the module look each name up in the modules it moved to."""
        old = module.__name__.removeprefix(f"{_ROOT}.")
        _warn_of_module(old)
        module.__getattr__ = lambda name: getattr(_home(old, name), name)


def _home(old, name):
    """Returns the new module that holds a name of an old one."""
    # Python asks every module for some of these.
    if not name.startswith("__"):
        for new in MODULES[old]:
            module = importlib.import_module(f"{_ROOT}.{new}")
            if hasattr(module, name):
                return module
    raise AttributeError(f"module {_ROOT}.{old} has no attribute {name}")


def _warn_of_module(old):
    new = " or ".join(f"{_ROOT}.{name}" for name in MODULES[old])
    _warn(old, new, stacklevel=4)


def _warn(old, new, stacklevel=3):
    warnings.warn(
        f"{_ROOT}.{old} is deprecated and goes with version 0.4: use {new}",
        DeprecationWarning,
        stacklevel=stacklevel,
    )
