"""A few numbers on another processor: which build was picked, and whether every cell in both precisions is as in NumPy.

    python tests/portable/small.py baseline [refused build ...]

Small, since it runs in an emulator.  Needs NumPy alone.
"""

import os
import sys

os.environ.pop("CYRNN_BUILD", None)
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
from cells import ROWS
from reference import close

import cyrnn
from cyrnn import _kernels

expected, *refused = sys.argv[1:]
assert _kernels.build == expected, f"picked {_kernels.build}, expected {expected}"
assert _kernels.available()[0] == expected
for build in refused:
    message = None
    try:
        _kernels.use(build)
    except ImportError as error:
        message = str(error)
    assert message, f"the build {build} was loaded"
    assert "which this CPU lacks" in message or "was not compiled" in message, message
    assert _kernels.build == expected
    print(f"  {message}")

with np.errstate(all="ignore"):
    for build in _kernels.available():
        _kernels.use(build)
        for cell in ROWS:
            for size in ((3, 5, 2, 10, 4), (33, 37, 20, 9, 12), (5, 40, 3, 1, 9)):
                q = cell.problem(*size)
                out = cell.forward(q)
                want = cell.reference(q.x, q.a0, np.zeros_like(q.a0), q.p, q.da)
                close(out.a, want.a, 2e-14)
                close(out.y, want.y, 2e-14)
                gradients = cell.backward(q.da, out.caches)
                for name, value in want.gradients.items():
                    close(gradients[name], value, 1e-13)
                a, c, y = q.a0, np.zeros_like(q.a0), []
                for t in range(size[4]):
                    one = cell.cell_forward(q.x[:, :, t], a, c, q.p)
                    a, c = one.a, one.c
                    y.append(one.y)
                assert np.array_equal(np.stack(y, 2), out.y)
                alone = cell.problem(*size)
                alone.x, alone.a0 = q.x[:, -1:].copy(), q.a0[:, -1:].copy()
                assert np.array_equal(cell.forward(alone).a, out.a[:, -1:])
        x = np.linspace(-40, 40, 801)
        close(cyrnn.sigmoid(x), 1 / (1 + np.exp(-x)), 1e-15)
        assert abs(cyrnn.softmax(x).sum() - 1) < 1e-15
print(f"  {', '.join(_kernels.available())}: the numbers agree")
