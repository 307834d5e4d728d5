"""The cells behind one face, so that one test body serves both."""

from types import SimpleNamespace

import reference

import cyrnn


def _rnn_forward(q, **keywords):
    a, y, caches = cyrnn.rnn_forward(q.x, q.a0, q.p, **keywords)
    return SimpleNamespace(a=a, y=y, c=None, caches=caches)


def _lstm_forward(q, **keywords):
    a, y, c, caches = cyrnn.lstm_forward(q.x, q.a0, q.p, **keywords)
    return SimpleNamespace(a=a, y=y, c=c, caches=caches)


def _rnn_forward_only(q):
    a, y, caches = cyrnn.rnn_forward(q.x, q.a0, q.p, cache=False)
    return SimpleNamespace(a=a, y=y, c=None, caches=caches)


def _lstm_forward_only(q):
    a, y, c, caches = cyrnn.lstm_forward(q.x, q.a0, q.p, cache=False)
    return SimpleNamespace(a=a, y=y, c=c, caches=caches)


def _rnn_cell(xt, a_prev, c_prev, p, **keywords):
    a, y, cache = cyrnn.rnn_cell_forward(xt, a_prev, p, **keywords)
    return SimpleNamespace(a=a, y=y, c=None, cache=cache)


def _lstm_cell(xt, a_prev, c_prev, p, **keywords):
    a, c, y, cache = cyrnn.lstm_cell_forward(xt, a_prev, c_prev, p, **keywords)
    return SimpleNamespace(a=a, y=y, c=c, cache=cache)


def _gru_forward(q, **keywords):
    a, y, caches = cyrnn.gru_forward(q.x, q.a0, q.p, **keywords)
    return SimpleNamespace(a=a, y=y, c=None, caches=caches)


def _gru_forward_only(q):
    a, y, caches = cyrnn.gru_forward(q.x, q.a0, q.p, cache=False)
    return SimpleNamespace(a=a, y=y, c=None, caches=caches)


def _gru_cell(xt, a_prev, c_prev, p, **keywords):
    a, y, cache = cyrnn.gru_cell_forward(xt, a_prev, p, **keywords)
    return SimpleNamespace(a=a, y=y, c=None, cache=cache)


RNN = SimpleNamespace(
    name="rnn",
    forward=_rnn_forward,
    forward_only=_rnn_forward_only,
    backward=cyrnn.rnn_backward,
    cell_forward=_rnn_cell,
    cell_backward=lambda da, dc, cache: cyrnn.rnn_cell_backward(da, cache),
    reference=lambda x, a0, c0, p, da=None, dc=0.0: reference.rnn(x, a0, p, da),
    entries=4,
    states=("da_prev",),
    inputs=("Wax", "Waa", "ba"),
    output=("Wya", "by"),
)
LSTM = SimpleNamespace(
    name="lstm",
    forward=_lstm_forward,
    forward_only=_lstm_forward_only,
    backward=cyrnn.lstm_backward,
    cell_forward=_lstm_cell,
    cell_backward=cyrnn.lstm_cell_backward,
    reference=reference.lstm,
    entries=10,
    states=("da_prev", "dc_prev"),
    inputs=("Wf", "bf", "Wi", "bi", "Wc", "bc", "Wo", "bo"),
    output=("Wy", "by"),
)
GRU_BEFORE = SimpleNamespace(
    name="gru_before",
    forward=_gru_forward,
    forward_only=_gru_forward_only,
    backward=cyrnn.gru_backward,
    cell_forward=_gru_cell,
    cell_backward=lambda da, dc, cache: cyrnn.gru_cell_backward(da, cache),
    reference=lambda x, a0, c0, p, da=None, dc=0.0: reference.gru(x, a0, p, da),
    entries=8,
    states=("da_prev",),
    inputs=("Wu", "bu", "Wr", "br", "Wc", "bc"),
    output=("Wy", "by"),
)
GRU_AFTER = SimpleNamespace(
    **vars(GRU_BEFORE) | {"name": "gru_after", "inputs": (*GRU_BEFORE.inputs, "bca")},
)
CELLS = [RNN, LSTM, GRU_BEFORE, GRU_AFTER]
IDS = [cell.name for cell in CELLS]
