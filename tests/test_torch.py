"""PyTorch's own RNN and LSTM in float64 as a second, independent oracle."""

import numpy as np
import pytest
from cells import CELLS, IDS
from reference import close, problem

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

TOLERANCE = 1e-13
SHAPES = [(3, 5, 2, 10, 4), (17, 33, 3, 6, 12), (64, 100, 5, 1, 9)]


def twin(cell, p, n_x, n_a):
    """The torch module with our weights; its gates are ordered i, f, c, o."""
    module = (torch.nn.RNN if cell.name == "rnn" else torch.nn.LSTM)(n_x, n_a).double()
    if cell.name == "rnn":
        parts = p["Wax"], p["Waa"], p["ba"][:, 0]
    else:
        order = "ifco"
        W = np.concatenate([p["W" + q] for q in order])
        parts = W[:, n_a:], W[:, :n_a], np.concatenate([p["b" + q] for q in order])[:, 0]
    with torch.no_grad():
        for name, value in zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"), parts, strict=True):
            getattr(module, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
        module.bias_hh_l0.zero_()
    return module


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("cell", CELLS, ids=IDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_torch(cell, shape):
    q = problem(cell.name, *shape)
    n_x, n_a = shape[:2]
    module = twin(cell, q.p, n_x, n_a)
    x = torch.from_numpy(q.x.transpose(2, 1, 0).copy()).requires_grad_()
    a0 = torch.from_numpy(q.a0.T.copy()).requires_grad_()
    start = a0[None] if cell.name == "rnn" else (a0[None], torch.zeros_like(a0)[None])
    a, _ = module(x, start)
    (a * torch.from_numpy(q.da.transpose(2, 1, 0).copy())).sum().backward()

    got = cell.forward(q)
    gradients = cell.backward(q.da, got.caches)
    close(got.a, a.detach().numpy().transpose(2, 1, 0), TOLERANCE)
    close(gradients["dx"], x.grad.numpy().transpose(2, 1, 0), TOLERANCE)
    close(gradients["da0"], a0.grad.numpy().T, TOLERANCE)
    W_x, W_a, b = (getattr(module, f"{name}_l0").grad.numpy() for name in ("weight_ih", "weight_hh", "bias_ih"))
    if cell.name == "rnn":
        for name, want in (("dWax", W_x), ("dWaa", W_a), ("dba", b[:, None])):
            close(gradients[name], want, TOLERANCE)
    else:
        for k, gate in enumerate("ifco"):
            rows = slice(k * n_a, (k + 1) * n_a)
            close(gradients["dW" + gate], np.hstack([W_a[rows], W_x[rows]]), TOLERANCE)
            close(gradients["db" + gate], b[rows, None], TOLERANCE)
