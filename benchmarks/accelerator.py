"""Lowers this package's programs, to be timed on an accelerator without it.

  python benchmarks/accelerator.py --folder=DIR    # five minutes on 2 cores
  python3 benchmarks/accelerator_run.py DIR        # there, with JAX

For machines with an accelerator but without TensorFlow: `accelerator_run.py`
needs JAX, which compiles with XLA, too. The programs are functions of this
package with XLA, traced as on a machine with a GPU: forward passes and
training steps of the default U-Net, generating by it, restoring, the exact
denoiser over 60 000 images, the importance-weighted bound (as one program, and
as the two functions that the package calls in turn), samples of a conditional
VAE, and training steps of a VAE.

Writes each in StableHLO, compressed, and `programs.json`: the inputs, as seeds
and settings; samples of the outputs on this machine, but for the exact
denoiser, whose error `accelerator_run.py` computes by float64; and the number
of operations. Prints the programs that could not be lowered and why, and then
ends with status 1.
"""

import importlib.metadata
import json
import lzma
import pathlib
import sys
import time
from unittest import mock

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("folder", None, "Folder for the programs.")
flags.DEFINE_bool("small", False, "Small programs, for a test of both halves.")
flags.DEFINE_list("programs", [], "Only some of the programs.")
flags.mark_flag_as_required("folder")


def main(_):
    """Lowers the programs and describes them."""
    import accelerator_programs
    from accelerator_run import first_line

    small = accelerator_programs.SMALL
    sizes = small if FLAGS.small else accelerator_programs.Sizes()
    programs = accelerator_programs.programs(sizes)
    unknown = {*FLAGS.programs} - {*programs}
    if unknown:
        print(
            f"--programs: no {','.join(sorted(unknown))}; there are "
            f"{','.join(programs)}",
            file=sys.stderr,
        )
        return 1
    folder = pathlib.Path(FLAGS.folder)
    folder.mkdir(parents=True, exist_ok=True)
    described, failed = [], {}
    for name in FLAGS.programs or programs:
        title, policy, build = programs[name]
        start = time.perf_counter()
        try:
            code, description = lower(policy, build)
        except Exception as error:
            failed[title] = first_line(error)
            print(f"not lowered: {title}: {failed[title]}", flush=True)
            continue
        (folder / f"{name}.xz").write_bytes(lzma.compress(code))
        names = {"title": title, "file": f"{name}.xz"}
        described.append({**names, **description})
        took = time.perf_counter() - start
        print(f"{title}: {took:.0f} s", flush=True)
    write_description(folder / "programs.json", described, failed)
    return 1 if failed else 0


def write_description(path, described, failed):
    """Writes what `accelerator_run.py` reads."""
    versions = {
        name: importlib.metadata.version(name)
        for name in ("keras_genmodels", "tensorflow")
    }
    content = {
        "versions": versions,
        "small": FLAGS.small,
        "programs": described,
        "failed": failed,
    }
    path.write_text(json.dumps(content, separators=(",", ":")), "utf-8")


def lower(policy, build):
    """Lowers a program.

    Args:
        policy: name of the dtype policy.
        build: function that returns an `accelerator_programs.Program`.

    Returns:
        StableHLO, as MLIR bytecode, and a dict that describes the program.
    """
    import tensorflow as tf
    from accelerator_arrays import make

    from keras_genmodels.core import precision

    with precision.policy_scope(policy), as_with_a_gpu():
        program = build()
        arguments = [tf.constant(make(it)) for it in program.arguments]
        function = tf.function(
            program.function, jit_compile=True, autograph=False
        )
        concrete = function.get_concrete_function(*arguments)
        lowered = function.experimental_get_compiler_ir(*arguments)
        code = lowered(stage="stablehlo_serialized")
        inputs = [*program.arguments, *captured(concrete, program.weights)]
        description = {
            "inputs": inputs,
            "operations": program.operations,
            "tolerance": program.tolerance,
        }
        if program.cases:
            return code, {**description, "cases": program.cases}
        return code, description | expect(function, concrete, arguments)


def as_with_a_gpu():
    """Makes programs within a `with` block those of a machine with a GPU.

    They have its sizes of blocks, and split the factors of products.
    """
    from keras_genmodels.core import devices

    return mock.patch.object(devices, "has_gpu", return_value=True)


def captured(concrete, weights):
    """Returns specifications of what a function takes besides arguments.

    Args:
        concrete: the concrete function.
        weights: dict of ids of handles of variables to specifications; others
            must be small.

    Raises:
        ValueError: for a large input that is not among the weights.
    """
    from accelerator_arrays import describe

    variables = {id(it.handle): it for it in concrete.variables}
    return [
        weights[id(it)]
        if id(it) in weights
        else describe(variables.get(id(it), it).numpy())
        for it in concrete.captured_inputs
    ]


def expect(function, concrete, arguments):
    """Runs a function; returns samples of what it returns and changes.

    Returns:
        dict of `outputs`, a list of lists; and `updates`, a dict of the
        places of inputs, variables that it changes, to lists.
    """
    import tensorflow as tf
    from accelerator_arrays import sample

    variables = {id(it.handle): it for it in concrete.variables}
    places = {
        place: variables[id(it)]
        for place, it in enumerate(concrete.captured_inputs, len(arguments))
        if id(it) in variables
    }
    before = {place: sample(it) for place, it in places.items()}
    found = tf.nest.flatten(function(*arguments))
    outputs = [it for it in found if it is not None]
    after = {place: sample(it) for place, it in places.items()}
    return {
        "outputs": [listed(sample(it)) for it in outputs],
        "updates": {
            place: listed(values)
            for place, values in after.items()
            if (values != before[place]).any()
        },
    }


def listed(values):
    """Returns values with the digits of float32."""
    return [float(f"{value:.9g}") for value in values]


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
