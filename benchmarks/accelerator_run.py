"""Times programs of `accelerator.py` on an accelerator, with JAX alone.

  python3 benchmarks/accelerator_run.py DIR
  python3 benchmarks/accelerator_run.py DIR --seconds=300 --write

Needs neither TensorFlow nor this package. Compiles the programs in DIR one
after another, the most important first, and runs each once for its outputs and
once for warming up. Then it measures 20 runs one at a time, each until its
outputs are there; inputs are on the device before. Tried with JAX 0.10.2 and
0.11.2, on a CPU.

Prints a table in Markdown: the median time, operations/s where operations are
counted, and how much the outputs differ from those of the CPU that lowered the
program, relative to the largest value of an output; for the exact denoiser, its
error by float64, relative to the distance of the farthest image. Prints the
programs that failed or differ by more than is allowed and why, and then ends
with status 1.
"""

import argparse
import importlib.util
import json
import lzma
import pathlib
import statistics
import sys
import time
from typing import NamedTuple

TABLE = "accelerator"
HEADER = "| program | ms | TFLOP/s | difference |\n|---|---|---|---|"

PARSER = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
PARSER.add_argument("folder", type=pathlib.Path, help="what was lowered")
PARSER.add_argument(
    "--seconds",
    type=float,
    default=float("inf"),
    help="start no program and no further run after this time",
)
PARSER.add_argument("--runs", type=int, default=20, help="runs to be timed")
PARSER.add_argument(
    "--write",
    action="store_true",
    help="write the table into docs/benchmarks.md; not for a CPU",
)


class Row(NamedTuple):
    """A line of the table.

    Args:
        title: str.
        times: list of seconds.
        operations: int, or None.
        difference: float.
        tolerance: float, the largest difference that is allowed.
    """

    title: str
    times: list
    operations: int | None
    difference: float
    tolerance: float

    def __str__(self):
        took = statistics.median(self.times)
        speed = "-"
        if self.operations:
            speed = f"{self.operations / took / 1e12:.3g}"
        cells = self.title, f"{1e3 * took:.3g}", speed, f"{self.difference:.1e}"
        return f"| {' | '.join(cells)} |"

    @property
    def problem(self):
        """What is wrong with the outputs, or None."""
        if self.difference <= self.tolerance:
            return None
        return f"differs by {self.difference:.1e}, allowed {self.tolerance:g}"


def main(arguments=None):
    """Runs the programs and prints the table."""
    options = PARSER.parse_args(arguments)
    deadline = time.perf_counter() + options.seconds
    if options.runs < 1:
        PARSER.error("--runs must be at least 1")
    path = options.folder / "programs.json"
    if not path.exists():
        PARSER.error(f"no {path}: write it by accelerator.py --folder")
    described = json.loads(path.read_text("utf-8"))
    if options.write and described["small"]:
        PARSER.error("--write requires programs of full size (no --small)")
    if importlib.util.find_spec("jax") is None:
        PARSER.error("JAX is not installed")
    import jax
    from tables_page import PAGE, replaced

    jax.config.update("jax_enable_x64", True)
    device = jax.devices()[0]
    if options.write and device.platform == "cpu":
        PARSER.error("--write requires an accelerator: JAX found only a CPU")
    page = None
    if options.write:
        # Before measuring: what is wrong with the page must not cost the table.
        page = PAGE.read_text("utf-8")
        replaced(page, TABLE, "")
    rows, late, failed = run_programs(described, device, options, deadline)
    closing = notes(rows, late, failed, device, described["versions"])
    print(f"\n{closing}")
    if options.write:
        table = "\n".join([HEADER, *map(str, rows)])
        text = replaced(page, TABLE, f"{table}\n\n{closing}")
        PAGE.write_text(text, "utf-8")
    return 1 if failed else 0


def run_programs(described, device, options, deadline):
    """Runs the programs and prints their rows.

    Args:
        described: dict, of `programs.json`.
        device: JAX's device.
        options: of the command line.
        deadline: time at which no further case starts.

    Returns:
        list of `Row`s; list of the titles that were left out; dict of the
        titles of those that failed or differ to what is wrong.
    """
    print(HEADER, flush=True)
    rows, late = [], []
    failed = {
        title: f"not lowered: {why}"
        for title, why in described["failed"].items()
    }
    for program in described["programs"]:
        title = program["title"]
        if time.perf_counter() > deadline:
            late.append(title)
            continue
        try:
            for case, row in measure(program, device, options, deadline):
                if row is None:
                    late.append(case)
                    continue
                rows.append(row)
                print(row, flush=True)
                if row.problem:
                    failed[row.title] = row.problem
        except Exception as error:
            failed[title] = first_line(error)
    return rows, late, failed


def notes(rows, late, failed, device, versions):
    """Returns the conditions, and what is missing or wrong, as Markdown."""
    import jax

    counts = sorted({len(row.times) for row in rows}) or [0]
    runs = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    listed = ", ".join(f"{name} {it}" for name, it in versions.items())
    lines = [
        f"Medians of {runs} runs, one at a time, on {device.device_kind}, by "
        f"JAX {jax.__version__}; lowered by {listed}."
    ]
    if late:
        lines.append(f"Left out for lack of time: {'; '.join(late)}.")
    lines += [f"Failed: {title}: {why}" for title, why in failed.items()]
    return "\n\n".join(lines)


def first_line(error):
    """Returns the type of an error, and the first line of what it says."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:200]}"


def measure(program, device, options, deadline):
    """Runs a program, once for each of its cases.

    Args:
        program: dict, of `programs.json`.
        device: JAX's device.
        options: of the command line.
        deadline: time at which no further run starts.

    Returns:
        iterator of the title and the `Row` of each case; None for one that
        would start after the deadline.
    """
    import jax
    from accelerator_arrays import make

    code = lzma.decompress((options.folder / program["file"]).read_bytes())
    run, updated = compile_program(code, device)
    for case in program.get("cases", [{}]):
        title = ", ".join(filter(None, (program["title"], case.get("title"))))
        if time.perf_counter() > deadline:
            yield title, None
            continue
        changes = case.get("events", {})
        values = [
            make({**it, **changes} if it["kind"] == "events" else it)
            for it in program["inputs"]
        ]
        inputs = [jax.device_put(value, device) for value in values]
        outputs = jax.block_until_ready(run(inputs))
        difference = check(program, values, outputs, updated, case)
        times = measure_times(run, inputs, options.runs, deadline)
        limits = program["operations"], difference, program["tolerance"]
        yield title, Row(title, times, *limits)


def measure_times(run, inputs, num, deadline):
    """Returns the seconds of runs, after one for warming up.

    Returns:
        list of `num` floats, or fewer, but one, after the deadline.
    """
    import jax

    jax.block_until_ready(run(inputs))
    times = []
    while len(times) < num and not (times and time.perf_counter() > deadline):
        start = time.perf_counter()
        jax.block_until_ready(run(inputs))
        times.append(time.perf_counter() - start)
    return times


def check(program, values, outputs, updated, case):
    """Returns the largest difference from what is expected.

    Args:
        program: dict, of `programs.json`.
        values: list of the inputs.
        outputs: list of arrays.
        updated: dict of places of inputs to those of their new values.
        case: dict of the case.
    """
    import numpy as np
    from accelerator_arrays import difference, posterior_error

    if "events" in case:
        parts = {
            it["part"]: value
            for it, value in zip(program["inputs"], values, strict=True)
            if it["kind"] == "events"
        }
        return posterior_error(
            np.asarray(outputs[0], np.float64),
            parts["data"],
            parts["noisy"],
            case["events"]["sigma"],
        )
    expected = dict(enumerate(program["outputs"]))
    for place, sample in program["updates"].items():
        expected[updated[int(place)]] = sample
    return max(
        difference(outputs[place], sample) for place, sample in expected.items()
    )


def compile_program(code, device):
    """Compiles StableHLO.

    Args:
        code: MLIR bytecode.
        device: JAX's device.

    Returns:
        function of a list of arrays that returns one, and a dict of the
        places of inputs that are variables to the outputs with their new
        values.
    """
    from jax.extend import backend
    from jax.interpreters import mlir
    from jaxlib import xla_client
    from jaxlib.mlir import ir

    with mlir.make_ir_context():
        module = ir.Module.parse(code)
        updated = separate_variables(module)
        executable = device.client.compile_and_load(
            module,
            xla_client.DeviceList((device,)),
            backend.get_compile_options(num_replicas=1, num_partitions=1),
        )

    def run(inputs):
        found = executable.execute_sharded(inputs)
        return [it[0] for it in found.disassemble_into_single_device_arrays()]

    return run, updated


def separate_variables(module):
    """Makes new values of variables outputs of their own.

    TensorFlow's programs may write them over the inputs, with which they then
    could not run again. Its copies of these are not part of StableHLO.

    Returns:
        dict as of `compile_program`.
    """
    from jaxlib.mlir import ir

    copies = []

    def visit(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for copy in copies:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()
    attributes, updated = module.operation.attributes, {}
    name = "mhlo.input_output_alias"
    if name in attributes:
        for pair in attributes[name]:
            place = ir.IntegerAttr(pair["alias"]["parameter_number"]).value
            (updated[place],) = ir.DenseI64ArrayAttr(pair["output_index"])
        del attributes[name]
    return updated


if __name__ == "__main__":
    sys.exit(main())
