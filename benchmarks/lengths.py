"""What different lengths cost: the time with lengths over that of the same work without padding.

    python benchmarks/lengths.py [--seconds 1] [--sizes 64,128,64,32,100 ...]

With lengths: 2 m examples of 0 to T_x steps, m T_x in all; other ones at every call, or the processor would learn them
by heart (its branch prediction does).  Without: m examples of T_x steps.  Both are timed in one process, on one thread,
in turn; what is shown is the median of the ratios of each round, and its quartiles.
"""

import argparse
import itertools
import statistics
from types import SimpleNamespace

import numpy as np
import peers
from run import compete, size

import cyrnn

SIZES = [  # n_x, n_a, n_y, m, T_x
    (3, 5, 2, 10, 4),
    (3, 5, 2, 10, 40),
    (3, 5, 2, 100, 40),
    (16, 32, 16, 16, 20),
    (16, 32, 16, 100, 20),
    (32, 64, 16, 100, 10),
    (32, 64, 32, 16, 50),
    (64, 128, 64, 32, 100),
    (128, 256, 64, 64, 50),
    (16, 32, 4, 300, 1),
    (16, 32, 4, 300, 4),
]
DRAWN = 64  # batches of lengths, used in turn


def functions(kind, n, padded):
    """The calls of one size; both kinds draw lengths, so that this costs the same."""
    *units, m, T_x = n
    rng = np.random.default_rng(0)
    short = rng.integers(0, T_x, (DRAWN, m), endpoint=True)
    lengths = itertools.cycle(rng.permuted(np.concatenate([short, T_x - short], axis=1), axis=1))
    q = peers.problem(kind, *units, 2 * m if padded else m, T_x)
    forward = getattr(cyrnn, f"{q.prefix}_forward")

    def call(*arguments, **options):
        drawn = next(lengths)
        return forward(*arguments, **options, lengths=drawn if padded else None)

    return peers.functions(SimpleNamespace(**vars(cyrnn) | {f"{q.prefix}_forward": call}), q)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each row")
    parser.add_argument("--sizes", type=size, nargs="+", metavar="n_x,n_a,n_y,m,T_x", help="these instead")
    arguments = parser.parse_args()
    cyrnn.set_num_threads(1)
    print(f"{'n_x, n_a, n_y, m, T_x':<24}{'':<14}{'without':>14}{'with lengths':>16}   ratio (quartiles)")
    for n in arguments.sizes or SIZES:
        for kind in ("rnn", "lstm", "gru_after"):
            padded, plain = functions(kind, n, padded=True), functions(kind, n, padded=False)
            for what in ("f", "fb"):
                times, ratios = compete({"padded": padded[what]}, plain[what], arguments.seconds / 2, 0.0)
                without, (low, middle, high) = statistics.median(times), ratios["padded"]
                print(
                    f"{n!s:<24}{kind + ' ' + what:<14}{without * 1e6:>11,.1f} us{middle * without * 1e6:>13,.1f} us"
                    f"   {middle:.2f} ({low:.2f} to {high:.2f})", flush=True
                )  # fmt: skip


if __name__ == "__main__":
    main()
