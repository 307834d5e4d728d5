"""Threads of a small stack: the default of the C library may be 128 kB (musl), and a program may ask for less."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyrnn import _kernels

# A program: every call, in the main thread and in one of the smallest stack, must give the same.
PROGRAM = """
import sys, threading
sys.path.insert(0, sys.argv[1])
import numpy as np
from cells import CELLS
from numpy.testing import assert_array_equal
import cyrnn
from cyrnn._kernels.runtime import threads

SIZES = [(3, 5, 2, 10, 4), (2, 3, 20, 1, 300), (100, 130, 40, 40, 30), (3, 300, 2, 2, 2), (300, 700, 700, 30, 1)]
threads.set_flops_per_thread(1.0)
threads.set_pause(0.0)

def calls(cell, q, lengths, labels):
    forward = cell.function("forward")
    out = cell.forward(q)
    yield from (out.a, out.y, cell.forward_only(q).a, *cell.backward(q.da, out.caches).values())
    padded = forward(q.x, q.a0, q.p, lengths=lengths)
    yield from (padded[0], *cell.backward(q.da, padded[-1]).values())
    one = cell.cell_forward(q.x[:, :, 0], q.a0, q.a0, q.p)
    yield from (one.a, *cell.cell_backward(q.da[:, :, 0], q.a0, one.cache).values())
    loss, dz = cyrnn.cross_entropy(out.y, labels, lengths)
    yield from (dz, cyrnn.softmax(dz), cyrnn.sigmoid(dz), cyrnn.mean_squared_error(dz, out.y)[1])
    gradients = cyrnn.output_backward(dz, out.a, q.p)
    yield from (cyrnn.output_forward(out.a, q.p), *gradients.values())
    del gradients["da"]
    parameters = {name: q.p[name[1:]].copy() for name in gradients}
    gradients, _ = cyrnn.clip_gradients(gradients, norm=1.0)
    parameters = {name[1:]: value for name, value in parameters.items()}
    v, s = cyrnn.initialize_adam(parameters)
    cyrnn.update_parameters_with_adam(parameters, gradients, v, s, 1)
    cyrnn.update_parameters_with_gd(parameters, gradients, 0.1)
    yield from parameters.values()
    stream = cyrnn.Stream(q.p, q.a0.shape[1])
    yield from stream.step(q.x[:, :, 0])
    yield from stream.run(q.x)

def work(arguments, results):
    for row in arguments:
        results.append(list(calls(*row)))

arguments = []
for cell in CELLS:
    for size in SIZES:
        rng = np.random.default_rng(0)
        lengths = rng.integers(1, size[4], size[3], endpoint=True)
        labels = rng.integers(0, size[2], (size[3], size[4]))
        arguments.append((cell, cell.problem(*size), lengths, labels))
expected = []
work(arguments, expected)
threading.stack_size(32768)
for count in (1, 2):
    cyrnn.set_num_threads(count)
    found = []
    small = threading.Thread(target=work, args=(arguments, found))
    small.start()
    small.join()
    assert len(found) == len(expected) == len(CELLS) * len(SIZES)
    for one, other in zip(found, expected):
        for a, b in zip(one, other, strict=True):
            assert_array_equal(a, b)
print("right")
"""


@pytest.mark.parametrize("build", _kernels.available())
def test_every_call_in_a_small_stack(build, tmp_path):
    """Of 32 kB, the least that Python asks for; the workers of OpenMP have no more."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program, str(Path(__file__).parent)],
        env={**os.environ, "CYRNN_BUILD": build, "OMP_STACKSIZE": "32K"},
        capture_output=True, text=True, timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr
