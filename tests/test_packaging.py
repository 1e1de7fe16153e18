"""The wheel holds what it must, under names that are ours."""

import configparser
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("keras_genmodels", "apps", "tests"):
        shutil.copytree(
            ROOT / name,
            source / name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet"]
    command += ["--no-build-isolation", "-w", str(source / "dist"), "."]
    subprocess.run(command, cwd=source, check=True)
    (path,) = (source / "dist").iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_every_module_is_there_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "keras_genmodels").rglob("*.py")
    }
    expected |= {
        f"keras_genmodels_apps/{path.name}"
        for path in (ROOT / "apps").glob("*")
        if path.suffix == ".py"
    }
    assert names == expected | {"keras_genmodels/py.typed"}
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


def test_every_app_has_a_command(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    entries = configparser.ConfigParser()
    entries.read_string(wheel.read(name).decode())
    commands = dict(entries["console_scripts"])
    apps = {
        path.stem
        for path in (ROOT / "apps").glob("*.py")
        if path.stem not in ("__init__", "guard")
        and not path.stem.endswith("_flags")
    }
    assert set(commands.values()) == {
        f"keras_genmodels_apps.{app}:run" for app in apps
    }
    assert {f"kgm-{app.replace('_', '-')}" for app in apps} == set(commands)
