"""Every numeric test runs once on each build of the kernels that this machine can run."""

import numpy as np
import pytest

from cyrnn import _kernels

np.seterr(all="raise", under="ignore")  # a flag left behind by a kernel would surface in NumPy


@pytest.fixture(params=_kernels.available())
def build(request):
    before = _kernels.build
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)
