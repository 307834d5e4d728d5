"""Two Python threads that call at the same time against one, at small sizes, with the threads of OpenMP off.

    python benchmarks/two_threads.py [--seconds 0.2] [--rounds 11] [--most 1.1] [--sizes 3,5,2,10,4 ...]

With a GIL two threads take turns with the Python part of a call and with the shortest kernels; without one they should
take the time of one thread.  Each thread makes what it calls: a free-threaded CPython counts references to the objects
of another thread by atomic operations, and such objects may share a cache line.  One thread and two run in turn, in one
process; shown is the median of the ratios.  With `--most` the exit status is 1 if one of them is above it.
"""

import argparse
import statistics
import sys
import threading
import time

import numpy as np
import peers
from run import size

import cyrnn

SIZES = [(3, 5, 2, 10, 4), (16, 32, 16, 1, 20), (32, 64, 32, 16, 10)]  # n_x, n_a, n_y, m, T_x


def calls(n):
    """What one thread calls; nothing of it belongs to another one."""
    q = peers.problem("lstm", *n)
    stream, xt = cyrnn.Stream(q.p, n[3]), q.xt.copy()
    out = tuple(np.empty_like(part) for part in stream.step(xt))
    made = peers.functions(cyrnn, q)
    return {"forward + backward": made["fb"], "cell forward": made["cell f"], "stream": lambda: stream.step(xt, out)}


def repeat(call, times):
    for _ in range(times):
        call()


def seconds(n, name, threads, times):
    """The time from the first thread's begin to the last one's end."""
    ready, ends = threading.Barrier(threads + 1), []

    def run():
        call = calls(n)[name]
        repeat(call, 100)
        ready.wait()
        repeat(call, times)
        ends.append(time.perf_counter())

    made = [threading.Thread(target=run) for _ in range(threads)]
    for thread in made:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in made:
        thread.join()
    return max(ends) - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.2, help="of one thread in a round")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--most", type=float, default=float("inf"), help="that the median may be")
    parser.add_argument("--sizes", type=size, nargs="+", metavar="n_x,n_a,n_y,m,T_x", help="these instead")
    arguments = parser.parse_args()
    cyrnn.set_num_threads(1)
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"two threads in times of one, {'with a GIL' if gil else 'without a GIL'}; median and range")
    slow = False
    for n in arguments.sizes or SIZES:
        for name, call in calls(n).items():
            start = time.perf_counter()
            repeat(call, 100)
            times = max(10, int(arguments.seconds * 100 / (time.perf_counter() - start)))
            ratios = [seconds(n, name, 2, times) / seconds(n, name, 1, times) for _ in range(arguments.rounds)]
            median = statistics.median(ratios)
            slow |= median > arguments.most
            print(f"{n!s:<24}{name:<20}{median:>6.2f}  ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    sys.exit(slow)


if __name__ == "__main__":
    main()
