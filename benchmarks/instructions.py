"""Instructions that cyrnn's own modules take for fixed calls: a guard that does not hang on the machine's mood.

    python benchmarks/instructions.py              compare with instructions.json; fails past the margin
    python benchmarks/instructions.py --update     write it anew

"padded" has twice as many examples with half the steps each on the average: the same work as "sequence", and at
most 15% more instructions.

Needs valgrind, whose callgrind counts the same in every run.  It knows no AVX-512, so the v3 build is
counted; what Python and NumPy do is left out, since it changes with their versions.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import peers

import cyrnn

STORED = Path(__file__).with_suffix(".json")
MARGIN = 0.10
PADDING = 0.15
REPEAT = 5
SIZES = ((3, 5, 2, 10, 4), (16, 32, 16, 1, 20), (32, 64, 32, 16, 10), (20, 140, 10, 33, 3))
CALLS = {f"{kind} {part}": (kind, part) for kind in peers.KINDS for part in ("sequence", "padded", "cell")}
CALLS |= {f"{kind} float32": (kind, "float32") for kind in peers.KINDS[:3]}  # its sequences; the rest is as in float64


def functions(kind, part, size):
    """The calls of one size."""
    if part == "float32":
        return peers.in_dtype(peers.problem(kind, *size), np.float32)
    if part != "padded":
        return peers.functions(cyrnn, peers.problem(kind, *size))
    *n, m, T_x = size
    short = np.random.default_rng(0).integers(0, T_x, m, endpoint=True)
    q = peers.problem(kind, *n, 2 * m, T_x)
    name = f"{q.prefix}_forward"
    forward = {name: partial(getattr(cyrnn, name), lengths=np.append(short, T_x - short))}
    return peers.functions(SimpleNamespace(**vars(cyrnn) | forward), q)


def child(name):
    """Make the calls of one name, at every size."""
    kind, part = CALLS[name]
    cyrnn.set_num_threads(1)
    for size in SIZES:
        calls = functions(kind, part, size)
        for _ in range(REPEAT):
            for what in ("cell f", "cell b") if part == "cell" else ("f", "fb"):
                calls[what]()


def counted(name):
    """Instructions in our shared libraries while these calls are made."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind.out")
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--compress-strings=no"]
        command = [*tool, sys.executable, __file__, "--child", name]
        environment = {**os.environ, "CYRNN_BUILD": "v3", "OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        total, ours, skip = 0, False, False
        for line in out.read_text().splitlines():
            if line.startswith("ob="):
                ours = re.search(r"cyrnn/_kernels/.*\.(so|dylib)", line) is not None
            elif line.startswith("calls="):
                skip = True  # the next line is what the called function took
            elif re.match(r"[\d+*-]", line):
                total += 0 if skip or not ours else int(line.split()[1])
                skip = False
        return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help=f"write {STORED.name} anew")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed")
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    found, worse = {}, []
    print(f"{'call':<36}{'instructions':>14}{'stored':>12}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # what is counted does not hang on what else is done
        for name, found[name] in zip(CALLS, pool.map(counted, CALLS), strict=True):
            before = stored.get(name, 0)
            print(f"{name:<36}{found[name]:>14,}{before:>12,}", flush=True)
            if before and found[name] > before * (1 + MARGIN):
                worse.append(f"{name}: {found[name]:,} instructions, {found[name] / before - 1:.0%} more than stored")
    for kind in peers.KINDS:
        more = found[f"{kind} padded"] / found[f"{kind} sequence"] - 1
        if more > PADDING:
            worse.append(f"{kind} padded: {more:.0%} more instructions than the same work without padding")
    if arguments.update:
        STORED.write_text(json.dumps(found, indent=1) + "\n")
    elif worse or found.keys() != stored.keys():
        sys.exit("\n".join(worse) or f"{STORED.name} has other calls: --update it")


if __name__ == "__main__":
    main()
