"""Packages keras_genmodels; the apps go in as keras_genmodels_apps."""

import pathlib
import re

from setuptools import find_packages, setup

VERSION = re.search(
    r'__version__ = "(.+)"',
    pathlib.Path("keras_genmodels/_version.py").read_text("utf-8"),
)[1]

# Each pair of bounds holds the versions that the tests were run with.
REQUIRED = [
    "absl-py>=2.1,<3",
    "filelock>=3.16,<5",
    "importlib_resources>=6",  # tensorflow-datasets uses it, undeclared
    "jinja2>=3.1,<4",
    "keras>=3.15,<3.16",
    "matplotlib>=3.9,<4",
    "numpy>=1.26,<3",
    "PyWavelets>=1.6,<2",  # noise levels and wavelets of scikit-image
    "pillow>=11,<14",
    "psutil>=5.9,<8",
    "scikit-image>=0.24,<1",
    "scikit-learn>=1.5,<2",
    "scipy>=1.15,<2",
    "tensorboard>=2.20,<2.22",
    "tensorflow>=2.21,<2.22",
    "tensorflow-datasets>=4.9.10,<4.10",
    "tensorflow-probability>=0.25,<0.26",
    "tf-keras>=2.21,<2.22",  # tensorflow-probability does not import without
    "threadpoolctl>=3.1,<4",
    "tifffile>=2024.8,<2027",
    "tqdm>=4.66,<5",
]
SERVING = ["tensorflow-serving-api>=2.19,<2.22"]
TEST = [
    "import-linter>=2.17,<3",
    "pytest>=8,<10",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.12,<1",
    *SERVING,
]
# What benchmarks and apps.evaluate compare with, and run lowered programs by;
# they run without. The licence of bm3d is for non-commercial use.
BENCH = [
    "bm3d>=4,<5",
    "jax>=0.4,<1",
    "pythae>=0.1.2,<0.2",
    "torch>=2.2,<3",
    *SERVING,
]

setup(
    name="keras_genmodels",
    version=VERSION,
    description=(
        "Variational and denoising autoencoders on Keras 3 with TensorFlow "
        "Probability"
    ),
    long_description=pathlib.Path("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=[
        *find_packages(include=["keras_genmodels", "keras_genmodels.*"]),
        "keras_genmodels_apps",
        *(f"keras_genmodels_apps.{name}" for name in find_packages("apps")),
    ],
    # Nothing named `apps` at the top level of site-packages, and no import of
    # TensorFlow on the way to an app's --help.
    package_dir={"keras_genmodels_apps": "apps"},
    package_data={
        "keras_genmodels": ["py.typed"],
        "keras_genmodels.reports": ["report.html.j2", "style.css"],
    },
    install_requires=REQUIRED,
    extras_require={"test": TEST, "serving": SERVING, "bench": BENCH},
    entry_points={
        "console_scripts": [
            "kgm-train-vae = keras_genmodels_apps.train_vae:run",
            "kgm-train-cvae = keras_genmodels_apps.train_cvae:run",
            "kgm-train-hvae = keras_genmodels_apps.train_hvae:run",
            "kgm-train-dae = keras_genmodels_apps.train_dae:run",
            "kgm-generate = keras_genmodels_apps.generate:run",
            "kgm-encode = keras_genmodels_apps.encode:run",
            "kgm-evaluate = keras_genmodels_apps.evaluate:run",
            "kgm-restore = keras_genmodels_apps.restore:run",
            "kgm-export = keras_genmodels_apps.export:run",
            "kgm-serve = keras_genmodels_apps.serve:run",
            "kgm-query = keras_genmodels_apps.query:run",
        ]
    },
)
