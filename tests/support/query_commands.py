"""Command lines of apps.query, and a script that runs them against a server."""

COMMANDS = """
import contextlib, io, json, sys
from absl.testing import flagsaver
from apps import query
from apps.cli import guard
guard.FLAGS(["query"])
guard.load_tensorflow()
from keras_genmodels import serving
with serving.Server(sys.argv[1], port=0) as server:
    for argv in json.load(sys.stdin):
        printed, error = io.StringIO(), None
        with flagsaver.flagsaver(), contextlib.redirect_stdout(printed):
            try:
                guard.FLAGS(["query", f"--address={server.address}", *argv])
                guard._call(query.main, "query")
            except SystemExit as end:
                error = str(end)
        print(json.dumps([printed.getvalue(), error]))
"""


# Inputs: {pictures}, {arrays}, {grey_levels}, {latents}, {spoilt}; outputs go
# to {folder}.
COMMAND_LINES = {
    "generate": "--num_images=5 --seed=1 --output={folder}/generate.png",
    "arrays": "--num_images=40 --seed=1 --output={folder}/generate.npz",
    "label": "--model=cvae --label=2 --num_images=2 "
    "--output={folder}/label.npz",
    "guided": "--model=by_label --label=2 --num_images=3 --num_steps=4 "
    "--guidance=1 --output={folder}/guided.npz",
    "denoise by label": "--model=by_label --signature=denoise --label=1 "
    "--input={pictures} --sigma=0.3 --output={folder}/by_label.npz",
    "complete": "--model=completion --input={pictures} "
    "--output={folder}/complete.npz",
    "restore": "--model=denoiser --signature=restore --input={pictures} "
    "--sigma=0.3 --output={folder}/restored",
    "sheet": "--model=denoiser --signature=restore --input={pictures} "
    "--sigma=0.3 --step_size=0.5 --max_steps=2 --tolerance=0 "
    "--num_images=2 --output={folder}/sheet.png",
    "denoise": "--model=denoiser --signature=denoise --input={arrays} "
    "--sigma=0.3 --output={folder}/denoised.npz",
    "noise": "--model=denoiser --signature=noise --input={arrays} "
    "--sigma=0.3 --output={folder}/noise.npz",
    "encode": "--signature=encode --input={pictures} --binarize "
    "--output={folder}/z.npz",
    "decode": "--signature=decode --input={folder}/z.npz "
    "--output={folder}/decoded.npz",
    "reconstruct": "--signature=reconstruct --input={pictures} --binarize "
    "--output={folder}/reconstructed.npz",
    "log_likelihood": "--signature=log_likelihood --input={pictures} "
    "--binarize --seed=2 --output={folder}/nats.npz",
    "log_density": "--model=denoiser --signature=log_density "
    "--input={pictures} --sigma=0.3 --output={folder}/density.npz",
    "another signature": "--model=vectors --signature=double "
    "--input={latents} --output={folder}/twice.npz",
    "labels": "--model=cvae --signature=encode --input={arrays} --binarize "
    "--output={folder}/labels.npz",
}
REFUSED = {
    "grey": (
        "--signature=log_likelihood --input={pictures}",
        "image must be 0 or 1",
        "--binarize",
    ),
    "unknown label": (
        "--model=cvae --label=11 --output={folder}/no.png",
        "condition must be a label from 0 to 2",
    ),
    "no label": (
        "--model=cvae --output={folder}/no.png",
        "cvae is a model of labels: give --label",
    ),
    "a label too many": (
        "--label=1 --output={folder}/no.png",
        "vae is no model of labels",
    ),
    "input": (
        "--input={pictures} --output={folder}/no.png",
        "vae generates from nothing but a seed",
    ),
    "nothing to complete": (
        "--model=completion --output={folder}/no.png",
        "give --input",
    ),
    "no sigma": (
        "--model=denoiser --signature=denoise --input={arrays} "
        "--output={folder}/no.npz",
        "lacks sigma",
    ),
    "bad sigma": (
        "--model=denoiser --signature=denoise --input={arrays} --sigma=-1 "
        "--output={folder}/no.npz",
        "sigma must be",
    ),
    "a picture of latents": (
        "--model=vectors --signature=double --input={latents} "
        "--output={folder}/no.png",
        "returns twice, which are no pictures",
    ),
    "binarised latents": (
        "--model=vectors --signature=double --input={latents} --binarize "
        "--output={folder}/no.npz",
        "double takes no images",
    ),
    "another model's": (
        "--signature=denoise --input={arrays} --output={folder}/no.npz",
        "no signature denoise",
    ),
    "no likelihood": (
        "--model=denoiser --signature=log_likelihood --input={pictures}",
        "no signature log_likelihood",
    ),
    "no model": ("--model=no --output={folder}/no.png", "does not have"),
    "no server": (
        "--address=127.0.0.1:1 --output={folder}/no.png",
        "no server answers at 127.0.0.1:1",
    ),
    "no pictures": (
        "--signature=encode --input={folder}/none --output={folder}/no.npz",
        "none: no such",
    ),
    "no latents": (
        "--signature=decode --input={arrays} --output={folder}/no.npz",
        "neither an array `z` nor `loc`",
    ),
    **{
        f"{name} latents": (
            f"--signature=decode --input={{spoilt}}/{name}.npz "
            "--output={folder}/no.npz",
            f"{name}.npz{message}",
        )
        for name, message in {
            "cut": " cannot be read",
            "empty": " cannot be read",
            "npy": " cannot be read",
            "number": " has neither",
            "missing": ": name another .npz file",
        }.items()
    },
    "its own pictures": (
        "--signature=reconstruct --input={pictures} --output={pictures}",
        "would replace",
        "a.png, which --input reads",
    ),
    "one of its own pictures": (
        "--signature=reconstruct --input={pictures} "
        "--output={pictures}/b/../b/c.png",
        "would replace",
    ),
    "its own picture": (
        "--signature=reconstruct --input={pictures}/a.png --output={pictures}",
        "would replace",
    ),
    "its own arrays": (
        "--signature=encode --input={arrays} --output={arrays}",
        "would replace",
    ),
    "grey levels": (
        "--signature=encode --binarize --input={grey_levels} "
        "--output={folder}/no.npz",
        "divide grey levels of 0 to 255 by 255",
    ),
    "pictures of vectors": (
        "--model=vectors --output={folder}/no.png",
        "gives rows of shape [5], which are no pictures",
    ),
    "pictures for vectors": (
        "--model=vectors --signature=encode --input={pictures} "
        "--output={folder}/no.npz",
        "takes rows of shape [5], which are no pictures",
    ),
    "a label and labels": (
        "--model=cvae --signature=encode --label=1 --input={arrays} "
        "--output={folder}/no.npz",
        "give --label, or an --input that has labels, not both",
    ),
    "a label and pictures": (
        "--model=cvae --label=1 --input={pictures} --output={folder}/no.npz",
        "give --label, or an --input that has labels, not both",
    ),
    "too few": (
        "--signature=encode --input={pictures} --num_images=4 "
        "--output={folder}/no.npz",
        "--num_images=4, but",
        "pictures holds 3",
    ),
}
