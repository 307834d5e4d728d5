"""float32 against float64 of our own, and against PyTorch, ONNX Runtime and JAX in float32.

    pip install '.[bench]'
    python benchmarks/float32.py                 the small sizes, briefly
    python benchmarks/float32.py --all --docs    everything, on one thread; writes the table of docs/float32.md

The same work for all: "hidden states" are those of every step without an output layer and without what a backward
pass needs; "forward + backward" are all gradients from one of every hidden state.  All contenders of a row run in one
process, in turn, round after round; what is shown is the median of the ratios (above 1 we are ahead).
"""

import argparse
import os
import statistics
import sys

from peers import KINDS, PEERS_FLOAT32, TITLES, WORDS, contenders, in_dtype, problem
from run import ROOT, SIZES, compete, one_process, write_table


def rows(sizes, seconds):
    """The time of each pass and the ratios of the others."""
    import numpy as np
    from tqdm import tqdm

    import cyrnn

    if hasattr(os, "sched_setaffinity"):  # XLA has no other limit that holds
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    cyrnn.set_num_threads(1)
    makers = contenders(1, PEERS_FLOAT32)
    cases = [(kind, size) for kind in KINDS if kind != "gru_before" for size in sizes]
    for kind, size in tqdm(cases, unit="case", disable=None):
        q = problem(kind, *size)
        ours, double = in_dtype(q, np.float32), in_dtype(q, np.float64)
        others = {name: make(q) for name, make in makers.items()}
        for what in ("h", "fb"):
            calls = {"cyrnn float64": double[what]} | {name: c[what] for name, c in others.items() if what in c}
            times, ratios = compete(calls, ours[what], seconds, 0.0)
            yield kind, size, what, statistics.median(times), {name: q[1] for name, q in ratios.items()}


def markdown(found):
    """The table of the docs."""
    names = list(dict.fromkeys(name for *_, ratios in found for name in ratios))
    lines = [f"| | n_x, n_a, n_y, m, T_x | time | {' | '.join(names)} |", "|" + "---|" * (len(names) + 3)]
    for kind, size, what, seconds, ratios in found:
        shown = f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
        cells = [f"{ratios[name]:.2f}" if name in ratios else "" for name in names]
        lines.append(f"| {TITLES[kind]} {WORDS[what]} | {', '.join(map(str, size))} | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every size")
    parser.add_argument("--seconds", type=float, default=0.1, help="time for each contender of a row")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/float32.md")
    arguments = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # the libraries read their limits when they are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], one_process(1))
    found = list(rows(SIZES if arguments.all else SIZES[:4], arguments.seconds))
    print(markdown(found))
    if arguments.docs:
        write_table(ROOT / "docs" / "float32.md", markdown(found))


if __name__ == "__main__":
    main()
