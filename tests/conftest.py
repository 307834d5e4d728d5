"""Every numeric test runs once on each build of the kernels that this machine can run."""

import os

import pytest

from cyrnn import _kernels

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when a test imports Keras


@pytest.fixture(params=_kernels.available())
def build(request):
    before = _kernels.build
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)
