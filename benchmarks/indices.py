"""Indices instead of one-hot columns: the time of plain NumPy that picks columns, and of the one-hot array, over ours.

    python benchmarks/indices.py [--seconds 2] [--threads 1] [--sizes 8000,100,16,35 ...]

A word-level RNN without its output layer, n_x words and n_a units, m sentences of T_x words: f forward, fb forward and
backward.  All are timed in one process, in turn; what is shown is the median of the ratios of each round, and its
quartiles.  The results are compared first.
"""

import argparse
import os
import statistics

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--seconds", type=float, default=2.0, help="time for each row")
parser.add_argument("--threads", type=int, default=1, help="of cyrnn and of NumPy's BLAS")
parser.add_argument("--sizes", nargs="+", metavar="n_x,n_a,m,T_x", default=["8000,100,16,35", "27,128,32,20"])
arguments = parser.parse_args()
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(arguments.threads)

import numpy as np  # noqa: E402
from run import compete  # noqa: E402

import cyrnn  # noqa: E402


def numpy_rnn(index, p, da=None):
    """The states, and with `da` the gradients."""
    Wax, Waa, (m, T_x) = p["Wax"], p["Waa"], index.shape
    a = [np.zeros((len(Waa), m))]
    for t in range(T_x):
        a.append(np.tanh(Wax[:, index[:, t]] + Waa @ a[t] + p["ba"]))
    if da is None:
        return np.stack(a[1:], axis=2)
    dWax, dWaa, dba, into = np.zeros_like(Wax), np.zeros_like(Waa), np.zeros_like(p["ba"]), 0.0
    for t in reversed(range(T_x)):
        dz = (1 - a[t + 1] ** 2) * (da[:, :, t] + into)
        np.add.at(dWax.T, index[:, t], dz.T)
        dWaa += dz @ a[t].T
        dba += dz.sum(axis=1, keepdims=True)
        into = Waa.T @ dz
    return {"da0": into, "dWax": dWax, "dWaa": dWaa, "dba": dba}


def functions(n_x, n_a, m, T_x):
    """The calls of one size, by what they do and for whom."""
    rng = np.random.default_rng(0)
    p = cyrnn.initialize_parameters("rnn", n_x=n_x, n_a=n_a, n_y=1, rng=rng)
    index, da = rng.integers(n_x, size=(m, T_x)), rng.normal(size=(n_a, m, T_x))

    def one_hot():
        x = np.zeros((n_x, m, T_x))
        x[index, np.arange(m)[:, None], np.arange(T_x)] = 1.0
        return x

    def forward(x):
        return cyrnn.rnn_forward(x, None, p, output=None, cache=False)[0]

    def both(x):
        return cyrnn.rnn_backward(da, cyrnn.rnn_forward(x, None, p, output=None)[2])

    np.testing.assert_allclose(forward(index), numpy_rnn(index, p), rtol=0, atol=1e-12)
    for name, value in numpy_rnn(index, p, da).items():
        np.testing.assert_allclose(both(index)[name], value, rtol=0, atol=1e-11)
    return {
        "f": (lambda: forward(index), {"NumPy": lambda: numpy_rnn(index, p), "one-hot": lambda: forward(one_hot())}),
        "fb": (lambda: both(index), {"NumPy": lambda: numpy_rnn(index, p, da), "one-hot": lambda: both(one_hot())}),
    }


cyrnn.set_num_threads(arguments.threads)
print(f"{'n_x, n_a, m, T_x':<20}{'':<4}{'cyrnn':>12}   NumPy / cyrnn        one-hot / cyrnn")
for size in arguments.sizes:
    for what, (ours, others) in functions(*map(int, size.split(","))).items():
        times, ratios = compete(others, ours, arguments.seconds / 4, 0.0)
        shown = "   ".join(f"{middle:5.2f} ({low:.2f} to {high:.2f})" for low, middle, high in ratios.values())
        print(f"{size:<20}{what:<4}{statistics.median(times) * 1e6:>9,.0f} us   {shown}", flush=True)
