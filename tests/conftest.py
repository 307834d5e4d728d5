"""Every numeric test runs once on each build of the kernels that this machine can run."""

import pytest

from cyrnn import _kernels


@pytest.fixture(params=_kernels.available())
def build(request):
    before = _kernels.build
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)
