"""The default number of threads against one thread on a machine that is busy with other work.

    python benchmarks/busy.py [--calls 30] [--busy 0 1 2 4] [--nice 0 19] [--sizes 64,64,16,32,100 ...]

Starts so many processes that compute without end, of the same priority or with a lower one, and calls the LSTM forward
and backward on one thread and on the default number in turn, in one process.  What is shown are medians and, in
parentheses, the slowest call.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time

import peers
from run import size

import cyrnn

SIZES = [(64, 64, 16, 32, 100), (128, 128, 16, 64, 50), (256, 512, 16, 4, 50)]  # n_x, n_a, n_y, m, T_x


@contextlib.contextmanager
def busy_processes(count, nice):
    """Run so many of them meanwhile."""
    code = f"import os; os.nice({nice})\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(call, threads):
    """The time of one call on so many threads."""
    cyrnn.set_num_threads(threads)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=30, help="of each kind")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4], help="numbers of busy processes")
    parser.add_argument("--nice", type=int, nargs="+", default=[0, 19], help="how much lower their priority is")
    parser.add_argument("--sizes", type=size, nargs="+", metavar="n_x,n_a,n_y,m,T_x", help="these instead")
    arguments = parser.parse_args()
    print(f"lstm forward + backward in ms; {cyrnn.get_num_threads()} threads by default; {arguments.calls} calls each")
    print(f"{'n_x, n_a, n_y, m, T_x':<24}{'busy':>5}{'nice':>5}{'1 thread':>18}{'default':>18}{'ratio':>7}")
    for n in arguments.sizes or SIZES:
        call = peers.functions(cyrnn, peers.problem("lstm", *n))["fb"]
        for count in arguments.busy:
            for nice in arguments.nice if count else [0]:
                with busy_processes(count, nice):
                    pairs = [(seconds(call, 1), seconds(call, None)) for _ in range(arguments.calls)]
                both = list(zip(*pairs, strict=True))
                one, default = (statistics.median(times) for times in both)
                shown = "".join(f"{1e3 * statistics.median(t):>10.1f}{f'({1e3 * max(t):.0f})':>8}" for t in both)
                print(f"{str(n)[1:-1]:<24}{count:>5}{nice:>5}{shown}{default / one:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
