"""cyrnn against NumPy and, with --peers, PyTorch, JAX and ONNX Runtime, over a grid of sizes.

    pip install '.[bench]'
    python benchmarks/run.py --quick             within a minute, NumPy alone
    python benchmarks/run.py --peers --docs      everything; writes the table of docs/speed.md

All contenders of a row run in one process, in turn, round after round; what is shown is the median of
the ratios of each round (the peer's time over ours: above 1 we are ahead) with its quartiles, so that a
change of the machine's pace does not count.  Each number of threads has a process of its own.

The limit is the time of the same floating-point operations at the speed of a large matrix product of
NumPy's BLAS, plus that of the tanh, sigmoid and exp at the speed of our own loop over 4,096 values,
both measured beside each row; the fraction of peak is that time over ours.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import KINDS, TITLES, WORDS

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
ROOT = Path(__file__).parent.parent


def one_process(threads):
    """Environment that holds every library to this number of threads, and lets BLAS pick its kernels itself."""
    names = ("OPENBLAS", "MKL", "OMP", "VECLIB_MAXIMUM", "CYRNN")
    limits = {f"{name}_NUM_THREADS" if "_" not in name else f"{name}_THREADS": str(threads) for name in names}
    kept = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    return {**kept, **limits, "JAX_PLATFORMS": "cpu"}


def elapsed(call, repeat):
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat


class Limit:
    """The speed of a large product and of the activations, measured when asked."""

    def __init__(self):
        import numpy as np

        from cyrnn import _kernels

        self.matrix = np.random.default_rng(0).standard_normal((1536, 1536))
        self.product = np.empty_like(self.matrix)  # kept: a large array let go changes how malloc serves the others
        self.multiply = lambda: np.matmul(self.matrix, self.matrix, out=self.product)
        self.values = np.random.default_rng(0).standard_normal(4096)
        self.loops = {name: getattr(_kernels.f64.activations, name) for name in ("exp", "tanh", "sigmoid")}

    def measure(self):
        self.flops = 2 * len(self.matrix) ** 3 / min(elapsed(self.multiply, 1) for _ in range(4))
        self.seconds = {
            name: min(elapsed(lambda loop=loop: loop(self.values.copy()), 20) for _ in range(3)) / len(self.values)
            for name, loop in self.loops.items()
        }

    def time(self, kind, what, size, threads):
        n_x, n_a, n_y, m, T_x = size
        s = self.seconds
        gates = {"rnn": 1, "lstm": 4}.get(kind, 3)
        operations = 2 * m * T_x * n_a * (gates * (n_a + n_x) + n_y)
        sigmoids, tanhs = {"rnn": (0, 1), "lstm": (3, 2)}.get(kind, (2, 1))
        one = sigmoids * s["sigmoid"] + tanhs * s["tanh"]
        values = m * T_x * (n_a * one + n_y * s["exp"])
        if what == "fb":
            operations += 4 * m * T_x * n_a * gates * (n_a + n_x)
            values += m * T_x * n_a * s["tanh"] if kind == "lstm" else 0
        return operations / self.flops + values / threads


def compete(calls, ours, seconds, pause):
    """Rounds in turn: our times, and each peer's ratios.

    A turn begins with an untimed call, so that nobody pays for the caches that another has filled, after a
    pause in which the threads of another go to sleep: OpenMP's and OpenBLAS's spin for a while.
    """

    def turn(call, repeat):
        time.sleep(pause)
        call()
        return elapsed(call, repeat)

    repeats = {}
    for name, call in {**calls, "cyrnn": ours}.items():
        elapsed(call, 2)
        repeats[name] = max(1, int(2e-3 / elapsed(call, 3)))
    times, ratios = [], {name: [] for name in calls}
    end = time.perf_counter() + 2 * seconds * len(calls)
    while time.perf_counter() < end or len(times) < 5:
        times.append(turn(ours, repeats["cyrnn"]))
        for name, call in calls.items():
            ratios[name].append(turn(call, repeats[name]) / times[-1])
    return times, {name: statistics.quantiles(values, n=4) for name, values in ratios.items()}


def measure(arguments, threads):
    """All rows for one number of threads, in this process."""
    import peers
    from tqdm import tqdm

    import cyrnn
    from cyrnn import _kernels
    from cyrnn.demo import numpy_reference

    if hasattr(os, "sched_setaffinity"):  # XLA has no other limit that holds
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    cyrnn.set_num_threads(threads)
    makers = peers.contenders(threads, peers.PEERS if arguments.peers else ())
    sizes = arguments.sizes or (SIZES[:5] if arguments.quick else SIZES)
    seconds = arguments.seconds or (0.12 if arguments.quick else 1.0)
    limit, rows = Limit(), []
    cases = [(size, kind) for size in sizes for kind in KINDS]
    for size, kind in tqdm(cases, desc=f"{threads} thread{'s' * (threads > 1)}", unit="case", disable=None):
        q = peers.problem(kind, *size)
        ours, numpy_calls = peers.functions(cyrnn, q), peers.functions(numpy_reference, q)
        others = {name: make(q) for name, make in makers.items()}
        if kind == "gru_before":  # the peers' GRU is the other form, and so is the rival of ours
            others = {"reset after": peers.functions(cyrnn, peers.problem("gru_after", *size))}
        if kind == "rnn":
            ours, numpy_calls = ours | peers.activations(cyrnn, q), numpy_calls | peers.activations(numpy_reference, q)
        for what, call in ours.items():
            rivals = {"NumPy": numpy_calls[what]} | {name: c[what] for name, c in others.items() if what in c}
            row = {"size": size, "kind": kind, "what": what, "threads": threads}
            limit.measure()
            times, row["ratios"] = compete(rivals, call, seconds, 0.15 if threads > 1 else 0.0)
            row["seconds"] = statistics.median(times)
            if what in ("f", "fb"):
                row["share"] = limit.time(kind, what, size, threads) / row["seconds"]
                row["GFLOP/s"] = limit.flops / 1e9
            rows.append(row)
    modules = ("numpy", *(("torch", "jax", "onnxruntime") if arguments.peers else ()))
    versions = {name: sys.modules[name].__version__ for name in modules if name in sys.modules}
    return {"rows": rows, "build": _kernels.build, "cyrnn": cyrnn.__version__, "versions": versions}


def name_of(row):
    """The pass of a row in words."""
    return f"{TITLES[row['kind']]} {WORDS[row['what']]}" if row["what"] in WORDS else row["what"]


def text(row):
    """One row as a person reads it."""
    shown = "".join(f"   {name} {r[1]:.2f} ({r[0]:.2f} to {r[2]:.2f})" for name, r in row["ratios"].items())
    share = f"{row['share']:5.2f}" if "share" in row else "     "
    return f"{row['size']!s:<24}{name_of(row):<40}{row['seconds'] * 1e6:>12,.1f} us {share}{shown}"


def markdown(result):
    """The table of docs/speed.md, and where a peer is ahead."""
    rows = [row for row in result["rows"] if row["kind"] != "gru_before"]
    names = list(dict.fromkeys(name for row in rows for name in row["ratios"]))
    head = ["n_x, n_a, n_y, m, T_x", "", "threads", "time", "fraction of peak", *names]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        if row["what"] in ("f", "fb"):
            ratios = [f"{row['ratios'][name][1]:.1f}" if name in row["ratios"] else "" for name in names]
            size = ", ".join(map(str, row["size"]))
            seconds = row["seconds"]
            shown = f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
            cells = [size, name_of(row), str(row["threads"]), shown, f"{row['share']:.2f}", *ratios]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *behind(result["rows"], names), *forms(result["rows"])])


def forms(rows):
    """How long the GRU takes with its reset before the product, over after it; a line for each number of threads."""
    lines = []
    for threads in dict.fromkeys(row["threads"] for row in rows):
        mine = [row for row in rows if (row["kind"], row["threads"]) == ("gru_before", threads)]
        shown = []
        for what in ("f", "fb"):
            if ratios := [1 / row["ratios"]["reset after"][1] for row in mine if row["what"] == what]:
                shown.append(f"{WORDS[what]} {min(ratios):.2f} to {max(ratios):.2f}")
        if shown:
            where = f"on {threads} thread{'s' * (threads > 1)}"
            lines.append(f"- GRU, time of reset before over that of reset after {where}: {', '.join(shown)}.")
    return lines


def behind(rows, names):
    """Where a peer is faster, a line for each peer and number of threads."""
    lines = []
    for name in names:
        for threads in dict.fromkeys(row["threads"] for row in rows):
            mine = [row for row in rows if row["threads"] == threads and name in row["ratios"]]
            ahead = [row for row in mine if row["ratios"][name][1] < 1]
            if ahead:
                most = min(ahead, key=lambda row: row["ratios"][name][1])
                lines.append(
                    f"- {name} is faster on {threads} thread{'s' * (threads > 1)} in {len(ahead)} of {len(mine)} "
                    f"cases, by up to {1 / most['ratios'][name][1]:.1f} ({name_of(most)} at {tuple(most['size'])})."
                )
    return lines or ["No peer is faster at any of these sizes."]


def picture(result, path):
    """Bars of every peer's time over ours, one panel for each kind of pass."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    threads = result["rows"][0]["threads"]
    kinds = [kind for kind in KINDS if kind != "gru_before"]
    panels = [(kind, what) for kind in kinds for what in ("f", "fb")]
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["ratios"] if name != "reset after"))
    figure, axes = plt.subplots(len(kinds), 2, figsize=(13, 4 * len(kinds)), sharey=True, layout="constrained")
    for axis, (kind, what) in zip(axes.flat, panels, strict=True):
        rows = [r for r in result["rows"] if (r["kind"], r["what"], r["threads"]) == (kind, what, threads)]
        for k, name in enumerate(names):
            bars = [(i, row["ratios"][name]) for i, row in enumerate(rows) if name in row["ratios"]]
            if bars:
                middle = [r[1] for _, r in bars]
                spread = [[r[1] - r[0] for _, r in bars], [r[2] - r[1] for _, r in bars]]
                at = [i + (k - len(names) / 2 + 0.5) * 0.8 / len(names) for i, _ in bars]
                axis.bar(at, middle, 0.8 / len(names), yerr=spread, label=name)
        axis.axhline(1, color="black", linewidth=1)
        axis.set(yscale="log", title=f"{TITLES[kind]} {WORDS[what]}", ylabel="time of the peer / time of cyrnn")
        labels = [",".join(map(str, row["size"])) for row in rows]
        axis.set_xticks(range(len(rows)), labels, rotation=25, ha="right", fontsize=8)
        axis.grid(axis="y", alpha=0.3)
    axes.flat[0].legend()
    figure.suptitle(f"Above the line cyrnn is ahead; {threads} thread{'s' * (threads > 1)}; n_x,n_a,n_y,m,T_x")
    figure.savefig(path, dpi=110)


def about(result):
    """Return what was measured where: versions, kernels, processor."""
    peers = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    cpus = f"{result['processors']} CPUs"
    return f"cyrnn {result['cyrnn']}, build {result['build']}; {peers}; {result['processor']}, {cpus}."


def processor():
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def write_table(page, table, name="benchmark"):
    """Put a table where a page has its benchmark."""
    begin = f"<!-- {name} -->\n"
    before, rest = page.read_text().split(begin)
    _, after = rest.split("<!-- end -->\n", 1)
    page.write_text(f"{before}{begin}{table}\n<!-- end -->\n{after}")


def size(text):
    """One size as the command line spells it."""
    n_x, n_a, n_y, m, T_x = map(int, text.split(","))
    return n_x, n_a, n_y, m, T_x


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smaller sizes, short rounds: under a minute")
    parser.add_argument("--peers", action="store_true", help="PyTorch, JAX and ONNX Runtime too, where installed")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="numbers of threads, a process for each")
    parser.add_argument("--sizes", type=size, nargs="+", metavar="n_x,n_a,n_y,m,T_x", help="these instead of the grid")
    parser.add_argument("--seconds", type=float, help="time for each contender of a row")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--picture", type=Path, help="write a picture to this file")
    parser.add_argument("--docs", action="store_true", help="write the table of docs/speed.md and README's picture")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        arguments.child.write_text(json.dumps(measure(arguments, arguments.threads[0])))
        return
    result = {"rows": [], "processor": processor(), "processors": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        for threads in arguments.threads:
            path = Path(folder, "rows.json")
            passed = [word for word in sys.argv[1:] if word in ("--quick", "--peers")]
            passed += ["--seconds", str(arguments.seconds)] if arguments.seconds else []
            passed += ["--sizes", *(",".join(map(str, s)) for s in arguments.sizes)] if arguments.sizes else []
            command = [sys.executable, __file__, *passed, "--threads", str(threads), "--child", str(path)]
            subprocess.run(command, env=one_process(threads), check=True)
            part = json.loads(path.read_text())
            rows = result["rows"] + part.pop("rows")
            result |= part | {"rows": rows}
    print(about(result))
    if "OPENBLAS_CORETYPE" in os.environ:  # as one wants for a build of ours that is not the best either
        print(f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} holds NumPy, and so the limit, to those kernels.")
    print(f"{'n_x, n_a, n_y, m, T_x':<24}{'function':<40}{'cyrnn':>15} share   the peer's time / ours (quartiles)")
    for row in result["rows"]:
        print(text(row))
    print("\n" + markdown(result).split("\n\n")[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    if arguments.picture:
        picture(result, arguments.picture)
    if arguments.docs:
        write_table(ROOT / "docs/speed.md", about(result) + "\n\n" + markdown(result))
        sys.path.insert(0, str(ROOT / "docs"))
        import figures

        figures.speed(figures.KEPT)


if __name__ == "__main__":
    main()
