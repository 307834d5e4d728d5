"""Sequences of different lengths: padding, batches, last steps, indices; drawing from predictions."""

import operator
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._checks import Array

__all__ = ["last_steps", "make_batches", "one_hot", "pad_sequences", "reverse_sequences", "sample", "to_indices"]

Indices = NDArray[np.intp]

POOL = 16


def all_sequences(name: str, sequences: Any) -> list[NDArray[Any]]:
    """Return sequences as arrays: all of them of integers (n_steps,), or all of float64 (n_steps, n_x).

    Raises
    ------
    TypeError, ValueError
        If one has not one or two dimensions, is not of real numbers or of another n_x than the first; the message names
        it.
    """
    if isinstance(sequences, (str, bytes)) or not hasattr(sequences, "__len__"):
        raise TypeError(f"{name}: expected a list of sequences, got {type(sequences).__name__}")
    if len(sequences) == 0:
        raise ValueError(f"{name}: expected one sequence at least, got none")
    found = [_checks.any_array(f"{name}[{j}]", value) for j, value in enumerate(sequences)]
    if all(array.ndim == 1 and (array.dtype.kind in "iu" or not array.size) for array in found):
        return [array if array.size else array.astype(np.intp) for array in found]
    for j, array in enumerate(found):
        if array.ndim not in (1, 2):
            expected = "a sequence of shape (n_steps, n_x) or (n_steps,)"
            raise ValueError(f"{name}[{j}]: expected {expected}, got shape {array.shape}")
        real = _checks.real(f"{name}[{j}]", array)
        found[j] = real[:, None] if real.ndim == 1 else real
        if found[j].shape[1] != found[0].shape[1]:
            wanted, got = found[0].shape[1], found[j].shape[1]
            raise ValueError(f"{name}[{j}]: expected n_x = {wanted}, as {name}[0], got n_x = {got}")
    return found


def pad_sequences(sequences: Any, *, value: float = 0) -> tuple[NDArray[Any], Indices]:
    """Pad sequences of different lengths to one array, with their lengths.

    Parameters
    ----------
    sequences : list of array_like, shape (n_steps_j, n_x), or (n_steps_j,)
        The sequences.  One dimension of integers is of indices (or labels), one of other numbers is one feature.
    value : float
        What stands past the lengths; no function that gets the lengths reads it.

    Returns
    -------
    x : numpy.ndarray, shape (n_x, m, T_x) of float64, or (m, T_x) of numpy.intp
        T_x is the largest length.
    lengths : numpy.ndarray of numpy.intp, shape (m,)

    Raises
    ------
    TypeError, ValueError
        If there is no sequence, or one is not of real numbers or of another n_x than the first; the message names it.

    Examples
    --------
    >>> import cyrnn
    >>> x, lengths = cyrnn.pad_sequences([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]])
    >>> x.shape, lengths
    ((2, 2, 2), array([1, 2]))
    >>> cyrnn.pad_sequences([[3, 1, 2], [4]])[0]
    array([[3, 1, 2],
           [4, 0, 0]])
    """
    arrays = all_sequences("sequences", sequences)
    lengths = np.array([len(array) for array in arrays], np.intp)
    width = arrays[0].shape[1:]
    padded = np.full((len(arrays), lengths.max(), *width), value, float if width else np.intp)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded.transpose(2, 0, 1) if width else padded, lengths


def last_steps(a: Any, lengths: Any = None) -> Array:
    """Return the last step of each example.

    Parameters
    ----------
    a : array_like, shape (n, m, T_x)
        Hidden states or predictions, as the forward passes return them.
    lengths : array_like of integers, shape (m,), optional
        Steps of each example, 1 to T_x; None for T_x.

    Returns
    -------
    numpy.ndarray of float64, shape (n, m)
        A new array.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape or an example has no step; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> cyrnn.last_steps(np.arange(6.0).reshape(1, 2, 3), [1, 3])
    array([[0., 5.]])
    """
    a = _checks.dimensions("a", a, "n, m, T_x")
    _, m, T_x = a.shape
    kept = np.full(m, T_x) if lengths is None else np.frombuffer(_checks.lengths(lengths, m, T_x), np.intp)
    for j in np.flatnonzero(kept == 0)[:1]:
        name = "a" if lengths is None else "lengths"
        raise ValueError(f"{name}: expected one step at least of each example, got none of example {j}")
    found: Array = a[:, np.arange(m), kept - 1]
    return found


def reverse_sequences(x: Any, lengths: Any = None) -> NDArray[Any]:
    """Return the steps of each example in reverse order, within its length.

    A network with a layer of both directions (`network_forward`) reads the input from both ends without it; this is for
    other code.

    Parameters
    ----------
    x : array_like, shape (n, m, T_x) or (m, T_x)
        Inputs or hidden states; indices or labels.
    lengths : array_like of integers, shape (m,), optional
        Steps of each example, 0 to T_x; None for T_x.  What is past them stays where it is.

    Returns
    -------
    numpy.ndarray, shape and dtype of x
        A new array.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape; the message names it.

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.reverse_sequences([[1, 2, 3], [4, 5, 0]], [3, 2])
    array([[3, 2, 1],
           [5, 4, 0]])
    """
    array = _checks.any_array("x", x)
    if array.ndim not in (2, 3):
        raise ValueError(f"x: expected shape (n, m, T_x) or (m, T_x), got {array.shape}")
    m, T_x = array.shape[-2:]
    kept = np.full(m, T_x) if lengths is None else np.frombuffer(_checks.lengths(lengths, m, T_x), np.intp)
    steps = np.arange(T_x)
    order = np.where(steps < kept[:, None], kept[:, None] - 1 - steps, steps)
    found: NDArray[Any] = array[..., np.arange(m)[:, None], order]
    return found


def make_batches(lengths: Any, batch_size: int, rng: np.random.Generator | int, *, pool: int = POOL) -> list[Indices]:
    """Cut examples into shuffled batches of similar lengths.

    The examples are shuffled.  Each `pool` batches of them are sorted by length, and the batches are shuffled again; so
    an epoch differs from the one before, and a batch needs little padding.

    Parameters
    ----------
    lengths : array_like of integers, shape (m,)
        Steps of each example.
    batch_size : int
        Examples of a batch, 1 or more; one batch has fewer where m is no multiple.
    rng : numpy.random.Generator or int
        For the draws, or the seed of one.
    pool : int
        Batches that are sorted together; 1 for batches of any lengths.

    Returns
    -------
    list of numpy.ndarray of numpy.intp
        The examples of each batch; each example is in one of them.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of range; the message names it.

    Notes
    -----
    With `lengths` the forward and backward passes spend no arithmetic on padding.  So similar lengths save memory, and
    time only in what is not packed.  Where the lengths depend on the targets, a network learns less from batches
    of similar lengths: two layers of 48 units, 5,400 surnames, 4 epochs: 3.20 bits per character, 3.13 with
    ``pool=1``.

    Examples
    --------
    >>> import cyrnn
    >>> [sorted(batch.tolist()) for batch in cyrnn.make_batches([5, 90, 6, 91], 2, rng=0)]
    [[1, 3], [0, 2]]
    """
    kept = _checks.any_array("lengths", lengths)
    if kept.ndim != 1 or (kept.dtype.kind not in "iu" and kept.size):
        raise TypeError(f"lengths: expected integers of shape (m,), got dtype {kept.dtype} of shape {kept.shape}")
    size, pool, rng = whole("batch_size", batch_size), whole("pool", pool), _checks.generator("rng", rng)
    order = rng.permutation(len(kept))
    sort = pool > 1 and len(kept) > 0 and (kept != kept[0]).any()
    if sort:
        pools = [order[start : start + pool * size] for start in range(0, len(order), pool * size)]
        order = np.concatenate([each[np.argsort(kept[each], kind="stable")] for each in pools])
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batches[k] for k in rng.permutation(len(batches))] if sort else batches


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return an integer that is `least` or more."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}") from error
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name}: expected an integer of {least} or more, got {value}")
    return number


def one_hot(indices: Any, n: int) -> Array:
    """Return one-hot columns of indices.

    The forward passes and `cross_entropy` take indices as they are; this is for other code.

    Parameters
    ----------
    indices : array_like of integers, any shape
        From 0 to n - 1.
    n : int
        Size of a column.

    Returns
    -------
    numpy.ndarray of float64, of n rows, each of the shape of the indices

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or an index out of range; the message names it.

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.one_hot([2, 0], 3)
    array([[0., 1.],
           [0., 0.],
           [1., 0.]])
    """
    n, array = whole("n", n), _checks.any_array("indices", indices)
    if array.dtype.kind not in "iu":
        raise TypeError(f"indices: expected integers, got dtype {array.dtype}")
    for at in np.argwhere((array < 0) | (array >= n))[:1].tolist():
        raise ValueError(f"indices: expected integers from 0 to n - 1 = {n - 1}, got {array[tuple(at)]} at {at}")
    found = np.zeros((n, *array.shape))
    np.put_along_axis(found, array[None], 1.0, axis=0)
    return found


def to_indices(
    sequences: Sequence[Sequence[Hashable]],
    vocabulary: Sequence[Hashable] | None = None,
    *,
    unknown: Hashable = None,
) -> tuple[list[Indices], list[Any]]:
    """Replace the entries of sequences (words, characters) by their places in a vocabulary.

    Parameters
    ----------
    sequences : list of sequences
        Lists of words, or strings, whose entries are their characters.
    vocabulary : sequence, optional
        The entries that are known, each once; None for those of the sequences in sorted order.
    unknown : hashable, optional
        The entry of the vocabulary that stands for all that are not in it; without one these are an error.

    Returns
    -------
    indices : list of numpy.ndarray of numpy.intp, shape (n_steps_j,)
        As `pad_sequences` takes them.
    vocabulary : list
        ``vocabulary[i]`` is the entry of index i.

    Raises
    ------
    TypeError, ValueError
        If an entry is not in the vocabulary, or the vocabulary has one twice; the message names it.

    Examples
    --------
    >>> import cyrnn
    >>> indices, letters = cyrnn.to_indices(["cab", "bad"])
    >>> indices[0], letters
    (array([2, 0, 1]), ['a', 'b', 'c', 'd'])
    >>> cyrnn.to_indices([["a", "tree"]], ["?", "a"], unknown="?")[0]
    [array([1, 0])]
    """
    known: list[Any] = (
        sorted({entry for sequence in sequences for entry in sequence}) if vocabulary is None else list(vocabulary)
    )
    places = {entry: k for k, entry in enumerate(known)}
    if len(places) < len(known):
        twice = next(entry for k, entry in enumerate(known) if places[entry] != k)
        raise ValueError(f"vocabulary: expected each entry once, got {twice!r} twice")
    if unknown is not None and unknown not in places:
        raise ValueError(f"unknown: expected an entry of the vocabulary, got {unknown!r}")
    found = []
    for j, sequence in enumerate(sequences):
        row = [places.get(entry, places.get(unknown, -1)) for entry in sequence]
        if -1 in row:
            t = row.index(-1)
            raise ValueError(f"sequences[{j}]: expected entries of the vocabulary, got {sequence[t]!r} at step {t}")
        found.append(np.array(row, np.intp))
    return found, known


def sample(y: Any, rng: np.random.Generator | int, *, temperature: float = 1.0) -> Indices:
    """Draw a class from each column of predictions.

    Parameters
    ----------
    y : array_like, shape (n_y, m)
        Probabilities of a step, as `Stream.step` returns them.
    rng : numpy.random.Generator or int
        For the draws: one generator for a whole text.
    temperature : float
        Above 0.  A class is drawn with a probability that is proportional to ``y ** (1 / temperature)``: below 1 likely
        classes become more likely.

    Returns
    -------
    numpy.ndarray of numpy.intp, shape (m,)
        The input of the next step.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape or out of range; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> y = np.array([[0.1, 1.0], [0.9, 0.0]])
    >>> cyrnn.sample(y, rng=0, temperature=0.01)
    array([1, 0])
    """
    y, rng = _checks.dimensions("y", y, "n_y, m"), _checks.generator("rng", rng)
    temperature = _checks.number("temperature", temperature, "a finite number above 0", 5e-324, 1.7e308)
    if not len(y) or not ((y >= 0) & (y < np.inf)).all() or not (y > 0).any(axis=0).all():
        raise ValueError("y: expected probabilities, one above 0 in each column")
    weights = (y / y.max(axis=0)) ** (1.0 / temperature)  # the largest is 1, so that the sum is not 0
    total = weights.cumsum(axis=0)
    found: Indices = (total > rng.random(y.shape[1]) * total[-1]).argmax(axis=0)
    return found
