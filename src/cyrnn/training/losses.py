"""The losses: cross-entropy of a softmax or of sigmoids for classification, mean squared error for regression."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks, _kernels
from .._checks import Array

__all__ = ["binary_cross_entropy", "cross_entropy", "mean_squared_error"]

ROUNDING: dict[_checks.DType, float] = {_checks.FLOAT64: 1e-6, _checks.FLOAT32: 1e-4}  # as in _kernels/runtime/limits.h
NOT_NEGATIVE = "finite numbers that are not negative"

Range = tuple[str, Callable[[Array], NDArray[np.bool_]]]  # of numbers: in words, and a function that finds what is not
FINITE: Range = "finite numbers", lambda array: ~np.isfinite(array)
FROM_0_TO_1: Range = "numbers from 0 to 1", lambda array: ~((array >= 0) & (array <= 1))


def _used_later(shape: tuple[int, ...]) -> bool:
    """Let numbers become infinite in a conversion: those that are scored are refused then."""
    return False


def _where(scored: NDArray[np.bool_]) -> _checks.Used:
    """Tell a conversion which numbers are read, of an array whose last axes are those of `scored`."""
    return lambda shape: scored if shape[-scored.ndim :] == scored.shape else False


def _run(kernel: Callable[..., Any], y_pred: Array, y_true: Any, lengths: Any, weights: Any) -> tuple[float, Array]:
    """Loss and gradient of a sequence, or of one step as a sequence of one."""
    if not isinstance(y_pred, np.ndarray) or not isinstance(y_true, np.ndarray):
        raise TypeError  # a table, say, which slices otherwise
    if y_pred.ndim == 3:
        result: tuple[float, Array] = kernel(y_pred, y_true, lengths, weights)
        return result
    if lengths is not None:
        raise ValueError("one step")
    weights = weights if weights is None else weights[:, None]
    loss, dz = kernel(y_pred[:, :, None], y_true[..., None], None, weights)
    return loss, dz[:, :, 0]


def _run_outputs(
    kernel: Callable[..., Any], given: Array, targets: Any, lengths: Any, weights: Any
) -> tuple[float, Array]:
    """As `_run`, for a loss whose outputs have terms of their own: they may have weights of their own too.

    Then the outputs of an example are scored like examples of one output.
    """
    if weights is None or weights.ndim != given.ndim:
        return _run(kernel, given, targets, lengths, weights)
    n, m, *steps = given.shape
    if not given.shape == targets.shape == weights.shape or (lengths is not None and np.shape(lengths) != (m,)):
        raise ValueError("the shapes do not fit")
    lengths = lengths if lengths is None else np.tile(_checks.any_array("lengths", lengths), n)
    one = 1, n * m, *steps
    loss, dz = _run(kernel, given.reshape(one), targets.reshape(one), lengths, weights.reshape(one[1:]))
    return loss, dz.reshape(given.shape)


def _cross_entropy(y_pred: Array, labels: Any, lengths: Any, weights: Any) -> tuple[float, Array]:
    """By the kernel for classes, or for probabilities, which have a dimension more."""
    losses = _kernels.of(y_pred.dtype).losses
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
        raise TypeError(f"{name}: expected integers, got {_checks.no_numbers(name, value, array, letters)}")
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
        raise ValueError(f"{name}: expected {expected}, got {array[index]!s} at {list(index)}")


def _scored(
    lengths: Any, weights: Any, shape: tuple[int, ...], dtype: _checks.DType
) -> tuple[NDArray[np.int64] | None, Array | None, NDArray[np.bool_]]:
    """Return lengths and weights as the kernels read them, and what is scored.

    That is examples and steps, or with weights of each output examples, steps and outputs.  `shape` is that of what
    the network gave.
    """
    columns = shape[1:]
    scored = np.ones(columns, bool)
    letters = "m, T_x" if len(columns) == 2 else "m,"
    if lengths is not None:
        if len(columns) == 1:
            raise ValueError("lengths: expected None for one step, since only a sequence has lengths")
        m, T_x = columns
        lengths = _integers("lengths", lengths, "m,", (m,))
        _refuse("lengths", f"integers from 0 to T_x = {T_x}", lengths, (lengths < 0) | (lengths > T_x))
        scored &= np.arange(T_x) < lengths[:, None]
    if weights is not None:
        weights = _checks.real("weights", weights, letters, dtype, _where(scored))
        if weights.shape not in (columns, shape):
            expected = f"shape ({letters}) = {columns} or (n_y, {letters.strip(',')}) = {shape}"
            raise ValueError(f"weights: expected {expected}, got {weights.shape}")
        weights = np.ascontiguousarray(weights)
        _refuse("weights", NOT_NEGATIVE, weights, scored & ~((weights >= 0) & (weights < np.inf)))
        scored = scored & (weights > 0)
    if not scored.any():
        names = [name for name, value in (("lengths", lengths), ("weights", weights)) if value is not None]
        raise ValueError(f"{', '.join(names) or 'm, T_x'}: expected at least one step to score, got none")
    if weights is not None:
        _finite_sum(weights[scored])
    return lengths, weights, scored


def _finite_sum(weights: Array) -> float:
    """Return the sum of the weights of what is scored."""
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if not total < np.inf:
        raise ValueError(f"weights: expected a finite sum, got {total}")
    return total


def _of_classes(
    labels: NDArray[Any], weights: Array, scored: NDArray[np.bool_], each: NDArray[np.bool_]
) -> tuple[NDArray[Any], Array]:
    """Return labels and weights of steps that are to labels and weights of classes what the kernels take.

    `scored` are the examples and steps that are, `each` also the classes.
    """
    if labels.ndim < weights.ndim:
        labels = np.where(scored, labels, 0)
        weights = np.take_along_axis(weights, labels[None], 0)[0]
        if not (scored & (weights > 0)).any():
            raise ValueError("weights: expected at least one step to score, got none whose label has a weight above 0")
        return labels, np.where(scored, weights, weights.dtype.type(0))
    with np.errstate(over="ignore"):
        products = np.multiply(labels, weights, where=each, out=np.zeros_like(labels))
    counted = np.any(products > 0, axis=0)
    total = _finite_sum(products)
    if total == 0:
        raise ValueError("weights: expected at least one step to score, got none whose label has a weight above 0")
    return products / total * counted.sum(dtype=weights.dtype), counted.astype(weights.dtype)


def _given(name: str, value: Any) -> tuple[Array, str]:
    """Return what the network gave, for a sequence or for one step, and the letters of its shape."""
    array = _checks.real(name, value, "n_y, m, T_x", _checks.kernels_for(value).dtype, _used_later)
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
    ``-sum(labels * log(y_pred))``.  Weights of each class are those of the labels, see below.

    Parameters
    ----------
    y_pred : array_like, shape (n_y, m, T_x), or (n_y, m) for one step
        Probabilities, as the forward passes or `softmax` return them.  An array of float32 is computed in float32,
        anything else in float64.
    labels : array_like of integers, shape (m, T_x) or (m,); or of real numbers, the shape of `y_pred`
        Class of each step, from 0 to n_y - 1 (booleans count as 0 and 1); or the probability of every class, not
        negative.
    lengths : array_like of integers, shape (m,), optional
        Valid time steps of each example, 0 to T_x; those from ``lengths[j]`` on are not scored.  None for all.
    weights : array_like, shape (m, T_x) or (m,), or the shape of `y_pred`, optional
        Weight of each example and step, not negative: a mask of 0 and 1 to score only some steps, or any
        real numbers.  None for 1.  Of the shape of `y_pred`: the weight of each class as a label, see the notes.
    ignore_index : int
        A label with this value is not scored, as with weight 0.

    Returns
    -------
    loss : float
        A probability below the smallest normal number (2.2e-308, in float32 1.2e-38) counts as that one, so that the
        loss of one step is at most 708.4, in float32 87.4.
    dz : numpy.ndarray of float64, or float32 as the predictions are, the shape of `y_pred`
        Gradient of the loss with respect to the logits z, where ``y_pred = softmax(z)``; a new array.  It is
        ``w / sum(w) * (y_pred * sum(labels) - labels)``, exact also where a probability underflows to 0.
        Zero where no step is scored.  `output_backward` takes it further.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape, a label is no class, a length out of range, a weight negative or
        not finite, a prediction NaN or otherwise no probability, the probabilities of a step do not sum to 1 (both
        by more than 1e-6, in float32 1e-4, to allow for rounding), or if there is no step to score.  The message names
        the argument.

    Notes
    -----
    `y_pred`, `labels` and `weights` may hold anything (padding, NaN) where nothing is scored: past the length, or
    at weight 0.  Nothing that is passed is modified.

    With weights w of each class the loss is ``sum(w labels (-log(y_pred))) / sum(w labels)``, the sums over classes,
    examples and steps.  For integer labels that is the weight of the label's class for the weight of the step, as
    PyTorch's ``cross_entropy(..., weight=)`` has it: pass ``numpy.broadcast_to(weight[:, None, None], y_pred.shape)``.
    (For probabilities as labels PyTorch divides by the number of steps instead.)  A label under weight 0 is not read.
    A prediction is, unless its step is not scored at all: every class is part of the distribution.

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
    lengths, weights, each = _scored(lengths, weights, y.shape, y.dtype)
    scored = np.any(each, axis=0) if each.ndim == y.ndim else each
    if _checks.any_array("labels", labels, letters[5:]).ndim == y.ndim:
        labels = np.ascontiguousarray(_checks.shaped("labels", labels, letters, y.shape, y.dtype, _where(each)))
        _refuse("labels", NOT_NEGATIVE, labels, each & ~((labels >= 0) & (labels < np.inf)))
    else:
        labels = _integers("labels", labels, letters[5:] if y.ndim == 3 else "m,", y.shape[1:], flags=True)
        if (ignored := labels == ignore_index).any():
            if not (scored & ~ignored).any():
                raise ValueError(f"labels: expected at least one step to score, got none but {ignore_index} to ignore")
            weights = np.where(ignored, y.dtype.type(0), y.dtype.type(1) if weights is None else weights)
            scored, each = scored & ~ignored, each & ~ignored
            labels = np.where(ignored, 0, labels)
        no_class = (labels < 0) | (labels >= len(y))
        _refuse("labels", f"classes from 0 to n_y - 1 = {len(y) - 1}", labels, scored & no_class)
    if weights is not None and weights.ndim == y.ndim:
        labels, weights = _of_classes(labels, weights, scored, each)
        scored = scored & (weights > 0)
    _refuse("y_pred", "probabilities from 0 to 1", y, scored & ~(np.abs(y - 0.5) <= 0.5 + ROUNDING[y.dtype]))
    total = y.sum(axis=0)
    if (scored & (total == 0)).any():
        index = list(map(int, np.argwhere(scored & (total == 0))[0]))
        padded = y.ndim == 3 and lengths is None
        hint = "; past the lengths predictions are zero: pass the same lengths" if padded else ""
        raise ValueError(f"y_pred: expected probabilities that sum to 1 over the classes, got zeros at {index}{hint}")
    _refuse(
        "y_pred",
        "probabilities that sum to 1 over the classes",
        total,
        scored & ~(np.abs(total - 1) <= ROUNDING[y.dtype]),
    )
    try:
        return _cross_entropy(y, labels, lengths, weights)
    except ValueError as error:
        raise ValueError("labels: expected a loss that is finite, got one that overflows") from error


def _refuse_padding(name: str, given: Array, targets: Array, lengths: Any, weights: Any) -> None:
    """Refuse predictions of sigmoids that end in zeros, as a forward pass with lengths leaves them, without lengths.

    A 0 may be a prediction.  But if it is that of every output at the last step, although some target there is not 0,
    and others are between 0 and 1, it is padding: a sigmoid is 0 from z = -745 on, in float32 from about -100 on.
    """
    if given.ndim != 3 or lengths is not None:
        return
    zero = ~given[:, :, -1].any(axis=0)
    if not zero.any():
        return
    counts = targets[:, :, -1] != 0
    if weights is not None:
        counts &= weights[..., -1] > 0
    padded = zero & counts.any(axis=0)
    if padded.any() and ((given > 0) & (given < 1)).any():
        j, last = int(padded.argmax()), given.shape[2] - 1
        raise ValueError(
            f"{name}: expected probabilities as sigmoids give them, got zeros of all outputs at {[j, last]}, where a "
            "target is not zero; past the lengths predictions are zero: pass the same lengths (or from_logits=True, "
            "if they are results of a sigmoid)"
        )


def _loss_of_outputs(
    loss: str, name: str, given: Any, targets: Any, lengths: Any, weights: Any, *ranges: Range
) -> tuple[float, Array]:
    """Return a loss whose outputs have terms of their own; `ranges` are those of `given` and of `targets`."""
    kernel = getattr(_checks.kernels_for(given).losses, loss)
    try:
        result = _run_outputs(kernel, given, targets, lengths, weights)
    except _checks.MISFIT:
        pass
    else:
        if loss == "binary_cross_entropy":
            _refuse_padding(name, given, targets, lengths, weights)
        return result
    given, letters = _given(name, given)
    lengths, weights, scored = _scored(lengths, weights, given.shape, given.dtype)
    targets = _checks.shaped("targets", targets, letters, given.shape, given.dtype, _where(scored))
    targets = np.ascontiguousarray(targets)
    for which, array, (words, wrong) in zip((name, "targets"), (given, targets), ranges, strict=True):
        _refuse(which, words, array, scored & wrong(array))
    if loss == "binary_cross_entropy":
        _refuse_padding(name, given, targets, lengths, weights)
    try:
        return _run_outputs(kernel, given, targets, lengths, weights)
    except ValueError as error:
        what = "squared error" if loss == "mean_squared_error" else "loss"
        raise ValueError(f"{name}: expected a {what} that is finite, got one that overflows") from error


def mean_squared_error(z: Any, targets: Any, lengths: Any = None, *, weights: Any = None) -> tuple[float, Array]:
    """Mean squared error of a linear output, and its gradient.

    The mean of ``(z - targets)^2`` over the examples and steps that are scored and over the units (n_y); with
    `weights` the weighted mean.

    Parameters
    ----------
    z : array_like, shape (n_y, m, T_x), or (n_y, m) for one step
        Output, as `output_forward` returns it.  An array of float32 is computed in float32, anything else in float64.
    targets : array_like, the shape of `z`
        What it should have been.
    lengths : array_like of integers, shape (m,), optional
        Valid time steps of each example, 0 to T_x; those from ``lengths[j]`` on are not scored.  None for all.
    weights : array_like, shape (m, T_x) or (m,), or the shape of `z`, optional
        Weight of each example and step, or of each output at each step, not negative; 0 not to score it.  None for 1.

    Returns
    -------
    loss : float
    dz : numpy.ndarray of float64, or float32 as the predictions are, the shape of `z`
        Gradient of the loss with respect to z, ``2 w / sum(w) (z - targets)``, the sum over the outputs too; a new
        array; zero where nothing is scored.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape, a length out of range, a weight negative or not finite, `z`
        or `targets` NaN or infinite where it is scored, their squared error too large for its dtype, or if there is
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
    return _loss_of_outputs("mean_squared_error", "z", z, targets, lengths, weights, FINITE, FINITE)


def binary_cross_entropy(
    y_pred: Any, targets: Any, lengths: Any = None, *, weights: Any = None, from_logits: bool = False
) -> tuple[float, Array]:
    """Cross-entropy of sigmoid outputs, each a yes or no of its own, and its gradient with respect to the logits.

    The mean of ``-targets log(y_pred) - (1 - targets) log(1 - y_pred)`` over the examples and steps that are scored
    and over the units (n_y); with `weights` the weighted mean.

    Parameters
    ----------
    y_pred : array_like, shape (n_y, m, T_x), or (n_y, m) for one step
        Probabilities, as `sigmoid` returns them; with `from_logits` any finite numbers z, where
        ``y_pred = sigmoid(z)``, as `output_forward` returns them.  An array of float32 is computed in float32, anything
        else in float64.
    targets : array_like, the shape of `y_pred`
        0 or 1 (or False, True), or a probability between.
    lengths : array_like of integers, shape (m,), optional
        Valid time steps of each example, 0 to T_x; those from ``lengths[j]`` on are not scored.  None for all.
    weights : array_like, shape (m, T_x) or (m,), or the shape of `y_pred`, optional
        Weight of each example and step, or of each output at each step, not negative; 0 not to score it.  None for 1.
    from_logits : bool
        Whether `y_pred` holds logits.

    Returns
    -------
    loss : float
        From logits exact to rounding for any of them.  From probabilities as exact as they are: a probability below
        the smallest normal number (2.2e-308, in float32 1.2e-38) counts as that one, and so does ``1 - y_pred`` where
        `y_pred` is 1.  So a prediction of 0 or 1 costs 0 where the target is the same, and 708.4, in float32 87.4,
        where it is the opposite.
    dz : numpy.ndarray of float64, or float32 as the predictions are, the shape of `y_pred`
        Gradient of the loss with respect to the logits, in either case: ``w / sum(w) (sigmoid(z) - targets)``, the sum
        over the outputs too; a new array.  Zero where nothing is scored.  `output_backward` takes it further.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape, a length out of range, a weight negative or not finite, a
        probability or target not from 0 to 1, a logit NaN or infinite where it is scored, or if there is no step to
        score.  Also if `lengths` seem to be forgotten: probabilities of a sequence, without lengths, that are 0 of all
        outputs at an example's last step, where a target is not, while others are between 0 and 1.  The message names
        the argument.

    Notes
    -----
    `y_pred`, `targets` and `weights` may hold anything (padding, NaN) where nothing is scored: past the length, or at
    weight 0.  Nothing that is passed is modified.

    PyTorch's ``weight`` multiplies as `weights` do, but its mean divides by the number of values: it is ``mean(w)``
    times this loss.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> z = np.array([[0.0, 1000.0, -2.0]])
    >>> loss, dz = cyrnn.binary_cross_entropy(z, [[1, 1, 0]], from_logits=True)
    >>> round(loss, 4), dz.round(4)
    (0.2734, array([[-0.1667,  0.    ,  0.0397]]))
    >>> loss, dz = cyrnn.binary_cross_entropy(cyrnn.sigmoid(z), [[1, 1, 0]])
    >>> round(loss, 4)
    0.2734
    """
    loss, name = "binary_cross_entropy", "y_pred"
    if _checks.flag("from_logits", from_logits):
        return _loss_of_outputs(loss + "_of_logits", name, y_pred, targets, lengths, weights, FINITE, FROM_0_TO_1)
    probabilities = "probabilities from 0 to 1", FROM_0_TO_1[1]
    return _loss_of_outputs(loss, name, y_pred, targets, lengths, weights, probabilities, FROM_0_TO_1)
