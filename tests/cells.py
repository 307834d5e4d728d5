"""The cells behind one face, so that one test body serves them all."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

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
        return cyrnn.initialize_parameters(self.kind, n_x, n_a, n_y, rng, **reset, **how)

    def keras_layer(self, layers, *args, **options):
        """A layer of `keras.layers` of this cell, or with `step="Cell"` of one step."""
        kind = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}[self.kind] + options.pop("step", "")
        reset = {"reset_after": self.name == "gru_after"} if self.kind == "gru" else {}
        return getattr(layers, kind)(*args, **reset | options)

    def torch_layer(self, nn, *args, step="", **options):
        """A layer of `torch.nn` of this cell, or with `step="Cell"` of one step."""
        return getattr(nn, self.torch + step)(*args, **options)

    def function(self, way, module=cyrnn):
        """The public function, or that of the notebook in plain NumPy."""
        return vars(module)[f"{self.kind}_{way}"]  # getattr would keep every new string

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
TORCH_CELLS = [cell for cell in CELLS if cell.torch]  # PyTorch has one form of the GRU alone
TORCH_IDS = [cell.name for cell in TORCH_CELLS]
# For long tests of what knows no cell: one stage with one state and with two, two stages.
STAGES = [RNN, LSTM, GRU_BEFORE]
STAGE_IDS = [cell.name for cell in STAGES]
