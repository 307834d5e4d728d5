"""The contenders of the benchmarks compute what is measured: the same states from the same problem."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from reference import close

import cyrnn

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))
peers = importlib.import_module("peers")
MAKERS = {
    "PyTorch float64": ("torch", lambda q: peers.torch_calls(q, "float64"), 1e-13),
    "PyTorch float32": ("torch", lambda q: peers.torch_calls(q, "float32"), 3e-6),
    "JAX float64": ("jax", peers.jax_calls, 1e-13),
    "ONNX Runtime float32": ("onnxruntime", lambda q: peers.onnxruntime_calls(q, 1), 3e-6),
}


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru_after"])
@pytest.mark.parametrize("name", MAKERS)
def test_a_peer_computes_the_same(name, kind):
    module, make, tolerance = MAKERS[name]
    pytest.importorskip(module, reason=f"{module} is not installed")
    q = peers.problem(kind, 3, 5, 2, 4, 6)
    q.p["by"] *= 3
    a, y = getattr(cyrnn, f"{q.prefix}_forward")(q.x, q.a0, q.p)[:2]
    calls = make(q)
    found = calls["f"]()
    for got, want in ((found[0], a), (found[-1], y)):
        got = got.detach().numpy() if hasattr(got, "detach") else np.asarray(got)
        close(got.T, want, tolerance)
    for call in calls.values():
        call()
