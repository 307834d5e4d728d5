"""One step at a time: how long each takes, of Stream, the cell function, PyTorch and ONNX Runtime.

    pip install '.[bench]'
    python benchmarks/stream.py --quick                          within a minute
    python benchmarks/stream.py --docs --picture stream.png      a million steps each; writes the page's tables

Every step is timed by itself, the Python call included, with one example (m = 1), n_x = n_a = n_y and one thread.
All contenders run in one process, in turn, a thousand steps each, until each has made all its steps.  Shown are
quantiles of the time of a step, and how far the slowest thousandth is from the median; the last column is the
median over the turns of the ratio of their medians (above 1 Stream is ahead).  Every time has two readings of
the clock in it; they are measured with nothing between them and told, and nothing is subtracted.  The contender
called "only the clock" computes nothing: it reads the clock until the median time of a step of ours has passed, so
its slowest thousandth is what the machine itself (ticks, other programs) adds to a step of that length.

A second table is of `run`: an LSTM with one input and one output, as audio has it, a block of samples in one call.
"arithmetic" is what a sample takes where 12 examples are stepped side by side: the same operations, with nothing that
waits for a result before it.  What a sample of one example takes longer is the wait for the state and overhead.

For a steady distribution give it a core of its own: `taskset -c 1 python benchmarks/stream.py`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter_ns

from run import ROOT, one_process, write_table

SIZES = [8, 16, 32, 64, 128]
OURS = "Stream, out="
CLOCK = "only the clock"
PEERS = {"PyTorch float64": "cell f", "ONNX Runtime float32": "f"}
SHARES = [0.5, 0.99, 0.999]
TURN = 1000
WARM = 20  # steps before a turn that are not timed: another one has filled the caches
SAMPLES = 1200  # of a block
SIDE_BY_SIDE = 12
ROUNDS = 25
PAGE = ROOT / "docs" / "streaming.md"


def timed(call, times):
    """Time every call by itself, in nanoseconds."""
    for k in range(len(times)):
        start = perf_counter_ns()
        call()
        times[k] = perf_counter_ns() - start


def clock(count=100_000):
    """Nanoseconds from one reading of the clock to the next."""
    import numpy as np

    times = np.zeros(count, np.int64)
    for k in range(count):
        start = perf_counter_ns()
        times[k] = perf_counter_ns() - start
    return int(np.median(times))


def median_of(call):
    """The median time of a call, in nanoseconds."""
    import numpy as np

    times = np.zeros(TURN, np.int64)
    timed(call, times)
    return int(np.median(times))


def spin(ns):
    """Read the clock for so long."""
    end = perf_counter_ns() + ns
    while perf_counter_ns() < end:
        pass


def contenders(kind, n):
    """A call of one step for each contender, ours first."""
    import numpy as np
    import peers

    import cyrnn

    q = peers.problem(kind, n, n, n, 1, 1)
    xt, out = q.xt, (np.empty((n, 1)), np.empty((n, 1)))
    calls = {
        OURS: partial(cyrnn.Stream(q.p).step, xt, out),
        "Stream": partial(cyrnn.Stream(q.p).step, xt),
        "cell function": peers.functions(cyrnn, q)["cell f"],
    }
    found = peers.contenders(1, PEERS)
    calls |= {name: found[name](q)[what] for name, what in PEERS.items() if name in found}
    return calls | {CLOCK: partial(spin, max(0, median_of(calls[OURS]) - median_of(partial(spin, 0))))}


def blocks(sizes, rounds):
    """Nanoseconds of a sample by `run`, of every size: medians over turns, of the fastest of four calls each."""
    import numpy as np

    import cyrnn

    rows = []
    for n in sizes:
        rng = np.random.default_rng(n)
        p = {f"W{gate}": rng.normal(size=(n, n + 1)) / np.sqrt(n) for gate in "fico"}
        p |= {f"b{gate}": np.zeros((n, 1)) for gate in "fico"} | {"Wy": rng.normal(size=(1, n)), "by": np.zeros((1, 1))}
        x, many = rng.normal(size=(1, 1, SAMPLES)), rng.normal(size=(1, SIDE_BY_SIDE, SAMPLES // SIDE_BY_SIDE))
        zeros = np.zeros((n, 1))
        calls = {
            "linear": partial(cyrnn.Stream(p, output="linear").run, x),
            "softmax": partial(cyrnn.Stream(p).run, x),
            "lstm_forward": partial(cyrnn.lstm_forward, x, zeros, p, cache=False, output="linear"),
            "arithmetic": partial(cyrnn.Stream(p, m=SIDE_BY_SIDE, output="linear").run, many),
        }
        times = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                each = np.zeros(4, np.int64)
                timed(call, each)
                times[name].append(each.min() / SAMPLES)
        rows.append({"n": n} | {name: float(np.median(each)) for name, each in times.items()})
    return rows


def inference():
    """PyTorch without its record for gradients, where it is installed."""
    from contextlib import nullcontext
    from importlib.util import find_spec

    if not find_spec("torch"):
        return nullcontext()
    import torch

    return torch.inference_mode()


def measure(sizes, steps):
    """All rows, in this process."""
    import numpy as np
    from tqdm import tqdm

    import cyrnn
    from cyrnn import _kernels

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    cyrnn.set_num_threads(1)
    # Dense towards the slowest steps, as far as so many steps can tell.
    tails = np.logspace(0, -np.log10(steps), 120)
    rows, turns = [], max(1, steps // TURN)
    cases = [(kind, n) for kind in ("lstm", "rnn") for n in sizes]
    with inference(), tqdm(total=len(cases) * turns, unit="turn", disable=None) as bar:
        for kind, n in cases:
            bar.set_description(f"{kind.upper()} {n}")
            calls = contenders(kind, n)
            times = {name: np.zeros((turns, min(TURN, steps)), np.int64) for name in calls}
            for turn in range(turns):
                for name, call in calls.items():
                    for _ in range(WARM):
                        call()
                    timed(call, times[name][turn])
                bar.update()
            ours = np.median(times[OURS], axis=1)
            for name, each in times.items():
                row = {"kind": kind, "n": n, "name": name, "ns": np.quantile(each, SHARES).tolist()}
                row["ratio"] = float(np.median(np.median(each, axis=1) / ours))
                row["tails"], row["tail ns"] = tails.tolist(), np.quantile(each, 1 - tails).tolist()
                rows.append(row)
    found = {"rows": rows, "blocks": blocks(sizes, ROUNDS), "clock": clock(), "steps": steps}
    return found | {"build": _kernels.build, "cyrnn": cyrnn.__version__}


def cells(row):
    """The figures of one row as a person reads them."""
    middle, *_, far = row["ns"]
    ratio = "" if row["name"] in (OURS, CLOCK) else f"{row['ratio']:.1f}"
    return [*(f"{ns / 1e3:.2f}" for ns in row["ns"]), f"{far / middle:.1f}", ratio]


HEAD = ["median, us", "99%", "99.9%", "99.9% / median", "time / ours"]


BLOCK_HEAD = {
    "linear": "run, linear", "softmax": "run, softmax", "lstm_forward": "lstm_forward", "arithmetic": "arithmetic",
}  # fmt: skip


def block_cells(row):
    """The figures of one row of the second table."""
    return [
        str(row["n"]),
        *(f"{row[name] / 1e3:.3f}" for name in BLOCK_HEAD),
        f"{row['linear'] / row['arithmetic']:.1f}",
    ]


def block_head():
    return ["units", *(f"{word}, us" for word in BLOCK_HEAD.values()), "run / arithmetic"]


def text(result):
    """Tables for the terminal, one a kind of network, and that of blocks."""
    lines, before = [], None
    for row in result["rows"]:
        if row["kind"] != before:
            lines += ["", f"{row['kind'].upper():<10}{'':<24}" + "".join(f"{word:>16}" for word in HEAD)]
            before = row["kind"]
        size = row["n"] if row["name"] == OURS else ""
        lines.append(f"{size:>8}  {row['name']:<24}" + "".join(f"{cell:>16}" for cell in cells(row)))
    lines += ["", "".join(f"{word:>22}" for word in block_head())]
    lines += ["".join(f"{cell:>22}" for cell in block_cells(row)) for row in result["blocks"]]
    return "\n".join(lines[1:])


def told(result):
    """What the figures are of."""
    return (
        f"cyrnn {result['cyrnn']}, build {result['build']}, {result['processor']}; {result['steps']:,} steps each;"
        f" the two readings of the clock in every time take {result['clock']} ns."
    )


def markdown(result):
    """The tables of docs/streaming.md."""
    head = ["", "n_x, n_a, n_y", "", *HEAD]
    lines = [told(result), "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in result["rows"]:
        lines.append("| " + " | ".join([row["kind"].upper(), str(row["n"]), row["name"], *cells(row)]) + " |")
    lines += ["", "| " + " | ".join(block_head()) + " |", "|" + "---|" * len(block_head())]
    lines += ["| " + " | ".join(block_cells(row)) + " |" for row in result["blocks"]]
    return "\n".join(lines)


def picture(result, path):
    """Time against the share of steps that were faster; one panel for each size, a line for each contender."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = result["rows"]
    kinds, sizes, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("kind", "n", "name"))
    figure, axes = plt.subplots(
        len(kinds), len(sizes), figsize=(3.1 * len(sizes) + 1, 3.4 * len(kinds) + 1),
        sharex=True, sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for row in rows:
        axis = axes[kinds.index(row["kind"])][sizes.index(row["n"])]
        color = f"C{names.index(row['name'])}"
        us = [ns / 1e3 for ns in row["tail ns"]]
        first = row["name"] == OURS
        axis.plot([1 / tail for tail in row["tails"]], us, color=color, linewidth=2.2 if first else 1.4,
                  label=row["name"], zorder=3 if first else 2)  # fmt: skip
        axis.plot(2, row["ns"][0] / 1e3, "o", color=color, markersize=4, zorder=4)
    shares = {1: "0%", 2: "50%", 10: "90%", 100: "99%", 1e3: "99.9%", 1e4: "99.99%", 1e5: "", 1e6: "99.9999%"}
    shares = {at: word for at, word in shares.items() if at <= result["steps"]}
    for k, line in enumerate(axes):
        for axis, n in zip(line, sizes, strict=True):
            axis.set(xscale="log", yscale="log", title=f"{kinds[k].upper()}, {n} units")
            axis.set_xticks(list(shares), list(shares.values()), rotation=55, fontsize=8)
            axis.minorticks_off()
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.grid(alpha=0.3)
        line[0].set_ylabel("time of a step, us")
    figure.supxlabel("share of steps that took no longer", fontsize=10)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three sizes and 5,000 steps: within a minute")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="n", help="these instead of 8 to 128")
    parser.add_argument("--steps", type=int, help="steps of each contender, a million without it")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--picture", type=Path, help="write a picture of the distributions to this file")
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/streaming.md")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        steps = arguments.steps or (5_000 if arguments.quick else 1_000_000)
        result = measure(arguments.sizes or (SIZES[::2] if arguments.quick else SIZES), steps)
        arguments.child.write_text(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as folder:  # a process that no library gives more than one thread
        path = Path(folder, "rows.json")
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child", path], env=one_process(1), check=True)
        result = json.loads(path.read_text()) | {"processor": platform.processor() or platform.machine()}
    print(told(result))
    print(text(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    if arguments.picture:
        picture(result, arguments.picture)
    if arguments.docs:
        write_table(PAGE, markdown(result))


if __name__ == "__main__":
    main()
