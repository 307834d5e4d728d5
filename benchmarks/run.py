"""Every function of cyrnn against the notebook's algorithm in plain NumPy, over a grid of sizes.

    pip install . && python benchmarks/run.py             about four minutes
    python benchmarks/run.py --quick                      about half a minute

Both contenders run in one process, in turn, round after round; what is printed is the median of the
ratios of each round with its quartiles, so that a change of the machine's pace in between does not
count.  NumPy's BLAS is held to one thread, which is what a call of cyrnn uses.  The baseline is
`cyrnn._plain`: the notebook's steps as its reader would write them.
"""

import os

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported: its BLAS reads it once

import argparse
import platform
import statistics
import sys
import time
from types import SimpleNamespace

import numpy as np

import cyrnn
from cyrnn import _plain

SIZES = [  # n_x, n_a, n_y, m, T_x, from the notebook's own to a real network
    (3, 5, 2, 10, 4),
    (16, 32, 16, 1, 100),
    (64, 128, 64, 1, 100),
    (32, 64, 32, 16, 50),
    (64, 128, 64, 32, 100),
    (128, 256, 64, 64, 50),
    (256, 512, 128, 64, 20),
    (512, 1024, 256, 64, 8),
]


def problem(kind, n_x, n_a, n_y, m, T_x):
    """Random input of a size, weights scaled as for training."""
    rng = np.random.default_rng(0)
    scale = 1 / np.sqrt(n_a + n_x)
    if kind == "rnn":
        shapes = {"Wax": (n_a, n_x), "Waa": (n_a, n_a), "Wya": (n_y, n_a), "ba": (n_a, 1), "by": (n_y, 1)}
    else:
        shapes = {"W" + gate: (n_a, n_a + n_x) for gate in "fico"} | {"b" + gate: (n_a, 1) for gate in "fico"}
        shapes |= {"Wy": (n_y, n_a), "by": (n_y, 1)}
    return SimpleNamespace(
        p={name: rng.standard_normal(shape) * scale for name, shape in shapes.items()},
        x=rng.standard_normal((n_x, m, T_x)),
        xt=rng.standard_normal((n_x, m)),
        a0=rng.standard_normal((n_a, m)),
        c0=rng.standard_normal((n_a, m)),
        da=rng.standard_normal((n_a, m, T_x)),
        z=rng.standard_normal((n_y, m)),
    )


def calls(module, kind, q):
    """The functions of one contender on one problem, by the name shown."""
    forward, backward = getattr(module, f"{kind}_forward"), getattr(module, f"{kind}_backward")
    cell, cell_back = getattr(module, f"{kind}_cell_forward"), getattr(module, f"{kind}_cell_backward")
    states = (q.a0,) if kind == "rnn" else (q.a0, q.c0)
    cell_cache = cell(q.xt, *states, q.p)[-1]
    caches = forward(q.x, q.a0, q.p)[-1]
    return {
        f"{kind}_cell_forward": lambda: cell(q.xt, *states, q.p),
        f"{kind}_cell_backward": lambda: cell_back(*states, cell_cache),
        f"{kind}_forward": lambda: forward(q.x, q.a0, q.p),
        f"{kind}_backward": lambda: backward(q.da, caches),
        f"{kind} forward + backward": lambda: backward(q.da, forward(q.x, q.a0, q.p)[-1]),
    }


def activation_calls(module, q):
    return {"softmax": lambda: module.softmax(q.z), "sigmoid": lambda: module.sigmoid(q.z)}


def elapsed(call, repeat):
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat


def duel(numpy_call, our_call, seconds):
    """Interleaved rounds: our median time, and the quartiles of NumPy's time over ours."""
    elapsed(numpy_call, 1), elapsed(our_call, 1)
    repeat = max(1, int(2e-3 / elapsed(our_call, 3)))
    ours, ratios = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(ratios) < 5:
        theirs = elapsed(numpy_call, repeat)
        ours.append(elapsed(our_call, repeat))
        ratios.append(theirs / ours[-1])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ours), low, middle, high


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sizes, shorter rounds")
    parser.add_argument("--seconds", type=float, default=None, help="time for each row")
    arguments = parser.parse_args()
    seconds = arguments.seconds or (0.2 if arguments.quick else 1.5)
    sizes = SIZES[:5] if arguments.quick else SIZES

    cyrnn.show_config()
    print(f"processor          {platform.processor() or platform.machine()}, {os.cpu_count()} CPUs; one thread each\n")
    heading = f"{'n_x, n_a, n_y, m, T_x':<24}{'function':<28}{'cyrnn':>12}{'NumPy / cyrnn':>16}   quartiles"
    print(f"{heading}\n{'-' * len(heading)}")
    slower = []
    for size in sizes:
        for kind in ("rnn", "lstm"):
            q = problem(kind, *size)
            pairs = [calls(module, kind, q) for module in (_plain, cyrnn)]
            if kind == "rnn":
                pairs = [activation_calls(_plain, q) | pairs[0], activation_calls(cyrnn, q) | pairs[1]]
            for name, numpy_call in pairs[0].items():
                ours, low, middle, high = duel(numpy_call, pairs[1][name], seconds)
                if middle < 1:
                    slower.append((size, name, middle))
                time_text = f"{ours * 1e6:,.1f} us"
                print(f"{size!s:<24}{name:<28}{time_text:>12}{middle:>14.2f} x   {low:.2f} ... {high:.2f}", flush=True)
        print()
    for size, name, middle in slower:
        print(f"slower than NumPy: {name} at {size}, {middle:.2f} x")
    if not slower:
        print("No function is slower than NumPy at any of these sizes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
