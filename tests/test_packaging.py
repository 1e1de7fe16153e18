"""The wheel holds all files of the packages, and a command for each app."""

import configparser
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Folders here, and what they are called in the wheel.
PACKAGES = {
    "keras_genmodels": "keras_genmodels",
    "apps": "keras_genmodels_apps",
}


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


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        f"{installed}/{path.relative_to(ROOT / folder)}"
        for folder, installed in PACKAGES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


def test_every_app_has_a_command(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    entries = configparser.ConfigParser()
    entries.read_string(wheel.read(name).decode())
    commands = dict(entries["console_scripts"])
    apps = {
        path.stem
        for path in (ROOT / "apps").glob("*.py")
        if path.stem != "__init__"
    }
    assert set(commands.values()) == {
        f"keras_genmodels_apps.{app}:run" for app in apps
    }
    assert {f"kgm-{app.replace('_', '-')}" for app in apps} == set(commands)
