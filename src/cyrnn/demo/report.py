"""The report of ``python -m cyrnn``: the notebook replayed, checked and timed on this machine, then a real text."""

import argparse
import codecs
import contextlib
import io
import os
import platform
import statistics
import sys
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np

import cyrnn

from .. import _kernels
from .._checks import Array
from . import numpy_reference
from .notebook import PUBLISHED, ULPS, Record, arguments, as_printed, in_full, numbers, replay, ulps

FUNCTIONS = (
    "softmax", "sigmoid",
    "rnn_cell_forward", "rnn_forward", "rnn_cell_backward", "rnn_backward",
    "lstm_cell_forward", "lstm_forward", "lstm_cell_backward", "lstm_backward",
    "gru_cell_forward", "gru_forward", "gru_cell_backward", "gru_backward",
)  # fmt: skip
M, T_X, N_A = 32, 100, 64  # of the real text
TOLERANCE = 1e-11  # there: the largest difference over the largest value of plain NumPy's array


class Screen:
    """Standard output as it is now: whether it takes colours, and the signs it can encode."""

    def __init__(self) -> None:
        env = os.environ
        terminal = sys.stdout.isatty() and env.get("TERM") != "dumb"
        self.colour = not env.get("NO_COLOR") and bool(env.get("FORCE_COLOR") or terminal)
        self.tick, self.cross, self.micro = "✓ ", "✗ ", "µ"
        try:
            (self.tick + self.cross + self.micro).encode(sys.stdout.encoding or "ascii")
        except UnicodeEncodeError:
            self.tick, self.cross, self.micro = "ok", "NO", "u"

    def _paint(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def bold(self, text: str) -> str:
        """Make a heading."""
        return self._paint(1, text)

    def dim(self, text: str) -> str:
        """Make a remark."""
        return self._paint(2, text)

    def mark(self, agrees: bool, text: str) -> str:
        """Put a green tick before a text, or a cross and make it all red."""
        return f"{self._paint(32, self.tick)} {text}" if agrees else self._paint(31, f"{self.cross} {text}")

    def section(self, title: str, *remarks: str) -> None:
        """Begin a section."""
        print("\n" + self.bold(title), *map(self.dim, remarks), sep="\n", flush=True)

    def times_header(self) -> None:
        """Begin a table of `times` lines."""
        print("\n" + self.bold(f"   {'':<20}{'plain NumPy':>14}{'cyrnn':>14}{'times as fast':>18}"))

    def times(self, name: str, plain: float, ours: float, ratio: float, *, unit: str, scale: float) -> None:
        """Print one line of times, given in seconds."""
        a, b = f"{plain * scale:.1f} {unit}", f"{ours * scale:.1f} {unit}"
        print(f"   {name:<20}{a:>14}{b:>14}{ratio:>18.1f}", flush=True)


def rows(text: str) -> list[str]:
    """Break a printed row of numbers into lines of two, aligned as NumPy aligns them."""
    if not text.startswith("["):
        return [text]
    row = numbers(text)
    if any(number.startswith("-") for number in row):
        row = [number if number.startswith("-") else " " + number for number in row]
    width = max(map(len, row))
    pairs = (row[k : k + 2] for k in range(0, len(row), 2))
    lines = (" ".join(f"{number:<{width}}" for number in pair).rstrip() for pair in pairs)
    return ("[" + "\n ".join(lines) + "]").split("\n")


def show_notebook(screen: Screen, records: list[Record]) -> None:
    """Print every quantity of the test cells beside what the notebook printed."""
    screen.section(
        "The notebook, replayed",
        "   Its test cells with its inputs. All digits that were printed must be the same;",
        f"   where all 16 or 17 were, to within {ULPS} ulp (units in the last place of float64).",
    )
    function = ""
    for record in records:
        if record.function != function:
            function = record.function
            source = "published" if function in PUBLISHED else "notebook"  # the notebook leaves its values out
            print("\n" + screen.bold(f"   {function:<26} {'cyrnn':<24}  {source}"))
        here = rows(as_printed(record.value, record.printed))
        there = rows(record.printed)
        name = screen.mark(record.agrees, f"{record.expression:<26}")
        for first, left, right in zip_longest([name], here, there, fillvalue=""):
            print(f"{first or ' ' * 29} {left:<24}  {screen.dim(right)}")
    farthest = max((r for r in records if in_full(r.printed)), key=lambda r: ulps(r.value, r.printed))
    distance = ulps(farthest.value, farthest.printed)
    print(f"\n   Farthest: {distance:.0f} ulp, {farthest.expression} of {farthest.function}")


def in_turn(
    plain: Callable[[], Any], ours: Callable[[], Any], rounds: int, seconds: float
) -> tuple[float, float, float]:
    """Time two calls in turn, A B A B, so that both meet the same machine.

    Parameters
    ----------
    plain, ours : callable
        The calls.
    rounds : int
        How often each is timed.
    seconds : float
        How long one timing lasts: the call is repeated to fill it.

    Returns
    -------
    plain, ours : float
        Median time of a call in seconds.
    ratio : float
        Median of the ratios plain / ours of the rounds.
    """
    timers = timeit.Timer(plain), timeit.Timer(ours)
    repeats = [max(1, int(seconds / timer.timeit(2) * 2)) for timer in timers]
    times = [[timer.timeit(n) / n for timer, n in zip(timers, repeats, strict=True)] for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    return a, b, statistics.median(t[0] / t[1] for t in times)


def gru_arguments(module: Any, cells: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Make arguments for the GRU, which the notebook has not, from those of the LSTM, with three of its gates."""
    xt, a_prev, _, p = cells["lstm_cell_forward"]
    x, a0, _ = cells["lstm_forward"]
    parameters = {part + ours: p[part + its] for ours, its in zip("urc", "fic", strict=True) for part in "Wb"}
    parameters |= {"Wy": p["Wy"], "by": p["by"]}
    *_, cache = module.gru_cell_forward(xt, a_prev, parameters)
    *_, caches = module.gru_forward(x, a0, parameters)
    return {
        "gru_cell_forward": (xt, a_prev, parameters),
        "gru_forward": (x, a0, parameters),
        "gru_cell_backward": (cells["lstm_cell_backward"][0], cache),
        "gru_backward": (cells["lstm_backward"][0], caches),
    }


def show_times(screen: Screen) -> None:
    """Time each function against the plain one at the notebook's sizes."""
    screen.section(
        "Speed at the notebook's sizes",
        "   3 inputs, 5 units, 10 examples, 4 steps (7 in lstm_forward, gru_forward). Medians of 21 rounds.",
        "   NumPy uses as many BLAS threads as it is set to; cyrnn takes one thread for so little.",
    )
    sides = [(module, arguments(module)) for module in (numpy_reference, cyrnn)]
    for module, cells in sides:
        cells |= gru_arguments(module, cells)
        a_prev = cells["lstm_cell_forward"][1]
        cells["sigmoid"] = (a_prev,)  # (n_a, m), as for a gate
        cells["softmax"] = (a_prev[:2],)  # (n_y, m)
    screen.times_header()
    for name in FUNCTIONS:
        plain, ours = (partial(getattr(module, name), *cells[name]) for module, cells in sides)
        screen.times(name, *in_turn(plain, ours, 21, 0.004), unit=f"{screen.micro}s", scale=1e6)


def a_text(length: int) -> tuple[str, str]:
    """Return the name of a text that comes with Python and its first `length` characters, lower-cased."""
    try:
        from pydoc_data.topics import topics

        name, text = "the help topics of Python (pydoc_data)", "".join(topics[key] for key in sorted(topics))
    except ImportError:  # some distributions leave it out
        with contextlib.redirect_stdout(io.StringIO()):
            import this
        name, text = "the Zen of Python (this), repeated", codecs.decode(this.s, "rot13")
    return name, (text.lower() * (length // len(text) + 1))[:length]


def one_hot(text: str) -> tuple[Array, Array]:
    """Cut a text into M pieces: every character and its successor, one-hot, each (n_x, M, T_X)."""
    letters, codes = np.unique(list(text), return_inverse=True)
    hot = np.eye(len(letters))[codes.reshape(M, T_X + 1)].transpose(2, 0, 1)
    return hot[:, :, :-1].copy(), hot[:, :, 1:].copy()


def draw_nets(n_x: int) -> dict[str, dict[str, Array]]:
    """Draw the parameters of an LSTM and an RNN that read and predict `n_x` different characters."""
    lstm = {"W" + gate: (N_A, N_A + n_x) for gate in "fico"} | {"b" + gate: (N_A, 1) for gate in "fico"}
    rnn = {"Wax": (N_A, n_x), "Waa": (N_A, N_A), "ba": (N_A, 1)}
    shapes = {
        "lstm": lstm | {"Wy": (n_x, N_A), "by": (n_x, 1)},
        "rnn": rnn | {"Wya": (n_x, N_A), "by": (n_x, 1)},
    }
    randn = np.random.RandomState(1).randn
    return {
        net: {name: randn(*shape) / shape[1] ** 0.5 for name, shape in parameters.items()}
        for net, parameters in shapes.items()
    }


def there_and_back(module: Any, net: str, x: Array, following: Array, a0: Array, p: dict[str, Array]) -> Any:
    """Run a net forward and backward: all arrays, and the two calls by themselves."""
    forward = partial(getattr(module, f"{net}_forward"), x, a0, p)
    *states, caches = forward()
    # The loss is the cross-entropy of the predictions; its gradient reaches a through Wy or Wya.
    da = np.tensordot(p["Wy" if net == "lstm" else "Wya"].T, states[1] - following, 1)
    backward = partial(getattr(module, f"{net}_backward"), da, caches)
    return dict(zip("ayc", states, strict=False)) | backward(), forward, backward


def difference(ours: Array, plain: Array) -> float:
    """Largest difference, relative to the largest value of the plain array."""
    if ours.shape != plain.shape:
        return np.inf
    return float(np.max(np.abs(ours - plain)) / np.max(np.abs(plain)))


@dataclass
class TextRun:
    """A net run over the text: how far each array is from plain NumPy's, and the calls."""

    differences: dict[str, float]
    calls: dict[str, tuple[Callable[[], Any], Callable[[], Any]]]  # plain NumPy's and ours

    @property
    def agreements(self) -> list[bool]:
        """Whether each array agrees."""
        return [d <= TOLERANCE for d in self.differences.values()]


def run_text(x: Array, following: Array) -> dict[str, TextRun]:
    """Run an LSTM and an RNN over a text, with plain NumPy and with the package."""
    runs = {}
    a0 = np.zeros((N_A, M))
    for net, parameters in draw_nets(len(x)).items():
        plain, *plain_calls = there_and_back(numpy_reference, net, x, following, a0, parameters)
        ours, *our_calls = there_and_back(cyrnn, net, x, following, a0, parameters)
        differences = {key: difference(ours[key], plain[key]) for key in plain}
        names = f"{net}_forward", f"{net}_backward"
        runs[net] = TextRun(differences, dict(zip(names, zip(plain_calls, our_calls, strict=True), strict=True)))
    return runs


def show_text(screen: Screen, name: str, text: str, runs: dict[str, TextRun], timing: bool) -> None:
    """Print how each array of the text agrees with plain NumPy, and the times."""
    n_x = len(set(text))
    screen.section(
        "A real text, one-hot by character, each predicting the next",
        f"   {len(text)} characters of {name}:",
        f"   n_x = n_y = {n_x} different ones, n_a = {N_A} units, m = {M} pieces, T_x = {T_X} steps.",
        f"   Largest difference from plain NumPy, relative; up to {TOLERANCE:.0e} agrees.",
    )
    for net, run in runs.items():
        cells = [screen.mark(d <= TOLERANCE, f"{key:<5}{d:7.1e}") for key, d in run.differences.items()]
        print("\n" + screen.bold(f"   {net}_forward, {net}_backward"))
        for k in range(0, len(cells), 4):
            print("    ".join(cells[k : k + 4]))
    if timing:
        screen.times_header()
        for run in runs.values():
            for function, pair in run.calls.items():
                screen.times(function, *in_turn(*pair, 7, 0), unit="ms", scale=1e3)


def main(argv: list[str] | None = None) -> int:
    """Replay the notebook, time the functions, run the text.

    Parameters
    ----------
    argv : list of str, optional
        The arguments of the command line; by default those of the process.

    Returns
    -------
    int
        Exit status: 0 if everything agrees, else 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m cyrnn",
        description="Replay the notebook's test cells, time every function against plain NumPy, and run an "
        "LSTM and an RNN over a real text. The exit status is 1 if anything disagrees.",
        epilog="NO_COLOR and FORCE_COLOR are honoured. CYRNN_BUILD picks the build of the kernels.",
    )
    parser.add_argument("--no-timing", action="store_true", help="check only, time nothing")
    timing = not parser.parse_args(argv).no_timing

    screen, start = Screen(), time.perf_counter()
    machine = f"{platform.system()} {platform.machine()}"
    print(
        screen.bold(f"cyrnn {cyrnn.__version__}"),
        f"  build {_kernels.build}, NumPy {np.__version__}, Python {platform.python_version()}, {machine}\n"
        f"The notebook's values, {'then the speed of every function, ' if timing else ''}then a real text.",
    )
    records = replay()
    name, text = a_text(M * (T_X + 1))
    runs = run_text(*one_hot(text))
    values, arrays = [record.agrees for record in records], [a for run in runs.values() for a in run.agreements]
    agrees = all(values) and all(arrays)
    counts = f"{sum(values)}/{len(values)} values agree with the notebook, {sum(arrays)}/{len(arrays)} arrays"
    verdict = f"{counts} with plain NumPy"
    print("\n" + screen.mark(agrees, verdict), flush=True)
    show_notebook(screen, records)
    if timing:
        show_times(screen)
    show_text(screen, name, text, runs, timing)
    print("\n" + screen.mark(agrees, f"{verdict} ({time.perf_counter() - start:.1f} s)"))
    return 0 if agrees else 1
