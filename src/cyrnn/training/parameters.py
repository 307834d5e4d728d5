"""Parameters to begin with, and those of a trained model."""

import operator
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._checks import Array
from ..recurrent.spec import CELLS, NAMES, CellSpec, Shapes

__all__ = ["initialize_parameters", "load_parameters"]

BFLOAT16 = np.dtype("V2")  # what the header of an .npy file says of it; no other type of two bytes is written so


def glorot(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Uniform in +- sqrt(6 / (rows + columns))."""
    limit = np.sqrt(6.0 / (rows + columns))
    return rng.uniform(-limit, limit, (rows, columns))


def _orthogonal(rng: np.random.Generator, n: int) -> Array:
    """Return a draw of the uniform distribution on the orthogonal group (Mezzadri, Notices AMS 54, 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return np.asarray(q * np.copysign(1.0, np.diag(r)))


RECURRENT: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "orthogonal": _orthogonal,
    "glorot_uniform": lambda rng, n: glorot(rng, n, n),
}


def size(name: str, value: Any) -> int:
    try:
        size = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}") from error
    if size < 1:
        raise ValueError(f"{name}: expected a size of at least 1, got {size}")
    return size


def _spec(cell: str, reset: Any) -> CellSpec:
    """Return the row of the cell's table, of a GRU that of its form."""
    if cell != "gru":
        if reset is not None:
            raise ValueError(f"reset: expected None for a cell without a reset gate ({cell!r}), got {reset!r}")
        return CELLS[cell]
    if reset is not None and (not isinstance(reset, str) or reset not in ("before", "after")):
        raise ValueError(f"reset: expected 'before' or 'after', got {reset!r}")
    return CELLS[f"gru_{reset or 'before'}"]


def initialize_parameters(
    cell: str,
    n_x: int,
    n_a: int,
    n_y: int,
    rng: np.random.Generator | int,
    *,
    reset: str | None = None,
    recurrent: str = "orthogonal",
    forget_bias: float | None = None,
    dtype: Any = np.float64,
) -> dict[str, Array]:
    """Random parameters to begin a training with.

    The weights of the inputs and of the output layer are uniform in ``+- sqrt(6 / (columns + rows))`` of their matrix
    (Glorot and Bengio 2010; for a gate the columns are the n_x inputs), those of the hidden state are a random
    orthogonal matrix (Saxe et al. 2014), each gate its own.  Biases are 0, but that of the forget gate is 1 (Jozefowicz
    et al. 2015).  `recurrent` and `forget_bias` change that.

    Parameters
    ----------
    cell : {"rnn", "lstm", "gru"}
    n_x, n_a, n_y : int
        Inputs, hidden units, outputs; at least 1.
    rng : numpy.random.Generator or int
        For the draws: ``numpy.random.default_rng(seed)``, or the seed of one.
    reset : {"before", "after"}, optional
        Of a GRU: whether the reset gate acts before the recurrent product of the candidate (the default) or after it.
    recurrent : {"orthogonal", "glorot_uniform"}
        Weights of the hidden state: orthogonal (Keras' default, PyTorch's ``orthogonal_``), or uniform in
        ``+- sqrt(3 / n_a)``, like the other weights (Keras' name for it; PyTorch's ``xavier_uniform_``).
    forget_bias : float, optional
        The bias of the forget gate, the same for every unit; None for 1.  Larger ones let an LSTM remember for longer
        from the beginning.  Only for a cell that has such a gate.
    dtype : numpy.float64 or numpy.float32
        Of the arrays.  The draws are the same, in float32 rounded.

    Returns
    -------
    dict of new arrays
        "rnn": ``Wax`` (n_a, n_x), ``Waa`` (n_a, n_a), ``ba`` (n_a, 1), ``Wya`` (n_y, n_a), ``by`` (n_y, 1).
        "lstm": ``Wf Wi Wc Wo`` (n_a, n_a + n_x), ``bf bi bc bo`` (n_a, 1), ``Wy`` (n_y, n_a), ``by`` (n_y, 1).
        "gru": ``Wu Wr Wc`` (n_a, n_a + n_x), ``bu br bc`` (n_a, 1), ``Wy`` (n_y, n_a), ``by`` (n_y, 1); with
        ``reset="after"`` also ``bca`` (n_a, 1).

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of range; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = cyrnn.initialize_parameters("lstm", n_x=3, n_a=5, n_y=2, rng=np.random.default_rng(0))
    >>> p["Wf"].shape, p["bf"][0], p["Wy"].shape
    ((5, 8), array([1.]), (2, 5))
    """
    if cell not in NAMES:  # a tuple compares with anything, a dict wants it hashable
        raise ValueError(f"cell: expected {' or '.join(map(repr, NAMES))}, got {cell!r}")
    spec, dtype = _spec(cell, reset), _checks.kernels(dtype).dtype
    if not isinstance(recurrent, str) or recurrent not in RECURRENT:
        raise ValueError(f"recurrent: expected {' or '.join(map(repr, RECURRENT))}, got {recurrent!r}")
    if forget_bias is not None:
        if "bf" not in spec.entries:
            cell = spec.title.partition(",")[0]  # in either form
            raise ValueError(f"forget_bias: expected None, since {cell} has no forget gate, got {forget_bias!r}")
        most = float(np.finfo(dtype).max)
        finite = "a finite number" + (" in float32" if dtype == _checks.FLOAT32 else "")
        forget_bias = _checks.number("forget_bias", forget_bias, finite, -most, most)
    n_x, n_a, n_y = size("n_x", n_x), size("n_a", n_a), size("n_y", n_y)
    rng, draw = _checks.generator("rng", rng), RECURRENT[recurrent]
    parameters: dict[str, Array] = {}
    for key, letters in spec.entries.items():
        if letters == "n_a, n_x":
            parameters[key] = glorot(rng, n_a, n_x)
        elif letters == "n_a, n_a":
            parameters[key] = draw(rng, n_a)
        elif letters == "n_a, n_a + n_x":
            parameters[key] = np.hstack([draw(rng, n_a), glorot(rng, n_a, n_x)])
        else:
            parameters[key] = np.zeros((n_a, 1))
    if "bf" in parameters:
        parameters["bf"][...] = 1.0 if forget_bias is None else forget_bias
    parameters[spec.output] = glorot(rng, n_y, n_a)
    parameters["by"] = np.zeros((n_y, 1))
    return {key: array.astype(dtype, copy=False) for key, array in parameters.items()}


def _shapes(spec: CellSpec, found: dict[str, Array]) -> Shapes:
    """Return what every entry's shape must be, from the sizes of the output layer, if any, and of the weights."""
    n_a, columns = found[spec.identifier].shape
    shapes: Shapes = {}
    if spec.output in found:
        n_y, n_a = found[spec.output].shape
        shapes = _checks.output_shapes(spec.output, n_y, n_a)
    n_x = columns if spec.entries[spec.identifier] == "n_a, n_x" else max(columns - n_a, 0)
    return shapes | {key: spec.parameters(n_a, n_x)[key] for key in spec.entries}


class WrongFile(ValueError):
    """A file that can be read and does not hold what is wanted."""


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn the many errors of a broken file into one that names it."""
    try:
        yield
    except (OSError, MemoryError, WrongFile):
        raise
    except Exception as error:  # of zipfile, zlib and NumPy
        reason = f"{type(error).__name__}: {error}".splitlines()[0].partition(". Enable with")[0]
        if "pickle" in reason:  # what NumPy takes for a pickle is anything that is no archive
            reason = "it is no archive of arrays, or holds pickled objects"
        raise ValueError(
            f"{path}: expected a file that numpy.savez made, got one that cannot be read ({reason})"
        ) from error


def stored_array(archive: Any, key: str) -> NDArray[Any]:
    """Return an array of the file; of bfloat16, of which `numpy.savez` keeps the bytes alone, in float32."""
    array = np.asarray(archive[key])
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32) if array.dtype == BFLOAT16 else array


def outline(archive: Any, key: str) -> NDArray[Any]:
    """Return an array of the dtype and shape in the header of a member, without memory: only the header is read."""
    with archive.zip.open(key + ".npy") as member:
        try:
            version = np.lib.format.read_magic(member)
        except ValueError:  # no array: reading it tells
            return np.asarray(archive[key])
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    readable = dtype.hasobject or dtype == BFLOAT16 or dtype.kind in "fiub"
    return np.broadcast_to(np.zeros((), float if readable else dtype), shape)


def _checked(path: str, spec: CellSpec, arrays: Mapping[str, Any], dtype: _checks.DType) -> dict[str, Array]:
    """Convert the arrays, or raise the error that names the path and the misfit."""
    try:
        found = {key: _checks.dimensions(key, value, "rows, columns", dtype) for key, value in arrays.items()}
        for key, (letters, shape) in _shapes(spec, found).items():
            _checks.shaped(key, found[key], letters, shape, dtype)
    except (TypeError, ValueError) as error:
        raise WrongFile(f"{path}: {error}") from error
    return found


def load_parameters(path: str | os.PathLike[str], *, strict: bool = True, dtype: Any = np.float64) -> dict[str, Array]:
    """Read the parameters of a model from a file.

    A model is a dict of arrays, so ``numpy.savez(path, **parameters)`` writes one.  This reads it back and checks it.
    Numbers of any real type, float16 and bfloat16 too, are converted to float64, which is exact.

    Parameters
    ----------
    path : str or path-like
        A file that `numpy.savez` or `numpy.savez_compressed` made.
    strict : bool
        False to skip entries that are not parameters, as a mean and a standard deviation of the inputs.
    dtype : numpy.float64 or numpy.float32
        Of the arrays returned; those of the file are converted.

    Returns
    -------
    dict of new C-contiguous arrays
        The parameters of a basic RNN, an LSTM or a GRU, in the order of `initialize_parameters`; without an output
        layer if the file has none.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no such file, holds pickled objects (they are never read), lacks an entry, or has one that belongs
        to no cell, is of a wrong type or shape, or is not finite.  The message names the path and the entry.
    TypeError
        If `path` is no path.

    Examples
    --------
    >>> import os, tempfile, numpy as np, cyrnn
    >>> p = cyrnn.initialize_parameters("rnn", n_x=3, n_a=5, n_y=2, rng=np.random.default_rng(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.npz")
    ...     np.savez(path, **p)
    ...     q = cyrnn.load_parameters(path)
    >>> list(q), bool((q["Waa"] == p["Waa"]).all())
    (['Wax', 'Waa', 'ba', 'Wya', 'by'], True)
    """
    dtype, path = _checks.kernels(dtype).dtype, _checks.path(path)
    with open(path, "rb") as file, reading(path):
        archive = np.load(file, allow_pickle=False)
        names = set(archive.files)
        spec = max(CELLS.values(), key=lambda spec: len(names & set(spec.all_entries)))
        keys = [key for key in spec.all_entries if key in spec.entries or names & {spec.output, "by"}]
        missing, unknown = [key for key in keys if key not in names], sorted(names - set(spec.all_entries))
        if missing or (unknown and strict):
            raise WrongFile(
                f"{path}: expected the entries {', '.join(spec.all_entries)} of {spec.long_title}, "
                f"got {', '.join(sorted(names)) or 'none'} (missing: {', '.join(missing) or 'none'}; "
                f"unknown: {', '.join(unknown) or 'none'})"
            )
        _checked(path, spec, {key: outline(archive, key) for key in keys}, dtype)  # before anything large is read
        found = _checked(path, spec, {key: stored_array(archive, key) for key in keys}, dtype)
        for key, value in found.items():
            if not np.isfinite(value).all():
                raise WrongFile(f"{path}: {key}: expected finite numbers")
    return {key: np.array(value, order="C") for key, value in found.items()}
