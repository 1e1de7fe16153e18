"""Times this package and PyTorch on the same tasks, alternately.

  python benchmarks/peers.py                     # about ten minutes on 2 cores
  python benchmarks/peers.py --write             # also into docs/benchmarks.md
  python benchmarks/peers.py --tasks=vae --peers=pythae

The tasks are forward passes and training steps (forward, backward, clipped
Adam) of the default U-Net on 28 x 28 images in float32 and in bfloat16, and the
training of a 784-512-512-16 VAE on shuffled, dynamically binarised bytes: `fit`
as `train_vae` calls it, a bare loop in PyTorch, and the trainer of pythae.
PyTorch runs eagerly and with `torch.compile`, in the format channels_last, with
fused Adam and autocast. The peers are in the extra `bench`; what is not
installed is named and left out.

Each has a process of its own. A round measures each on a task, every second
round in the opposite order. Prints the medians over rounds of images/s, the
median ratio of this package to the fastest peer, and how much the forward
passes of the same weights differ.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import pathlib
import platform
import re
import shutil
import statistics
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS

# The title and the package of each.
PEERS = {
    "keras": ("this package", "keras"),
    "pytorch": ("PyTorch", "torch"),
    "pytorch_compiled": ("PyTorch, compiled", "torch"),
    "pythae": ("pythae", "pythae"),
}
TASKS = {
    "forward_float32": "U-Net, forward, float32",
    "training_float32": "U-Net, training, float32",
    "forward_bfloat16": "U-Net, forward, bfloat16",
    "training_bfloat16": "U-Net, training, bfloat16",
    "vae": "VAE, training, float32",
}
TABLE = "peers"
# The flags that only some tasks read.
OF_UNET = ("batch_size", "filters", "blocks")
OF_VAE = ("vae_batch_size", "vae_steps")

flags.DEFINE_integer("rounds", 7, "Number of rounds.", lower_bound=1)
flags.DEFINE_float(
    "seconds", 2, "Least time of a measurement.", lower_bound=0.001
)
flags.DEFINE_integer("batch_size", 64, "Images of the U-Net.", lower_bound=1)
flags.DEFINE_integer("vae_batch_size", 128, "Of the VAE.", lower_bound=1)
flags.DEFINE_integer(
    "vae_steps", 208, "Steps of an epoch of the VAE.", lower_bound=1
)
flags.DEFINE_list("filters", ["32", "64", "128"], "Channels of each level.")
flags.DEFINE_integer("blocks", 2, "Residual blocks per level.", lower_bound=1)
flags.DEFINE_list("tasks", [*TASKS], "Only some of the tasks.")
flags.DEFINE_list("peers", [*PEERS][1:], "Only some of the peers.")
flags.DEFINE_bool("write", False, "Write the table into docs/benchmarks.md.")
for name, known in (("tasks", TASKS), ("peers", [*PEERS][1:])):
    flags.register_validator(
        name,
        lambda given, known=known: {*given} <= {*known},
        f"must be some of {','.join(known)}",
    )
flags.register_validator(
    "filters",
    lambda sizes: sizes and all(size.isdecimal() for size in sizes),
    "must be ints joined by commas",
)


def main(_):
    """Measures the tasks one after another, and prints a table."""
    check_flags()
    missing = {name: why for name in FLAGS.peers if (why := lack(name))}
    names = ["keras", *(name for name in FLAGS.peers if name not in missing)]
    context = multiprocessing.get_context("spawn")
    rows, versions = {}, {}
    with contextlib.ExitStack() as stack:
        pools = {name: stack.enter_context(context.Pool(1)) for name in names}
        for task in FLAGS.tasks:
            rows[task], found = measure(task, pools)
            versions |= found
    text = "\n\n".join(
        [table(rows, names), conditions(versions), *left_out(missing)]
    )
    print(text)
    if FLAGS.write:
        from tables_page import PAGE, replaced

        page = replaced(PAGE.read_text("utf-8"), TABLE, text)
        PAGE.write_text(page, "utf-8")
    return 0


def check_flags():
    """Ends the program if a flag has no effect, or the table would mislead."""
    read = {
        name
        for task in FLAGS.tasks
        for name in (OF_VAE if task == "vae" else OF_UNET)
    }
    for name in changed((*OF_UNET, *OF_VAE)):
        if name not in read:
            sys.exit(
                f"--{name} has no effect on --tasks={','.join(FLAGS.tasks)}"
            )
    if FLAGS.write and (
        names := changed((*OF_UNET, *OF_VAE, "tasks", "peers", "seconds"))
    ):
        sys.exit(
            "--write is for the documented table, of all tasks at their "
            f"default sizes: leave out --{', --'.join(names)}"
        )


def changed(names):
    """Returns which flags have another value than by default."""
    return [name for name in names if FLAGS[name].value != FLAGS[name].default]


def lack(name):
    """Returns what a peer needs and is not installed, or None."""
    package = PEERS[name][1]
    if importlib.util.find_spec(package) is None:
        return package
    compiler = os.environ.get("CXX", "g++")
    if name == "pytorch_compiled" and shutil.which(compiler) is None:
        return compiler
    return None


def measure(task, pools):
    """Measures a task.

    Args:
        task: key of `TASKS`.
        pools: dict of keys of `PEERS` to pools of one process, this package
            first.

    Returns:
        dict of names to images/s of each round, without peers that do not have
        the task; and dict of the names of packages to their versions.
    """
    options = {
        "batch_size": FLAGS.batch_size,
        "vae_batch_size": FLAGS.vae_batch_size,
        "vae_steps": FLAGS.vae_steps,
        "filters": tuple(map(int, FLAGS.filters)),
        "blocks": FLAGS.blocks,
    }
    outputs, versions = {}, {}
    for name, pool in pools.items():
        prepared = pool.apply(prepare, (name, task, options))
        if prepared is not None:
            options.setdefault("weights", prepared["weights"])
            outputs[name] = prepared["output"]
            versions |= prepared["versions"]
    compare(task, outputs)
    speeds = {name: [] for name in outputs}
    for i in range(FLAGS.rounds):
        for name in [*outputs][:: -1 if i % 2 else 1]:
            speeds[name].append(pools[name].apply(speed, (FLAGS.seconds,)))
    return speeds, versions


def compare(task, outputs):
    """Prints how much the results of PyTorch differ from those of Keras."""
    import numpy as np

    expected = outputs["keras"]
    for name, output in outputs.items():
        if name != "keras" and output is not None:
            largest = np.abs(output - expected).max() / np.abs(expected).max()
            print(f"{task}: {name} differs by at most {largest:.1e} of the max")


def prepare(name, task, options):
    """Builds a task in this process and runs it once.

    Returns:
        dict of `weights` and `output`, of the U-Net, else None, and
        `versions`; None if the peer does not have this task.
    """
    import peer_tasks

    made = peer_tasks.BUILDERS[name](task, options)
    if made is None:
        return None
    made.run()
    # Kept here, as it cannot be sent to another process.
    prepare.made = made
    return {
        "weights": made.weights,
        "output": made.output,
        "versions": made.versions,
    }


def speed(seconds):
    """Returns images/s of the prepared task."""
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < seconds:
        prepare.made.run()
        count += 1
    return count * prepare.made.images / (time.perf_counter() - start)


def table(rows, names):
    """Returns the medians as a table in Markdown.

    Args:
        rows: dict of tasks to dicts of names to images/s of each round.
        names: list of keys of `PEERS`, the columns.
    """
    titles = [PEERS[name][0] for name in names]
    lines = [f"| images/s | {' | '.join(titles)} | ratio to the fastest peer |"]
    lines.append("|---" * (len(titles) + 2) + "|")
    for task, speeds in rows.items():
        cells = [
            f"{statistics.median(speeds[name]):.0f}" if name in speeds else "-"
            for name in names
        ]
        cells = [TASKS[task], *cells, ratio(speeds)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratio(speeds):
    """Returns the median, and the range, of the ratios of the rounds."""
    others = [name for name in speeds if name != "keras"]
    if not others:
        return "-"
    best = max(others, key=lambda name: statistics.median(speeds[name]))
    ratios = [
        own / other
        for own, other in zip(speeds["keras"], speeds[best], strict=True)
    ]
    middle = statistics.median(ratios)
    return f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def conditions(versions):
    """Returns a sentence on the machine, the settings and the versions."""
    listed = ", ".join(
        f"{name} {version}" for name, version in versions.items()
    )
    return (
        f"Medians of {FLAGS.rounds} rounds, batches of {FLAGS.batch_size} "
        f"(VAE: {FLAGS.vae_batch_size}), on {os.cpu_count()} cores of "
        f"{processor()}, with {listed}."
    )


def left_out(missing):
    """Returns a list of the sentence on missing peers, if any."""
    if not missing:
        return []
    listed = [f"{PEERS[name][0]} ({why})" for name, why in missing.items()]
    return [f"Left out, with what is not installed: {'; '.join(listed)}."]


def processor():
    """Returns the name of the processor."""
    path = pathlib.Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    found = re.search(r"model name\s*: (.*)", text)
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
