"""PyTorch's own RNN, LSTM and GRU in float64 as a second, independent oracle."""

import numpy as np
import pytest
from cells import CELLS
from reference import close

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

TOLERANCE = 1e-13
SHAPES = [(3, 5, 2, 10, 4), (17, 33, 3, 6, 12), (64, 100, 5, 1, 9)]
SUFFIXES = ("_l0", "_l0_reverse")
TWINS = [cell for cell in CELLS if cell.torch]  # PyTorch has no GRU with its reset before the product


def sign(gate):
    """PyTorch's update gate of the GRU is 1 - ut: with the sign of its sum changed it is ut."""
    return -1.0 if gate == "u" else 1.0


def twin(cell, n_x, n_a, *directions):
    """The torch module with our weights of one or both directions, its gates in PyTorch's order."""
    module = getattr(torch.nn, cell.torch)(n_x, n_a, bidirectional=len(directions) == 2).double()
    for suffix, p in zip(SUFFIXES, directions, strict=False):
        b_a = np.zeros(cell.n_gates * n_a)
        if not cell.gates:
            parts = p["Wax"], p["Waa"], p["ba"][:, 0]
        else:
            W, b = (np.concatenate([sign(q) * p[part + q] for q in cell.torch_gates]) for part in "Wb")
            parts = W[:, n_a:], W[:, :n_a], b[:, 0]
        if "bca" in p:
            b_a[-n_a:] = p["bca"][:, 0]  # the candidate is the last gate
        with torch.no_grad():
            for name, value in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (*parts, b_a), strict=True):
                getattr(module, name + suffix).copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return module


def gradients_of(cell, module, suffix=SUFFIXES[0]):
    """The gradients of our parameters of a direction, from those that PyTorch found of its own."""
    W_x, W_a, b, b_a = (
        getattr(module, name + suffix).grad.numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    if not cell.gates:
        return {"dWax": W_x, "dWaa": W_a, "dba": b[:, None]}
    n_a, found = W_a.shape[1], {}
    for k, gate in enumerate(cell.torch_gates):
        rows = slice(k * n_a, (k + 1) * n_a)
        found["dW" + gate] = sign(gate) * np.hstack([W_a[rows], W_x[rows]])
        found["db" + gate] = sign(gate) * b[rows, None]
    if "bca" in cell.inputs:
        found["dbca"] = b_a[-n_a:, None]
    return found


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("cell", TWINS, ids=[cell.name for cell in TWINS])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_torch(cell, shape):
    q = cell.problem(*shape)
    n_x, n_a = shape[:2]
    module = twin(cell, n_x, n_a, q.p)
    x = torch.from_numpy(q.x.transpose(2, 1, 0).copy()).requires_grad_()
    a0 = torch.from_numpy(q.a0.T.copy()).requires_grad_()
    start = (a0[None], torch.zeros_like(a0)[None]) if cell.memory else a0[None]
    a, _ = module(x, start)
    (a * torch.from_numpy(q.da.transpose(2, 1, 0).copy())).sum().backward()

    got = cell.forward(q)
    gradients = cell.backward(q.da, got.caches)
    close(got.a, a.detach().numpy().transpose(2, 1, 0), TOLERANCE)
    close(gradients["dx"], x.grad.numpy().transpose(2, 1, 0), TOLERANCE)
    close(gradients["da0"], a0.grad.numpy().T, TOLERANCE)
    found = gradients_of(cell, module)
    assert set(found) == {"d" + name for name in cell.inputs}
    for name, want in found.items():
        close(gradients[name], want, TOLERANCE)
