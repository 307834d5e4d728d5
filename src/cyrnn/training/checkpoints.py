"""A training in one file: the network, Adam's moments, the step, and what the caller wants to keep with them."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .networks import restored, stored
from .parameters import WrongFile, reading
from .sequences import whole

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]


class Checkpoint(NamedTuple):
    """A training, as `load_checkpoint` returns it."""

    network: list[Any]
    moments: tuple[list[Any], list[Any]] | None
    step: int
    arrays: dict[str, NDArray[Any]]


def _renamed(nested: Any, how: Callable[[str], str]) -> Any:
    """Return nested arrays under other names."""
    if isinstance(nested, (list, tuple)):
        return type(nested)(_renamed(entry, how) for entry in nested)
    return {how(key): value for key, value in nested.items()}


def _shapes(arrays: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: value.shape for key, value in arrays.items()}


def save_checkpoint(
    path: str | os.PathLike[str],
    network: Sequence[Any],
    *,
    moments: tuple[Any, Any] | None = None,
    step: int = 0,
    **arrays: Any,
) -> None:
    """Write a training to one file, which `load_checkpoint` reads.

    The file is one that `numpy.savez` makes, without pickled objects.  It holds the network under the names of
    `save_network`, which `load_network` does not read beside others.

    Parameters
    ----------
    path : str or path-like
        The file.  It is replaced when all is written, so that an interrupt leaves the one before.
    network : list
        As for `network_forward`.
    moments : tuple of two lists, optional
        The lists v and s, as `initialize_adam` returns them.
    step : int
        The number of updates so far, which is the t of the last one.
    **arrays : array_like
        What else is to be kept, of numbers or strings: the mean and deviation of the inputs, the names of classes.

    Returns
    -------
    None

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError, ValueError, KeyError
        If an argument is of a wrong type, a network or moment does not fit, or an array holds objects; the message
        names it.  Then nothing is written.

    Examples
    --------
    >>> import os, tempfile, cyrnn
    >>> network = cyrnn.initialize_network("gru", n_x=3, n_a=5, n_y=2, rng=0)
    >>> moments = cyrnn.initialize_adam(network)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "training.npz")
    ...     cyrnn.save_checkpoint(path, network, moments=moments, step=7, mean=[0.5], names=["no", "yes"])
    ...     training = cyrnn.load_checkpoint(path)
    >>> training.step, training.arrays["names"].tolist(), training.moments[0][0]["dWu"].shape
    (7, ['no', 'yes'], (5, 8))
    """
    path, own = _checks.path(path), stored(network)
    found: dict[str, Any] = {f"network.{key}": value for key, value in own.items()}
    if moments is not None:
        for letter, each in zip("vs", _checks.unpacked("moments", moments, "v, s"), strict=True):
            try:
                values = stored(_renamed(each, lambda key: key.removeprefix("d")))
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                raise ValueError(f"moments: expected those of the network as {letter}, got others ({error})") from error
            if _shapes(values) != _shapes(own):
                raise ValueError(f"moments: expected arrays of the network's shapes as {letter}, got others")
            found |= {f"{letter}.{key}": value for key, value in values.items()}
    found["step"] = np.array(whole("step", step, 0))
    found["dtype"] = np.array(str(next(iter(own.values())).dtype))
    for key, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.kind not in "biufSUc":
            raise TypeError(f"{key}: expected an array of numbers or strings, got dtype {array.dtype}")
        found[f"arrays.{key}"] = array
    partial = f"{path}.partial"
    try:
        with open(partial, "wb") as file:
            np.savez(file, **found)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a training that `save_checkpoint` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    Checkpoint
        ``network``; ``moments``, a tuple v, s, or None; ``step``; ``arrays``, a dict of what else was kept.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no such file, holds pickled objects (they are never read), or its arrays are not those of a network, or
        not finite.  The message names the path and the entry.
    TypeError
        If `path` is no path.

    Examples
    --------
    See `save_checkpoint`.
    """
    path = _checks.path(path)
    with open(path, "rb") as file, reading(path):
        archive = np.load(file, allow_pickle=False)
        parts: dict[str, dict[str, str]] = {"network": {}, "v": {}, "s": {}, "arrays": {}}
        for key in archive.files:
            kind, _, name = key.partition(".")
            if key not in ("step", "dtype"):
                if kind not in parts:
                    raise WrongFile(f"{path}: expected what save_checkpoint writes, got an array {key!r}")
                parts[kind][name] = key
        if not {"step", "dtype"} <= set(archive.files) or not parts["network"]:
            got = ", ".join(archive.files) or "nothing"
            raise WrongFile(f"{path}: expected what save_checkpoint writes, got {got}")
        dtype, kinds = _checks.kernels(str(archive["dtype"])).dtype, ("network", "v", "s")
        network, *both = (restored(path, _Part(archive, kind), parts[kind], dtype) for kind in kinds if parts[kind])
        if [_shapes(stored(each)) for each in both] not in ([], [_shapes(stored(network))] * 2):
            raise WrongFile(f"{path}: expected moments v and s of the network's shapes, or none")
        v_s = [_renamed(each, lambda key: "d" + key) for each in both]
        step = int(archive["step"])
        arrays = {name: archive[key] for name, key in parts["arrays"].items()}
    return Checkpoint(network, (v_s[0], v_s[1]) if both else None, step, arrays)


class _Part:
    """The arrays of an open file whose names begin with a word and a dot, by the rest of their names."""

    def __init__(self, archive: Any, kind: str) -> None:
        self._archive, self._kind = archive, kind
        self.zip = self

    def __getitem__(self, key: str) -> Any:
        return self._archive[f"{self._kind}.{key}"]

    def open(self, key: str) -> Any:
        return self._archive.zip.open(f"{self._kind}.{key}")
