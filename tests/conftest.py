"""Every numeric test runs once on each build of the kernels that this machine can run."""

import contextlib
import gc
import os
import signal

import numpy as np
import pytest

from cyrnn import _kernels
from cyrnn._kernels.runtime import threads

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when a test imports Keras

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in its background
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)

EVERY_BUILD = {"test_values", "test_gradients", "test_invariance"}  # in float32 too


def pytest_collection_modifyitems(config, items):
    """Keep float32 on one build, the one that is used, where a module does not ask for all: the bodies are the same."""
    best, kept, left = _kernels.available()[0], [], []
    for item in items:
        values = item.callspec.params if hasattr(item, "callspec") else {}
        single = getattr(values.get("cell"), "dtype", None) is np.float32
        one = single and values.get("build", best) != best and item.module.__name__ not in EVERY_BUILD
        (left if one else kept).append(item)
    if left:
        items[:] = kept
        config.hook.pytest_deselected(items=left)


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
