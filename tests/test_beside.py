"""In one process with other libraries that bring an OpenMP of their own: no warning, no hang, the same bits."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """
import hashlib, sys, warnings
warnings.simplefilter("error")
for name in sys.argv[1:]:
    __import__(name)
import numpy as np
import cyrnn

rng = np.random.default_rng(0)
x, p = rng.normal(size=(64, 32, 100)), cyrnn.initialize_parameters("lstm", 64, 128, 8, rng)
cyrnn.set_num_threads(2)

def ours():
    a, y, c, caches = cyrnn.lstm_forward(x, None, p)
    gradients = cyrnn.lstm_backward(np.ones_like(a), caches)
    return hashlib.sha256(b"".join(v.tobytes() for v in (a, y, c, *gradients.values()))).hexdigest()

def theirs():
    if "torch" in sys.modules:
        import torch
        torch.set_num_threads(2)
        m = torch.randn(400, 400, requires_grad=True)
        (m @ m).tanh().sum().backward()
        torch.nn.LSTM(64, 128)(torch.randn(100, 32, 64))
    if "sklearn" in sys.modules:
        from sklearn.cluster import KMeans
        from sklearn.ensemble import HistGradientBoostingClassifier
        KMeans(3, n_init=1, random_state=0).fit(x[:, :, 0])
        HistGradientBoostingClassifier(max_iter=3).fit(x[:, :, 0], np.arange(64) % 2)

found = {ours()}
for _ in range(3):
    theirs()
    found.add(ours())
if "threadpoolctl" in sys.modules:
    import threadpoolctl
    with threadpoolctl.threadpool_limits(1):
        theirs()
        found.add(ours())
print(*found)
"""
OTHERS = [name for name in ("torch", "sklearn", "threadpoolctl") if find_spec(name)]


def run(*modules):
    command = [sys.executable, "-c", PROGRAM, *modules]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.skipif(not {"torch", "sklearn"} & set(OTHERS), reason="neither PyTorch nor scikit-learn is installed")
def test_the_same_bits_whatever_is_imported_first():
    alone = run()
    assert len(alone.split()) == 1
    for order in (["cyrnn", *OTHERS], [*OTHERS, "cyrnn"]):
        assert run(*order) == alone, order
