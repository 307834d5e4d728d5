"""The cells behind one face, so that one test body serves them all."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import reference

import cyrnn


@dataclass(frozen=True, eq=False)
class Cell:
    """A row of the table: what the cells differ in, and the calls in which they do not."""

    name: str  # as `reference.problem` takes it; the two forms of the GRU differ in it
    title: str  # in messages
    kind: str  # the prefix of the public functions, which both forms of the GRU share
    states: tuple[str, ...]  # what a step carries to the next one
    results: str  # of a sequence: a, y, c as they are returned
    step_results: str  # of one step
    gates: str  # in the order of the slots; "" where the weights have no gates
    slots: tuple[str, ...]  # of a step, in the order of a cache
    inputs: tuple[str, ...]  # the recurrent parameters
    output: tuple[str, str]  # the output layer's
    reads_a_next: bool  # whether the backward pass of a step reads the hidden state after it
    reference: Callable  # (x, a0, c0, p, da, dc) -> what reference.py finds
    torch: str  # PyTorch's module, and the gates in its order; "" for a form that it has not
    torch_gates: str
    dtype: Any = np.float64  # of the problems and of what is computed

    @property
    def id(self):
        """Of a row in a test."""
        return self.name if self.dtype is np.float64 else f"{self.name}-float32"

    @property
    def memory(self):
        """Whether a step carries a memory c beside the hidden state."""
        return "c" in self.states

    @property
    def n_gates(self):
        """How many matrices of n_a rows the weights are stacked of."""
        return max(1, len(self.gates))

    @property
    def entries(self):
        """How many entries the notebook's cache of a step has."""
        return 2 * len(self.states) + len(self.slots) + 2

    @property
    def gradients(self):
        """Of the states before a step."""
        return tuple(f"d{state}_prev" for state in self.states)

    def initialize(self, n_x, n_a, n_y, rng, **how):
        """Parameters to begin with."""
        reset = {} if "_" not in self.name else {"reset": self.name.partition("_")[2]}
        return cyrnn.initialize_parameters(self.kind, n_x, n_a, n_y, rng, **reset, **self.keywords(), **how)

    def keywords(self):
        """What the functions take for the dtype: nothing where it is the default."""
        return {} if self.dtype is np.float64 else {"dtype": self.dtype}

    def problem(self, *sizes, seed=0):
        """`reference.problem` of this cell, its numbers rounded to the dtype."""
        q = reference.problem(self.name, *sizes, seed=seed)
        for name, value in vars(q).items():
            if name != "p":
                setattr(q, name, value.astype(self.dtype))
        q.p = {name: value.astype(self.dtype) for name, value in q.p.items()}
        return q

    def exact(self, q):
        """The same problem for the same cell in float64."""
        wide = copy.copy(q)
        for name, value in vars(q).items():
            setattr(wide, name, _wide(value))
        return CELLS[IDS.index(self.name)], wide

    def keras_layer(self, layers, *args, **options):
        """A layer of `keras.layers` of this cell, or with `step="Cell"` of one step."""
        kind = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}[self.kind] + options.pop("step", "")
        reset = {"reset_after": self.name == "gru_after"} if self.kind == "gru" else {}
        return getattr(layers, kind)(*args, **reset | options)

    def torch_layer(self, nn, *args, step="", **options):
        """A layer of `torch.nn` of this cell, or with `step="Cell"` of one step."""
        return getattr(nn, self.torch + step)(*args, **options)

    def function(self, way, module=cyrnn):
        """The public function, of the dtype, or that of the notebook in plain NumPy."""
        function = vars(module)[f"{self.kind}_{way}"]  # getattr would keep every new string
        plain = module is not cyrnn or not way.endswith("forward") or self.dtype is np.float64
        return function if plain else partial(function, **self.keywords())

    def stream(self, *args, **how):
        """A stream of the dtype."""
        return cyrnn.Stream(*args, **self.keywords(), **how)

    def forward(self, q, **keywords):
        *found, caches = self.function("forward")(q.x, q.a0, q.p, **keywords)
        return SimpleNamespace(**{"c": None, **dict(zip(self.results, found, strict=True)), "caches": caches})

    def forward_only(self, q):
        return self.forward(q, cache=False)

    def backward(self, da, caches):
        return self.function("backward")(da, caches)

    def cell_forward(self, xt, a_prev, c_prev, p, **keywords):
        *found, cache = self.function("cell_forward")(xt, *self.carried(a_prev, c_prev), p, **keywords)
        return SimpleNamespace(**{"c": None, **dict(zip(self.step_results, found, strict=True)), "cache": cache})

    def cell_backward(self, da, dc, cache):
        return self.function("cell_backward")(*self.carried(da, dc), cache)

    def carried(self, a, c):
        """What belongs to the states of the cell, of a pair for both."""
        return (a, c)[: len(self.states)]


def _wide(value):
    if isinstance(value, dict):
        return {name: _wide(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_wide(each) for each in value]
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


def in_float64(function):
    """A function of the oracle, which computes in float64 whatever it is given."""
    return lambda *args: function(*map(_wide, args))


def weights(gates):
    return tuple(part + gate for gate in gates for part in "Wb")


RNN = Cell(
    name="rnn",
    title="an RNN",
    kind="rnn",
    states=("a",),
    results="ay",
    step_results="ay",
    gates="",
    slots=(),
    inputs=("Wax", "Waa", "ba"),
    output=("Wya", "by"),
    reads_a_next=True,
    reference=lambda x, a0, c0, p, da=None, dc=0.0: reference.rnn(x, a0, p, da),
    torch="RNN",
    torch_gates="",
)
LSTM = Cell(
    name="lstm",
    title="an LSTM",
    kind="lstm",
    states=("a", "c"),
    results="ayc",
    step_results="acy",
    gates="fico",
    slots=("ft", "it", "cct", "ot"),
    inputs=weights("fico"),
    output=("Wy", "by"),
    reads_a_next=False,
    reference=reference.lstm,
    torch="LSTM",
    torch_gates="ifco",
)
GRU_BEFORE = Cell(
    name="gru_before",
    title="a GRU, reset before the product",
    kind="gru",
    states=("a",),
    results="ay",
    step_results="ay",
    gates="cur",
    slots=("cct", "ut", "rt", "hct"),
    inputs=weights("urc"),
    output=("Wy", "by"),
    reads_a_next=False,
    reference=lambda x, a0, c0, p, da=None, dc=0.0: reference.gru(x, a0, p, da),
    torch="",
    torch_gates="",
)
GRU_AFTER = replace(
    GRU_BEFORE,
    name="gru_after",
    title="a GRU, reset after the product",
    inputs=(*GRU_BEFORE.inputs, "bca"),
    torch="GRU",
    torch_gates="ruc",
)
CELLS = [RNN, LSTM, GRU_BEFORE, GRU_AFTER]
IDS = [cell.name for cell in CELLS]
# The same in float32, whose promises are the same: bits are bits, and tolerances are as many units in the last place.
FLOAT32 = [replace(cell, dtype=np.float32, reference=in_float64(cell.reference)) for cell in CELLS]
ROWS = [*CELLS, *FLOAT32]
TORCH_CELLS = [cell for cell in CELLS if cell.torch]  # PyTorch has one form of the GRU alone
TORCH_IDS = [cell.name for cell in TORCH_CELLS]
# For long tests of what knows no cell: one stage with one state and with two, two stages.
STAGES = [RNN, LSTM, GRU_BEFORE]
STAGE_IDS = [cell.name for cell in STAGES]
