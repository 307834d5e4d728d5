"""Every numeric test runs once on each build of the kernels that this machine can run."""

import gc
import os

import pytest

from cyrnn import _kernels
from cyrnn._kernels.runtime import threads

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when a test imports Keras


@pytest.fixture(autouse=True, scope="session")
def _as_many_threads_on_a_busy_machine():
    before = threads.set_pause(0.0)
    yield
    threads.set_pause(before)


@pytest.fixture(autouse=True, scope="module")
def _what_stays_is_not_looked_at_again():
    """By the collector, which the tests of memory call: it takes a third of a second beside PyTorch and JAX."""
    gc.freeze()


@pytest.fixture(params=_kernels.available())
def build(request):
    before = _kernels.build
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)
