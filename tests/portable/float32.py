"""exp, tanh, sigmoid and log on floats, for every argument there is, in every build.

    python tests/portable/float32.py [--sample] [--cycles] [builds]      by default baseline v3 v4

compiles float32.c, beside this file, with the flags of setup.py and runs it over all 2^32 bit patterns (minutes a
build) or, with --sample, over every 4099th and densely around the places where something changes (less than a second).
Prints the largest error of each function in units in the last place and where it is; fails from 2 on, and where tanh is
not odd or above 1, a function not monotone, a value not the same in the body of a loop and in its tail, with subnormal
numbers flushed one wrong that need not be, or a vector operation wrong.
--cycles prints the clock ticks of a value in a loop instead, of floats and of doubles.  Other processors:

    python tests/portable/float32.py --sample --compiler "aarch64-linux-gnu-gcc -static" --run qemu-aarch64 baseline
"""

import argparse
import ast
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLICES = 256
EVERY = 4099


def flags():
    """What setup.py gives every build, and what each build adds."""
    common, builds = [], {"baseline": []}
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        match node:
            case ast.Assign(targets=[ast.Name(id="FLAGS")], value=value):
                common = [n.value for n in ast.walk(value) if isinstance(n, ast.Constant) and n.value != "-O1"]
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id="BUILDS"), slice=ast.Constant(value=name))]):
                builds[name] = ast.literal_eval(node.value)
    return common, builds


def compiled(build, folder, compiler="gcc", real="float"):
    """The program of a build."""
    common, builds = flags()
    program = Path(folder, f"{real}-{build}")
    options = [*common, *builds[build], "-Wall", "-Werror", f"-I{ROOT / 'src/cyrnn/_kernels'}"]
    options += ["-DCYRNN_F32"] * (real == "float")
    source = ROOT / "tests/portable/float32.c"
    subprocess.run([*shlex.split(compiler), *options, source, "-lm", "-o", program], check=True)
    return program


def output(program, *words, run=""):
    """What the program prints, and its exit status."""
    done = subprocess.run([*shlex.split(run), program, *map(str, words)], capture_output=True, text=True)
    return done.stdout.splitlines() + done.stderr.splitlines(), done.returncode


def check(program, sample, run=""):
    """The largest error of each function and where it is, and what is wrong."""
    tasks = [("vectors",), ("switches",)]
    if sample:
        tasks.append(("functions", 0, 2**32, EVERY))
    else:
        tasks += [("functions", 2**32 // SLICES * i, 2**32 // SLICES * (i + 1), 1) for i in range(SLICES)]
    with ThreadPoolExecutor(1 if sample else os.cpu_count()) as pool:
        outputs = list(pool.map(lambda task: output(program, *task, run=run), tasks))
    largest, wrong = {}, []
    for task, (lines, status) in zip(tasks, outputs, strict=True):
        failed = [line for line in lines if line.startswith("failed")]
        wrong += failed
        if status and not failed:
            wrong.append(f"{task[0]}: exit status {status} {' '.join(lines)}")
        for line in lines if task[0] != "vectors" and not wrong else ():
            name, error, at = line.split()
            largest[name] = max(largest.get(name, (0.0, 0.0)), (float(error), float.fromhex(at)))
    return largest, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("builds", nargs="*", metavar="build")
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--cycles", action="store_true")
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--run", default="", help="an emulator")
    parser.add_argument("--folder", help="where the programs are kept")
    arguments = parser.parse_args()
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        for build in arguments.builds or flags()[1]:
            program = compiled(build, arguments.folder or folder, arguments.compiler)
            if output(program, "vectors", run=arguments.run)[1] == -signal.SIGILL:
                print(f"{build:<10}this processor has not what it needs: left out")
                continue
            if arguments.cycles:
                double = compiled(build, arguments.folder or folder, arguments.compiler, "double")
                for lines in zip(output(program, "cycles")[0], output(double, "cycles")[0], strict=True):
                    (name, ticks, _), (_, ticks_double, _) = map(str.split, lines)
                    print(f"{build:<10}{name:<10}{ticks} ticks, on doubles {ticks_double}")
                continue
            start = time.perf_counter()
            largest, wrong = check(program, arguments.sample, arguments.run)
            for name, (error, at) in largest.items():
                print(f"{build:<10}{name:<10}{error:.3f} ulp at {at.hex()} = {at:.9g}")
            print(*wrong[:20], f"{build:<10}{len(wrong)} failures, {time.perf_counter() - start:.0f} s", sep="\n")
            sys.stdout.flush()
            status |= bool(wrong)
    sys.exit(status)


if __name__ == "__main__":
    main()
