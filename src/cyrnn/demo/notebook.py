"""The notebook's test cells: what they draw, what they call and what they printed.

The printed values are facts kept as the notebook shows them, one text for each quantity; everything
that compares, shows or times the cells starts from `PRINTED` and `arguments`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

import cyrnn

from .._checks import Array

# How far a number may be from one that the notebook printed in full, in units in the last place.  The
# last digits are those of its BLAS and its order of summation.  The farthest is da_prev[2][3] of the
# RNN's cell, 0.084 left of terms of up to 0.55, where one rounding of a term is worth 4 of these units:
# the builds land 2 to 8 away there, plain NumPy up to 11 at da0[2][3] of the whole RNN.
ULPS = 16

# What each function returns, by the names that the expressions below use.
RESULTS = {
    "rnn_cell_forward": ("a_next", "yt_pred", "cache"),
    "rnn_forward": ("a", "y_pred", "caches"),
    "lstm_cell_forward": ("a_next", "c_next", "yt", "cache"),
    "lstm_forward": ("a", "y", "c", "caches"),
    "rnn_cell_backward": ("gradients",),
    "rnn_backward": ("gradients",),
    "lstm_backward": ("gradients",),
}

# The quantities that each test cell prints, in its order, and the texts that it printed.  The cell of
# lstm_backward is not in the notebook: its numbers are those published for the same function.
PUBLISHED = {"lstm_backward"}
PRINTED = {
    "rnn_cell_forward": {
        "a_next[4]": """[ 0.59584544  0.18141802  0.61311866  0.99808218  0.85016201  0.99980978
 -0.18887155  0.99815551  0.6531151   0.82872037]""",
        "a_next.shape": "(5, 10)",
        "yt_pred[1]": """[0.9888161  0.01682021 0.21140899 0.36817467 0.98988387 0.88945212
 0.36920224 0.9966312  0.9982559  0.17746526]""",
        "yt_pred.shape": "(2, 10)",
    },
    "rnn_forward": {
        "a[4][1]": "[-0.99999375  0.77911235 -0.99861469 -0.99833267]",
        "a.shape": "(5, 10, 4)",
        "y_pred[1][3]": "[0.79560373 0.86224861 0.11118257 0.81515947]",
        "y_pred.shape": "(2, 10, 4)",
        "caches[1][1][3]": "[-1.1425182  -0.34934272 -0.20889423  0.58662319]",
        "len(caches)": "2",
    },
    "lstm_cell_forward": {
        "a_next[4]": """[-0.66408471  0.0036921   0.02088357  0.22834167 -0.85575339  0.00138482
  0.76566531  0.34631421 -0.00215674  0.43827275]""",
        "a_next.shape": "(5, 10)",
        "c_next[2]": """[ 0.63267805  1.00570849  0.35504474  0.20690913 -1.64566718  0.11832942
  0.76449811 -0.0981561  -0.74348425 -0.26810932]""",
        "c_next.shape": "(5, 10)",
        "yt[1]": """[0.79913913 0.15986619 0.22412122 0.15606108 0.97057211 0.31146381
 0.00943007 0.12666353 0.39380172 0.07828381]""",
        "yt.shape": "(2, 10)",
        "cache[1][3]": """[-0.16263996  1.03729328  0.72938082 -0.54101719  0.02752074 -0.30821874
  0.07651101 -1.03752894  1.41219977 -0.37647422]""",
        "len(cache)": "10",
    },
    "lstm_forward": {
        "a[4][3][6]": "0.17211776753291672",
        "a.shape": "(5, 10, 7)",
        "y[1][4][3]": "0.9508734618501101",
        "y.shape": "(2, 10, 7)",
        "caches[1][1][1]": """[ 0.82797464  0.23009474  0.76201118 -0.22232814 -0.20075807  0.18656139
  0.41005165]""",
        "c[1][2][1]": "-0.8555449167181981",
        "len(caches)": "2",
    },
    "rnn_cell_backward": {
        'gradients["dxt"][1][2]': "-0.4605641030588796",
        'gradients["dxt"].shape': "(3, 10)",
        'gradients["da_prev"][2][3]': "0.08429686538067724",
        'gradients["da_prev"].shape': "(5, 10)",
        'gradients["dWax"][3][1]': "0.3930818739219303",
        'gradients["dWax"].shape': "(5, 3)",
        'gradients["dWaa"][1][2]': "-0.28483955786960663",
        'gradients["dWaa"].shape': "(5, 5)",
        'gradients["dba"][4]': "[0.80517166]",
        'gradients["dba"].shape': "(5, 1)",
    },
    "rnn_backward": {
        'gradients["dx"][1][2]': "[-2.07101689 -0.59255627  0.02466855  0.01483317]",
        'gradients["dx"].shape': "(3, 10, 4)",
        'gradients["da0"][2][3]': "-0.31494237512664996",
        'gradients["da0"].shape': "(5, 10)",
        'gradients["dWax"][3][1]': "11.264104496527777",
        'gradients["dWax"].shape': "(5, 3)",
        'gradients["dWaa"][1][2]': "2.303333126579893",
        'gradients["dWaa"].shape': "(5, 5)",
        'gradients["dba"][4]': "[-0.74747722]",
        'gradients["dba"].shape': "(5, 1)",
    },
    "lstm_backward": {
        'gradients["dx"][1][2]': "[0.00218254 0.28205375 -0.48292508 -0.43281115]",
        'gradients["da0"][2][3]': "0.312770310257",
        'gradients["dWf"][3][1]': "-0.0809802310938",
        'gradients["dWi"][1][2]': "0.40512433093",
        'gradients["dWc"][3][1]': "-0.0793746735512",
        'gradients["dWo"][1][2]': "0.038948775763",
    },
}

SHAPES = {
    "xt": (3, 10), "a_prev": (5, 10), "c_prev": (5, 10), "da_next": (5, 10), "dc_next": (5, 10),
    "x": (3, 10, 4), "a0": (5, 10), "da": (5, 10, 4),
    "Wax": (5, 3), "Waa": (5, 5), "ba": (5, 1), "Wya": (2, 5), "Wy": (2, 5), "by": (2, 1),
    "Wf": (5, 8), "Wi": (5, 8), "Wc": (5, 8), "Wo": (5, 8),
    "bf": (5, 1), "bi": (5, 1), "bc": (5, 1), "bo": (5, 1),
}  # fmt: skip


class Draw:
    """The numbers that follow ``np.random.seed(1)``, without touching the caller's generator."""

    def __init__(self) -> None:
        self._random = np.random.RandomState(1)

    def one(self, name: str, *shape: int) -> Array:
        """Draw one array, of the notebook's shape unless another is given."""
        return self._random.randn(*(shape or SHAPES[name]))

    def parameters(self, names: str) -> dict[str, Array]:
        """Draw the arrays named, in the order named."""
        return {name: self.one(name) for name in names.split()}


def arguments(functions: Any) -> dict[str, tuple[Any, ...]]:
    """Draw the arguments of every test cell.

    Parameters
    ----------
    functions : module
        `cyrnn` or `cyrnn._plain`: whose forward functions make the caches for the backward ones.

    Returns
    -------
    dict
        For each function of the notebook the tuple to call it with.
    """
    gates = "Wf bf Wi bi Wo bo Wc bc"
    cells: dict[str, tuple[Any, ...]] = {}

    draw = Draw()
    cells["rnn_cell_forward"] = draw.one("xt"), draw.one("a_prev"), draw.parameters("Waa Wax Wya ba by")

    draw = Draw()
    cells["rnn_forward"] = draw.one("x"), draw.one("a0"), draw.parameters("Waa Wax Wya ba by")
    ba = cells["rnn_forward"][2]["ba"]

    draw = Draw()
    state = draw.one("xt"), draw.one("a_prev"), draw.one("c_prev")
    cells["lstm_cell_forward"] = *state, draw.parameters(f"{gates} Wy by")
    *_, cache = functions.lstm_cell_forward(*cells["lstm_cell_forward"])
    cells["lstm_cell_backward"] = draw.one("da_next"), draw.one("dc_next"), cache  # timed, never printed

    draw = Draw()
    cells["lstm_forward"] = draw.one("x", 3, 10, 7), draw.one("a0"), draw.parameters(f"{gates} Wy by")

    # This cell draws a `b` that it does not use: its `ba` is the one left over from rnn_forward's.
    draw = Draw()
    xt, a_prev, parameters = draw.one("xt"), draw.one("a_prev"), draw.parameters("Wax Waa Wya ba by")
    *_, cache = functions.rnn_cell_forward(xt, a_prev, parameters | {"ba": ba})
    cells["rnn_cell_backward"] = draw.one("da_next"), cache

    draw = Draw()
    x, a0, parameters = draw.one("x"), draw.one("a0"), draw.parameters("Wax Waa Wya ba by")
    *_, caches = functions.rnn_forward(x, a0, parameters)
    cells["rnn_backward"] = draw.one("da"), caches

    # Seven steps forward, four back.  The published numbers come from draws without Wy and by, and do
    # not depend on their values.
    draw = Draw()
    x, a0, parameters = draw.one("x", 3, 10, 7), draw.one("a0"), draw.parameters(gates)
    *_, caches = functions.lstm_forward(x, a0, parameters | {"Wy": np.zeros((2, 5)), "by": np.zeros((2, 1))})
    cells["lstm_backward"] = draw.one("da"), caches
    return cells


def numbers(text: str) -> list[str]:
    """Split a printed number or row of numbers; anything else stays in one piece."""
    return text.strip("[]").split() if "." in text else [text]


def in_full(text: str) -> bool:
    """Whether a text is one number with all the digits that float64 has."""
    return "[" not in text and sum(map(str.isdigit, text.lstrip("-0."))) >= 16


def as_printed(value: Any, text: str) -> str:
    """Print a value with as many decimals as the notebook printed in `text`."""
    if "." not in text:
        return str(value)
    if in_full(text):
        return repr(float(value))
    # NumPy drops trailing zeros, so a row was printed with the decimals of its longest number.
    decimals = max(len(number.partition(".")[2]) for number in numbers(text))
    row = " ".join(f"{number:.{decimals}f}".rstrip("0") for number in np.ravel(value).tolist())
    return f"[{row}]" if "[" in text else row


def ulps(value: float, text: str) -> float:
    """How far a value is from a number printed in full, in units in the last place."""
    return abs(float(value) - float(text)) / math.ulp(float(text))


def agree(value: Any, text: str) -> bool:
    """Whether a value is what the notebook printed, to all the digits that it printed.

    Rounded to the printed number of decimals it must give the very same digits.  Only where a number
    was printed in full, `ULPS` units in the last place are allowed: those digits depend on the order
    in which the BLAS of the day summed.
    """
    if in_full(text):
        return ulps(value, text) <= ULPS
    return numbers(as_printed(value, text)) == numbers(text)


class Record(NamedTuple):
    """One quantity that the notebook prints."""

    function: str
    expression: str
    value: Any
    printed: str  # by the notebook
    agrees: bool


def replay() -> list[Record]:
    """Run the test cells with this package and compare every quantity that they print."""
    cells = arguments(cyrnn)
    records = []
    for function, printed in PRINTED.items():
        result = getattr(cyrnn, function)(*cells[function])
        names = RESULTS[function]
        variables = dict(zip(names, (result,) if len(names) == 1 else result, strict=True))
        for expression, text in printed.items():
            # The expressions are the constants above: what is shown is what is evaluated.
            value = eval(expression, {"len": len}, variables)
            records.append(Record(function, expression, value, text, agree(value, text)))
    return records
