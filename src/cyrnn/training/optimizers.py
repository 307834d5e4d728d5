"""Updates of the parameters: clipped gradients, Adam (with weight decay: AdamW), gradient descent.

The gradient of ``parameters["Wf"]`` is ``gradients["dWf"]``: the key with a d in front.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from .. import _checks, _updates
from .._checks import Array
from .._kernels import Kernels
from .._kernels.runtime.buffers import arrays

__all__ = ["clip_gradients", "initialize_adam", "update_parameters_with_adam", "update_parameters_with_gd"]

Arrays = Mapping[str, Any]
Nested = Arrays | Sequence[Any]  # of a layer, or of a network
P = TypeVar("P", bound=Nested)
V = TypeVar("V", bound=Nested)
S = TypeVar("S", bound=Nested)

TINY, MOST = math.ulp(0.0), math.nextafter(math.inf, 0.0)
NOT_NEGATIVE = "a finite number, 0 or more", 0.0, MOST
POSITIVE = "a number above 0", TINY, math.inf
FITS_FLOAT32 = "a finite number in float32", 0.0, float(np.finfo(np.float32).max)


def _leaves(values: dict[str, Any]) -> list[dict[str, Arrays]]:
    """Return the mappings that belong together by name: one group for a layer, one for each dict of a network.

    Raises
    ------
    TypeError, ValueError
        If something is neither a mapping nor a list of such, or is nested otherwise than the first value.
    """
    first, *_ = values
    if not isinstance(values[first], (list, tuple)):
        for name, value in values.items():
            if not isinstance(value, Mapping):
                raise TypeError(f"{name}: expected a mapping from names to arrays, got {type(value).__name__}")
        return [dict(values)]
    count = len(values[first])
    for name, value in values.items():
        if not isinstance(value, (list, tuple)) or len(value) != count:
            got = f"{len(value)} entries" if isinstance(value, (list, tuple)) else type(value).__name__
            raise ValueError(f"{name}: expected a list of {count} entries, as {first}, got {got}")
    nested = [_leaves({f"{name}[{k}]": value[k] for name, value in values.items()}) for k in range(count)]
    return [leaf for leaves in nested for leaf in leaves]


def _lists(parameters: Any, gradients: Any, *states: Any) -> list[list[Any]]:
    """Return the arrays of the parameters and, in the same order, of their gradients and moments; nothing is checked.

    Parameters and moments are of dicts alone: another mapping might give a new array on each access.
    """
    lists: list[list[Any]] = [[] for _ in range(2 + len(states))]
    _collect(lists, (parameters, gradients, *states))
    return lists


def _collect(lists: list[list[Any]], nested: tuple[Any, ...]) -> None:
    """Append the arrays of parameters, gradients and moments to lists of their own."""
    parameters, gradients, *states = nested
    if isinstance(parameters, dict):
        for values in states:
            if not isinstance(values, dict):
                raise TypeError
        names = ["d" + key for key in parameters]
        lists[0] += parameters.values()
        for arrays_of, values in zip(lists[1:], (gradients, *states), strict=True):
            arrays_of += [values[name] for name in names]
        return
    for value in nested:
        if not isinstance(value, (list, tuple)):
            raise TypeError
    for entries in zip(*nested, strict=True):
        _collect(lists, entries)


def _kernels_of(parameters: Any) -> Kernels:
    """Return the kernels of the precision of the first parameter, which all must have."""
    while isinstance(parameters, (list, tuple)) and len(parameters):
        parameters = parameters[0]
    values = parameters.values() if isinstance(parameters, Mapping) else ()
    return _checks.kernels_for(*[value for _, value in zip(range(1), values, strict=False)])


def _gradient(name: str, value: Any, kernels: Kernels) -> Array:
    """Return a gradient as the kernels read it; refuse one that is not finite."""
    array = _checks.real(name, value, dtype=kernels.dtype)
    largest = kernels.optimizers.LARGEST
    bad = ~(np.abs(array) <= largest)
    if bad.any():
        index = tuple(map(int, np.argwhere(bad)[0]))
        raise ValueError(
            f"{name}: expected finite numbers (at most {kernels.dtype.type(largest)!s}, so that their squares are), "
            f"got {array[index]!s} at {list(index)}"
        )
    return array if array.flags.c_contiguous else array.copy()


def _written(name: str, values: Arrays, key: str, dtype: _checks.DType) -> Array:
    """Return an entry; refuse what cannot be updated in place."""
    value = values[key]
    if values[key] is not value:
        raise TypeError(
            f"{name}: expected an array to update in place, got a new array on each access (e.g. an open NpzFile); "
            "use dict(...)"
        )
    _checks.any_array(name, value)  # refuses masked values
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        got = f"dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        why = "" if dtype == _checks.FLOAT64 else ", as the first parameter is,"
        raise TypeError(f"{name}: expected a {dtype} numpy.ndarray{why} to update in place, got {got}")
    if not value.flags.carray:
        flags = {"C-contiguous": value.flags.c_contiguous, "aligned": value.flags.aligned}
        lacks = next((flag for flag, there in flags.items() if not there), "writeable")
        raise ValueError(f"{name}: expected a C-contiguous, aligned, writeable array, got one that is not {lacks}")
    return np.asarray(value)  # of a subclass the array itself, in the same memory


def _checked(
    kernels: Kernels, parameters: Any, gradients: Any, states: dict[str, Any]
) -> tuple[dict[str, list[Array]], dict[str, list[str]], list[Any]]:
    """Return the lists that the kernels take, gradients first, and the arrays' names; errors name the misfit."""
    kinds = ["gradients", "parameters", *states]
    lists: dict[str, list[Array]] = {kind: [] for kind in kinds}
    names: dict[str, list[str]] = {kind: [] for kind in kinds}
    updated: list[Any] = []  # the caller's own objects
    for leaf in _leaves({"parameters": parameters, "gradients": gradients, **states}):
        (where, own), *others = leaf.items()
        for key in own:
            if not isinstance(key, str):
                raise TypeError(f"{where}: expected names for keys, got {key!r}")
            spelled = f"{where}[{key!r}]"
            parameter = _written(spelled, own, key, kernels.dtype)
            lists["parameters"].append(parameter)
            updated.append(own[key])
            names["parameters"].append(spelled)
            for kind, (name, values) in zip(("gradients", *states), others, strict=True):
                if "d" + key not in values:
                    got = sorted(map(str, values))
                    raise _checks.Missing(f"{name}: expected an entry {'d' + key!r} for {spelled}, got only {got}")
                full = f"{name}[{'d' + key!r}]"
                if kind == "gradients":
                    array = _gradient(full, values["d" + key], kernels)
                else:
                    array = _written(full, values, "d" + key, kernels.dtype)
                if array.shape != parameter.shape:
                    raise ValueError(f"{full}: expected {parameter.shape}, as {spelled}, got {array.shape}")
                lists[kind].append(array)
                names[kind].append(full)
    return lists, names, updated


def _update(
    kernel: Callable[..., None],
    lists: dict[str, list[Array]],
    names: dict[str, list[str]],
    updated: list[Any],
    *rates: Any,
) -> None:
    """Call the kernel with what `_checked` returned; what it still refuses is memory that two arrays share."""
    try:
        kernel(*lists.values(), *rates)
        _updates.note(updated)
    except ValueError as error:
        named = [pair for kind in lists for pair in zip(names[kind], lists[kind], strict=True)]
        for name, array in named[len(lists["gradients"]) :]:
            for other, theirs in named:
                if name != other and np.may_share_memory(array, theirs):
                    got = f"some that {other} shares"
                    raise ValueError(f"{name}: expected memory of its own to update, got {got}") from error
        raise


def _like(value: Any, make: Callable[[Any], Any]) -> Any:
    """Return a value nested as a network, or as its one mapping, with `make` of each mapping."""
    if isinstance(value, (list, tuple)):
        return type(value)(_like(entry, make) for entry in value)
    return make(value)


@overload
def initialize_adam(parameters: Arrays) -> tuple[dict[str, Array], dict[str, Array]]: ...
@overload
def initialize_adam(parameters: Sequence[Any]) -> tuple[list[Any], list[Any]]: ...
def initialize_adam(parameters: Nested) -> tuple[Any, Any]:
    """First and second moments of the gradients before the first step of Adam: zeros.

    Parameters
    ----------
    parameters : mapping, or list
        From names to arrays, of which only the shapes are read; or a network of such mappings.

    Returns
    -------
    v : dict of numpy.ndarray
        Zeros of the parameters' shapes, of float32 where a parameter is an array of that, else of float64, named like
        the gradients: ``v["dWf"]`` for ``parameters["Wf"]``; nested as the network.
    s : dict of numpy.ndarray
        The same.

    Raises
    ------
    TypeError, ValueError
        If `parameters` is no mapping from names to arrays of real numbers.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> v, s = cyrnn.initialize_adam({"Wy": np.ones((1, 2)), "by": np.ones((1, 1))})
    >>> v
    {'dWy': array([[0., 0.]]), 'dby': array([[0.]])}
    """
    for leaf in _leaves({"parameters": parameters}):
        for where, own in leaf.items():
            for key, value in own.items():
                _checks.real(f"{where}[{key!r}]", value)

    def zeros(own: Arrays) -> dict[str, Array]:
        return {"d" + key: np.zeros(np.shape(a), _checks.kernels_for(a).dtype) for key, a in own.items()}

    v, s = _like(parameters, zeros), _like(parameters, zeros)
    return v, s


def update_parameters_with_adam(
    parameters: P,
    gradients: Nested,
    v: V,
    s: S,
    t: int,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    *,
    weight_decay: float = 0.0,
) -> tuple[P, V, S]:
    """One step of Adam, in place.

    ``v = beta1 v + (1 - beta1) g``, ``s = beta2 s + (1 - beta2) g^2``, and then
    ``parameter -= learning_rate v / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + epsilon)``
    (Kingma and Ba 2015, algorithm 1).  With `weight_decay` the weights are multiplied by
    ``1 - learning_rate weight_decay`` before that: AdamW (Loshchilov and Hutter 2019).

    Parameters
    ----------
    parameters : mapping, or list
        From names to arrays, all of float64 or all of float32, C-contiguous and writeable: **they are updated in
        place**, without a copy.  Or a network of such mappings; the gradients and moments are then nested as it is.
        Caches that a forward pass made of them before are then refused by the backward pass.
    gradients : mapping
        ``gradients["dWf"]`` for ``parameters["Wf"]``, of the same shape; only read, and converted to the parameters'
        dtype.  Every parameter needs its gradient; other entries (``dx``, ``da0``) are not looked at.
    v, s : mapping
        First and second moments as `initialize_adam` returns them: **updated in place** too.
    t : int
        Number of this step: 1 for the first one.
    learning_rate : float
        0 or more.
    beta1, beta2 : float
        From 0 up to, not including, 1.
    epsilon : float
        Above 0.
    weight_decay : float
        0 or more, and at most ``1 / learning_rate``.  It is applied to the entries whose names begin with ``W``, not to
        biases nor to an embedding.  The gradients and moments do not contain it.

    Returns
    -------
    parameters, v, s
        The very objects that were passed.

    Raises
    ------
    TypeError, ValueError, KeyError
        If a gradient or moment is missing, of a wrong shape, not finite (or above 1.3e154, in float32 1.8e19, whose
        square is not); if an array to update is not of the dtype of the others, not C-contiguous, read-only, or shares
        memory with another one; if t or a rate is out of range; if there is a `weight_decay` and no entry to apply it
        to.  The message names it, and then nothing has been updated.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> parameters = {"Wy": np.array([[1.0, 2.0]])}
    >>> v, s = cyrnn.initialize_adam(parameters)
    >>> for t in range(1, 11):
    ...     gradients = {"dWy": 2 * parameters["Wy"]}
    ...     parameters, v, s = cyrnn.update_parameters_with_adam(parameters, gradients, v, s, t, learning_rate=0.1)
    >>> parameters["Wy"].round(3)
    array([[0.076, 1.025]])
    """
    if type(t) is not int or t < 1:
        try:
            t = operator.index(t)
        except TypeError as error:
            raise TypeError(f"t: expected an integer, got {type(t).__name__}") from error
        if t < 1:
            raise ValueError(f"t: expected the number of the step, 1 or more, got {t}")
    learning_rate = _checks.number("learning_rate", learning_rate, *NOT_NEGATIVE)
    beta1, beta2 = (_checks.number(name, b, *_checks.BELOW_1) for name, b in (("beta1", beta1), ("beta2", beta2)))
    epsilon = _checks.number("epsilon", epsilon, "a finite number above 0", TINY, MOST)
    weight_decay = _checks.number("weight_decay", weight_decay, *NOT_NEGATIVE)
    if not learning_rate * weight_decay <= 1.0:
        most = f"at most 1 / learning_rate = {1 / learning_rate}, which leaves nothing of a weight"
        raise ValueError(f"weight_decay: expected {most}, got {weight_decay}")
    kernels, exponent = _kernels_of(parameters), min(t, 1 << 53)  # a float, whatever t is
    if kernels.dtype == _checks.FLOAT32:
        _checks.number("learning_rate", learning_rate, *FITS_FLOAT32)
        _checks.number("epsilon", epsilon, "a number above 0 in float32", math.ldexp(1.0, -149), FITS_FLOAT32[2])
    kernel = kernels.optimizers.adam
    corrections = 1.0 - beta1**exponent, 1.0 - beta2**exponent
    rates = learning_rate, beta1, beta2, epsilon, *corrections, 1.0 - learning_rate * weight_decay
    decayed = None
    if weight_decay:
        keys = [key for leaf in _leaves({"parameters": parameters}) for own in leaf.values() for key in own]
        decayed = [isinstance(key, str) and key.startswith("W") for key in keys]
        if not any(decayed):
            got = sorted(map(str, keys))
            raise _checks.Missing(f"parameters: expected entries that begin with 'W' to decay, got only {got}")
    if isinstance(parameters, (dict, list, tuple)):
        try:
            p_list, g_list, v_list, s_list = _lists(parameters, gradients, v, s)
            kernel(g_list, p_list, v_list, s_list, *rates, decayed)
            _updates.note(p_list)
            return parameters, v, s
        except _checks.MISFIT:
            pass
    _update(kernel, *_checked(kernels, parameters, gradients, {"v": v, "s": s}), *rates, decayed)
    return parameters, v, s


def update_parameters_with_gd(parameters: P, gradients: Nested, learning_rate: float) -> P:
    """One step of gradient descent, in place: ``parameter -= learning_rate g``.

    Parameters
    ----------
    parameters : mapping, or list
        From names to arrays, all of float64 or all of float32, C-contiguous and writeable: **they are updated in
        place**, without a copy.  Or a network of such mappings; the gradients and moments are then nested as it is.
        Caches that a forward pass made of them before are then refused by the backward pass.
    gradients : mapping
        ``gradients["dWf"]`` for ``parameters["Wf"]``, of the same shape; only read, and converted to the parameters'
        dtype.  Every parameter needs its gradient; other entries (``dx``, ``da0``) are not looked at.
    learning_rate : float
        0 or more.

    Returns
    -------
    parameters
        The very object that was passed.

    Raises
    ------
    TypeError, ValueError, KeyError
        As `update_parameters_with_adam`; then nothing has been updated.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> cyrnn.update_parameters_with_gd({"Wy": np.array([[1.0, 2.0]])}, {"dWy": np.array([[10.0, 0.0]])}, 0.05)
    {'Wy': array([[0.5, 2. ]])}
    """
    learning_rate = _checks.number("learning_rate", learning_rate, *NOT_NEGATIVE)
    kernels = _kernels_of(parameters)
    if kernels.dtype == _checks.FLOAT32:
        _checks.number("learning_rate", learning_rate, *FITS_FLOAT32)
    kernel = kernels.optimizers.descent
    if isinstance(parameters, (dict, list, tuple)):
        try:
            p_list, g_list = _lists(parameters, gradients)
            kernel(g_list, p_list, learning_rate)
            _updates.note(p_list)
            return parameters
        except _checks.MISFIT:
            pass
    _update(kernel, *_checked(kernels, parameters, gradients, {}), learning_rate)
    return parameters


def _is_clipped(key: Any) -> bool:
    """Whether a key is of the gradient of a parameter."""
    return isinstance(key, str) and key.startswith(("dW", "db", "dE"))


@overload
def clip_gradients(
    gradients: Arrays, *, norm: float | None = None, value: float | None = None
) -> tuple[dict[str, Any], float]: ...
@overload
def clip_gradients(
    gradients: Sequence[Any], *, norm: float | None = None, value: float | None = None
) -> tuple[list[Any], float]: ...
def clip_gradients(gradients: Nested, *, norm: float | None = None, value: float | None = None) -> tuple[Any, float]:
    """Gradients whose norm, or whose every value, is not larger than a limit.

    Exactly one of `norm` and `value` is given.  The norm is that of all weights' gradients together (the entries
    whose names begin with ``dW``, ``db`` or ``dE``): where it is larger than `norm`, all of them are multiplied by
    ``norm / (their norm)``.

    Parameters
    ----------
    gradients : mapping, or list
        From names to arrays; or those of a network, whose norm is that of all layers together; only read.
    norm : float, optional
        The largest norm of all together, above 0.  ``numpy.inf`` clips nothing and only measures.
    value : float, optional
        The largest size of each single value, above 0.

    Returns
    -------
    clipped : dict
        New arrays for the entries that begin with ``dW``, ``db`` or ``dE``, nested as they were: of float32 if all of
        them are arrays of that, else of float64.
        The other entries (``dx``, ``da0``, ``da``) are passed through as they are and do not count.
    norm : float
        The norm before anything was clipped, in either way; it neither overflows nor underflows.

    Raises
    ------
    TypeError, ValueError, KeyError
        If not exactly one of the limits is given or it is out of range, if a gradient is not finite (or above 1.3e154,
        in float32 1.8e19, whose square is not) or of a wrong type, or if there is no weight's gradient at all; the
        message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> cyrnn.clip_gradients({"dWy": np.array([[3.0, 0.0]]), "dby": np.array([[4.0]])}, norm=1.0)
    ({'dWy': array([[0.6, 0. ]]), 'dby': array([[0.8]])}, 5.0)
    >>> cyrnn.clip_gradients({"dWy": np.array([[3.0, 0.0]]), "dby": np.array([[-4.0]])}, value=1.0)
    ({'dWy': array([[1., 0.]]), 'dby': array([[-1.]])}, 5.0)
    """
    if (norm is None) == (value is None):
        raise TypeError(f"norm, value: expected exactly one of them, got {'neither' if norm is None else 'both'}")
    by_norm = math.inf if norm is None else _checks.number("norm", norm, *POSITIVE)
    by_value = math.inf if value is None else _checks.number("value", value, *POSITIVE)
    leaves = [next(iter(leaf.items())) for leaf in _leaves({"gradients": gradients})]
    entries = [(where, own, key) for where, own in leaves for key in own if _is_clipped(key)]
    if not entries:
        got = sorted(str(key) for _, own in leaves for key in own)
        raise _checks.Missing(f"gradients: expected entries that begin with 'dW' or 'db', got only {got}")
    before = [own[key] for _, own, key in entries]
    kernels = _checks.kernels_for(*before)
    try:
        after = arrays(*[array.shape for array in before], itemsize=kernels.dtype.itemsize)
        found = kernels.optimizers.clip(before, after, by_norm, by_value)
    except _checks.MISFIT:
        before = [_gradient(f"{where}[{key!r}]", own[key], kernels) for where, own, key in entries]
        after = arrays(*[array.shape for array in before], itemsize=kernels.dtype.itemsize)
        found = kernels.optimizers.clip(before, after, by_norm, by_value)
    clipped = iter(after)

    def clip(own: Arrays) -> dict[str, Any]:
        return {key: next(clipped) if _is_clipped(key) else own[key] for key in own}

    return _like(gradients, clip), found
