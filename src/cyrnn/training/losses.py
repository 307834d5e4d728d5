"""The losses: cross-entropy of a softmax for classification, mean squared error for regression."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks, _kernels
from .._checks import Array

__all__ = ["cross_entropy", "mean_squared_error"]

ROUNDING = 1e-6  # as in loss.pyx
NOT_NEGATIVE = "finite numbers that are not negative"


def _run(kernel: Callable[..., Any], y_pred: Array, y_true: Any, lengths: Any, weights: Any) -> tuple[float, Array]:
    """Loss and gradient of a sequence, or of one step as a sequence of one."""
    if y_pred.ndim == 3:
        result: tuple[float, Array] = kernel(y_pred, y_true, lengths, weights)
        return result
    if lengths is not None:
        raise ValueError("one step")
    weights = weights if weights is None else weights[:, None]
    loss, dz = kernel(y_pred[:, :, None], y_true[..., None], None, weights)
    return loss, dz[:, :, 0]


def _cross_entropy(y_pred: Array, labels: Any, lengths: Any, weights: Any) -> tuple[float, Array]:
    """By the kernel for classes, or for probabilities, which have a dimension more."""
    losses = _kernels.losses
    kernel = losses.cross_entropy if labels.ndim == y_pred.ndim else losses.cross_entropy_of_classes
    return _run(kernel, y_pred, labels, lengths, weights)


def _integers(name: str, value: Any, letters: str, shape: tuple[int, ...], flags: bool = False) -> NDArray[np.int64]:
    """Return integers of exactly this shape; flags: booleans count as 0 and 1."""
    array = _checks.any_array(name, value)
    whole = (int, np.integer) if flags else ()
    if array.dtype.kind == "O" and array.size and not [entry for entry in array.flat if not isinstance(entry, whole)]:
        array = array.astype(np.int64)  # as pandas gives its nullable integers
    if flags and array.dtype.kind == "b":
        array = array.astype(np.int64)
    if array.size == 0 and array.dtype == np.float64:  # what NumPy makes of an empty list
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        got = "None" if value is None else f"dtype {array.dtype}"
        raise TypeError(f"{name}: expected integers, got {got}")
    if array.shape != shape:
        expected = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
        raise ValueError(f"{name}: expected shape ({letters}) = {expected}, got {array.shape}")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise ValueError(f"{name}: expected integers below 2^63, got {array.max()}")
    return np.ascontiguousarray(array, np.int64)


def _refuse(name: str, expected: str, array: NDArray[Any], bad: NDArray[np.bool_]) -> None:
    """Raise an error that names the first bad value, if there is one."""
    if bad.any():
        index = tuple(map(int, np.argwhere(bad)[0]))
        raise ValueError(f"{name}: expected {expected}, got {array[index]} at {list(index)}")


def _scored(
    lengths: Any, weights: Any, shape: tuple[int, ...]
) -> tuple[NDArray[np.int64] | None, Array | None, NDArray[np.bool_]]:
    """Return lengths and weights as the kernels read them, and which examples and steps are scored."""
    scored = np.ones(shape, bool)
    letters = "m, T_x" if len(shape) == 2 else "m,"
    if lengths is not None:
        if len(shape) == 1:
            raise ValueError("lengths: expected None for one step, since only a sequence has lengths")
        m, T_x = shape
        lengths = _integers("lengths", lengths, "m,", (m,))
        _refuse("lengths", f"integers from 0 to T_x = {T_x}", lengths, (lengths < 0) | (lengths > T_x))
        scored &= np.arange(T_x) < lengths[:, None]
    if weights is not None:
        weights = np.ascontiguousarray(_checks.shaped("weights", weights, letters, shape))
        _refuse("weights", NOT_NEGATIVE, weights, scored & ~((weights >= 0) & (weights < np.inf)))
        scored &= weights > 0
    if not scored.any():
        names = [name for name, value in (("lengths", lengths), ("weights", weights)) if value is not None]
        raise ValueError(f"{', '.join(names) or 'm, T_x'}: expected at least one step to score, got none")
    if weights is not None:
        with np.errstate(over="ignore"):
            total = weights[scored].sum()
        if not total < np.inf:
            raise ValueError(f"weights: expected a finite sum, got {total}")
    return lengths, weights, scored


def _given(name: str, value: Any) -> tuple[Array, str]:
    """Return what the network gave, for a sequence or for one step, and the letters of its shape."""
    array = _checks.real(name, value)
    if array.ndim not in (2, 3):
        raise ValueError(f"{name}: expected shape (n_y, m, T_x) or (n_y, m), got {array.shape}")
    if len(array) == 0:
        raise ValueError(f"{name}: expected at least one unit (n_y), got shape {array.shape}")
    _checks.columns_fit(name, *array.shape[1:])
    return np.ascontiguousarray(array), "n_y, m, T_x" if array.ndim == 3 else "n_y, m"


def cross_entropy(
    y_pred: Any, labels: Any, lengths: Any = None, *, weights: Any = None, ignore_index: int = -100
) -> tuple[float, Array]:
    """Cross-entropy of the predictions, and its gradient with respect to the logits.

    The mean of ``-log(y_pred[label])`` over the examples and steps that are scored; with `weights` the
    weighted mean ``sum(w loss) / sum(w)``.  With probabilities for labels the loss of a step is
    ``-sum(labels * log(y_pred))``.

    Parameters
    ----------
    y_pred : array_like, shape (n_y, m, T_x), or (n_y, m) for one step
        Probabilities, as the forward passes or `softmax` return them.
    labels : array_like of integers, shape (m, T_x) or (m,); or of real numbers, the shape of `y_pred`
        Class of each step, from 0 to n_y - 1 (booleans count as 0 and 1); or the probability of every class, not
        negative.
    lengths : array_like of integers, shape (m,), optional
        Steps of each example, 0 to T_x; those from ``lengths[j]`` on are not scored.  None for all.
    weights : array_like, shape (m, T_x) or (m,), optional
        Weight of each example and step, not negative: a mask of 0 and 1 to score only some steps, or any
        real numbers.  None for 1.
    ignore_index : int
        A label with this value is not scored, as with weight 0.

    Returns
    -------
    loss : float
        A probability below the smallest normal number (2.2e-308) counts as that one, so that the loss of
        one step is at most 708.4.
    dz : numpy.ndarray of float64, the shape of `y_pred`
        Gradient of the loss with respect to the logits z, where ``y_pred = softmax(z)``; a new array.  It is
        ``w / sum(w) * (y_pred * sum(labels) - labels)``, exact also where a probability underflows to 0.
        Zero where nothing is scored.  `output_backward` takes it further.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape, a label is no class, a length out of range, a weight negative or
        not finite, a prediction NaN or otherwise no probability, the probabilities of a step do not sum to 1 (both
        by more than 1e-6, to allow for rounding), or if there is no step to score.  The message names the argument.

    Notes
    -----
    `y_pred`, `labels` and `weights` may hold anything (padding, NaN) where nothing is scored: past the length, or
    at weight 0.  Nothing that is passed is modified.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> y_pred = cyrnn.softmax(np.array([[0.0, 1000.0], [0.0, 0.0]]))
    >>> loss, dz = cyrnn.cross_entropy(y_pred, [0, 1])
    >>> round(loss, 4)
    354.5448
    >>> dz
    array([[-0.25,  0.5 ],
           [ 0.25, -0.5 ]])
    """
    if ignore_index == -100:  # which no kernel takes for a class
        try:
            return _cross_entropy(y_pred, labels, lengths, weights)
        except _checks.MISFIT:
            pass
    y, letters = _given("y_pred", y_pred)
    lengths, weights, scored = _scored(lengths, weights, y.shape[1:])
    if _checks.any_array("labels", labels, letters[5:]).ndim == y.ndim:
        labels = np.ascontiguousarray(_checks.shaped("labels", labels, letters, y.shape))
        _refuse("labels", NOT_NEGATIVE, labels, scored & ~((labels >= 0) & (labels < np.inf)))
    else:
        labels = _integers("labels", labels, letters[5:] if y.ndim == 3 else "m,", y.shape[1:], flags=True)
        if (ignored := labels == ignore_index).any():
            if not (scored & ~ignored).any():
                raise ValueError(f"labels: expected at least one step to score, got none but {ignore_index} to ignore")
            weights = np.where(ignored, 0.0, 1.0 if weights is None else weights)
            scored &= ~ignored
            labels = np.where(ignored, 0, labels)
        no_class = (labels < 0) | (labels >= len(y))
        _refuse("labels", f"classes from 0 to n_y - 1 = {len(y) - 1}", labels, scored & no_class)
    _refuse("y_pred", "probabilities from 0 to 1", y, scored & ~(np.abs(y - 0.5) <= 0.5 + ROUNDING))
    total = y.sum(axis=0)
    if (scored & (total == 0)).any():
        index = list(map(int, np.argwhere(scored & (total == 0))[0]))
        padded = y.ndim == 3 and lengths is None
        hint = "; past the lengths predictions are zero: pass the same lengths" if padded else ""
        raise ValueError(f"y_pred: expected probabilities that sum to 1 over the classes, got zeros at {index}{hint}")
    _refuse("y_pred", "probabilities that sum to 1 over the classes", total, scored & ~(np.abs(total - 1) <= ROUNDING))
    try:
        return _cross_entropy(y, labels, lengths, weights)
    except ValueError as error:
        raise ValueError("labels: expected a loss that is finite, got one that overflows") from error


def mean_squared_error(z: Any, targets: Any, lengths: Any = None, *, weights: Any = None) -> tuple[float, Array]:
    """Mean squared error of a linear output, and its gradient.

    The mean of ``(z - targets)^2`` over the examples and steps that are scored and over the units (n_y); with
    `weights` the weighted mean over the examples and steps.

    Parameters
    ----------
    z : array_like, shape (n_y, m, T_x), or (n_y, m) for one step
        Output, as `output_forward` returns it.
    targets : array_like, the shape of `z`
        What it should have been.
    lengths : array_like of integers, shape (m,), optional
        Steps of each example, 0 to T_x; those from ``lengths[j]`` on are not scored.  None for all.
    weights : array_like, shape (m, T_x) or (m,), optional
        Weight of each example and step, not negative; 0 not to score it.  None for 1.

    Returns
    -------
    loss : float
    dz : numpy.ndarray of float64, the shape of `z`
        Gradient of the loss with respect to z, ``2 w / (n_y sum(w)) (z - targets)``, a new array; zero where
        nothing is scored.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape, a length out of range, a weight negative or not finite, `z`
        or `targets` NaN or infinite where it is scored, their squared error too large for a float64, or if there is
        no step to score.  The message names the argument.

    Notes
    -----
    `z`, `targets` and `weights` may hold anything (padding, NaN) where nothing is scored: past the length, or at
    weight 0.  Nothing that is passed is modified.

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.mean_squared_error([[1.0, 2.0, 3.0]], [[1.0, 2.0, 6.0]])
    (3.0, array([[ 0.,  0., -2.]]))
    """
    kernel = _kernels.losses.mean_squared_error
    try:
        return _run(kernel, z, targets, lengths, weights)
    except _checks.MISFIT:
        pass
    z, letters = _given("z", z)
    lengths, weights, scored = _scored(lengths, weights, z.shape[1:])
    targets = np.ascontiguousarray(_checks.shaped("targets", targets, letters, z.shape))
    _refuse("z", "finite numbers", z, scored & ~np.isfinite(z))
    _refuse("targets", "finite numbers", targets, scored & ~np.isfinite(targets))
    try:
        return _run(kernel, z, targets, lengths, weights)
    except ValueError as error:
        raise ValueError("z: expected a squared error that is finite, got one that overflows") from error
