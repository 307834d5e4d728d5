"""The contenders of the benchmarks compute what is measured: the same states from the same problem."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from reference import close, within

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
        within(got.T, want, tolerance)
    for call in calls.values():
        call()


@pytest.mark.filterwarnings("ignore")  # of the other libraries
@pytest.mark.parametrize("name", ["cyrnn", "PyTorch by hand", "skorch with PyTorch", "Keras on PyTorch"])
def test_the_programs_of_the_other_libraries_learn_the_same(name):
    programs = importlib.import_module("classifiers")
    for module in programs.MODULES[name]:
        pytest.importorskip(module, reason=f"{module} is not installed")
    X, X_test, y, y_test = programs.curves()
    found = programs.PROGRAMS[name](X, y, X_test, 16, 8, 0)
    assert np.mean(found == y_test) > 0.85
    assert (programs.code_lines(programs.PROGRAMS[name]) == 3) == (name == "cyrnn")


@pytest.mark.parametrize(("layers", "both"), [(2, False), (1, True), (2, True)])
def test_the_peers_of_a_network_compute_the_same(layers, both):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    network = importlib.import_module("network")
    q = network.problem((3, 5, 2, 4, 6), layers, both)
    a, gradients, dx, _ = network.ours(*q)
    theirs, (dx_theirs, *_) = network.torch_call(*q)()
    close(theirs.detach().numpy().T, a, 1e-13)
    close(dx_theirs.numpy().T, dx, 1e-13)
    if not both:
        by_hand, by_layer, dx_by_hand = network.by_hand(*q)
        np.testing.assert_array_equal(by_hand, a)
        np.testing.assert_array_equal(dx_by_hand, dx)
        close(by_layer[0]["dWf"], gradients[0]["dWf"], 1e-13)
