"""Dropout: random units are left out of a training step."""

from typing import Any

import numpy as np

from .. import _checks
from .._checks import Array

__all__ = ["dropout"]

CHUNK = 1 << 16  # draws at a time: they stay in a cache, and signals are handled in between


def dropout(a: Any, rate: float, rng: np.random.Generator | int, *, variational: bool = False) -> tuple[Array, Array]:
    """Set random values to zero, for a training: inverted dropout.

    Each value is dropped with probability `rate`, and the others are multiplied by ``1 / (1 - rate)``, so that the
    expectation stays and a trained network is used without dropout (Srivastava et al. 2014).

    Parameters
    ----------
    a : array_like, shape (n, m, T_x), or (n, m) for one step
        Inputs of a network, or its hidden states before the output layer.
    rate : float
        From 0 up to, not including, 1.
    rng : numpy.random.Generator or int
        For the draws: one generator for a whole training, ``numpy.random.default_rng(seed)``.  A seed gives the same
        mask whenever it is passed.
    variational : bool
        The same mask for all steps of an example (Gal and Ghahramani 2016).

    Returns
    -------
    dropped : numpy.ndarray of float64, or of float32 as `a` is, the shape of `a`
        ``a * mask``, and 0 where the mask is 0 whatever `a` holds there; a new array.
    mask : numpy.ndarray likewise, the shape of `a`; (n, m, 1) if `variational`
        0 or ``1 / (1 - rate)``.  The gradient with respect to `a` is that with respect to `dropped` times `mask`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape or out of range; the message names it.

    Notes
    -----
    Lengths need no argument: what is past the length of an example is zero in hidden states, stays so, and is read by
    no function that gets the same lengths.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> rng = np.random.default_rng(0)
    >>> dropped, mask = cyrnn.dropout(np.ones((2, 1, 4)), 0.5, rng)
    >>> dropped
    array([[[2., 0., 0., 0.]],
    <BLANKLINE>
           [[2., 2., 2., 2.]]])
    >>> dropped, mask = cyrnn.dropout(np.ones((2, 1, 4)), 0.5, rng, variational=True)
    >>> dropped
    array([[[2., 2., 2., 2.]],
    <BLANKLINE>
           [[2., 2., 2., 2.]]])
    """
    a = _checks.real("a", a, "n, m, T_x", _checks.kernels_for(a).dtype)
    if a.ndim not in (2, 3):
        raise ValueError(f"a: expected shape (n, m, T_x) or (n, m), got {a.shape}")
    rate = _checks.number("rate", rate, *_checks.BELOW_1)
    rng = _checks.generator("rng", rng)
    if (same := _checks.flag("variational", variational)) and a.ndim == 2:
        raise ValueError("variational: expected False for one step, since only a sequence has steps")
    mask = np.empty((*a.shape[:2], 1) if same else a.shape, a.dtype)
    flat = mask.reshape(-1)
    for first in range(0, flat.size, CHUNK):
        part = flat[first : first + CHUNK]
        rng.random(out=part, dtype=part.dtype)
        np.multiply(part >= rate, 1.0 / (1.0 - rate), out=part)
    return np.multiply(a, mask, where=mask > 0.0, out=np.zeros(a.shape, a.dtype)), mask
