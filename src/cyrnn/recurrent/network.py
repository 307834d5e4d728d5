"""Networks of several layers and both directions, as `layout` describes them: the passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _checks, _kernels, _updates
from .._checks import Array, DType
from .._kernels import Kernels
from .activations import sigmoid, softmax
from .layout import Layout, converted, initial_states, layout, walk
from .spec import OUTPUTS, check_output, gru_form

__all__ = ["network_backward", "network_forward"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"softmax": softmax, "sigmoid": sigmoid, "linear": np.asarray}


@dataclass(slots=True)
class NetworkCache:
    """What a forward pass over a network keeps for the backward pass."""

    parts: Layout
    x: Any  # (n_x, m, T_x) or indices (m, T_x), as the kernels take it
    embedded: Array | None  # (n_x, m, T_x), with an embedding
    lengths: bytes | None
    a: Array  # (n_a, m, T_x) of the top layer, the array that was returned
    output: str | None
    layers: list[list[tuple[Array, Array | None]]]  # of each layer and direction: buffer, hidden states as columns
    made: int  # `_updates.count` at the forward pass

    def __repr__(self) -> str:
        cells = ["both directions of " * (len(layer) - 1) + layer[0].spec.title for layer in self.parts.layers]
        return f"<the caches of a network: {'; '.join(cells)}>"

    def check(self) -> None:
        """Refuse a cache that is older than an update of one of its arrays, see `_updates.check`."""
        if self.made != _updates.count:
            entries = walk(self.parts.network())
            arrays = {f"{name}[{key!r}]": value[key] for name, value in entries for key in value}
            _updates.check(self.made, {"x": self.x, **arrays})


@dataclass(slots=True)
class _Input:
    """The input of a forward pass, as the kernels take it."""

    x: Any  # (n_x, m, T_x), or indices (m, T_x)
    E: Array | None  # (n_x, vocabulary), the embedding that indices are of
    lengths: bytes | None

    def steps(self, first: int, end: int) -> "_Input":
        """Return some of the steps."""
        kept = self.lengths
        if kept is not None:
            kept = np.clip(np.frombuffer(kept, np.intp) - first, 0, end - first).tobytes()
        return _Input(self.x[..., first:end], self.E, kept)

    def dense(self) -> Any:
        """Return (n_x, m, T_x), of the columns of the embedding; None for indices of one-hot columns."""
        if self.E is None:
            return self.x if self.x.ndim == 3 else None
        index, kept = self.x, self.lengths
        if kept is not None:
            index = np.where(np.arange(index.shape[1]) < np.frombuffer(kept, np.intp)[:, None], index, 0)
        return self.E[:, index]


def _input(x: Any, parts: Layout, lengths: Any, dtype: DType) -> _Input:
    """Convert the input."""
    array = _checks.any_input("x", x, "n_x, m, T_x")
    indices = _checks.are_indices(array, 3)
    if parts.embedding is not None and not indices:
        got = f"{array.ndim} dimensions of dtype {array.dtype}"
        raise ValueError(f"x: expected integers of shape (m, T_x), indices for the embedding network[0], got {got}")
    array = array if indices else _checks.dense("x", array, "n_x, m, T_x", dtype, _checks.used_steps(lengths))
    m, T_x = array.shape[-2:]
    _checks.columns_fit("x", m, T_x)
    kept = None if lengths is None else _checks.lengths(lengths, m, T_x)
    if not indices:
        return _Input(array, None, kept)
    where, spec, parameters = parts.layers[0][0]
    if parts.embedding is None:
        return _Input(_checks.indices("x", array, spec.sizes(parameters, where)[1], kept).copy(), None, kept)
    E = _checks.dimensions("network[0]['E']", parts.embedding["E"], "n_x, vocabulary", dtype)
    return _Input(_checks.indices("x", array, E.shape[1], kept, "vocabulary").copy(), E, kept)


PASSED_ON_BYTES = 256 * 1024  # of hidden columns between layers, up to which all steps are computed at once
PASSED_ON_SHARE = 0.22  # of the bytes returned, which they and the results of some steps may take
PASSED_ON_COLUMNS = 128  # examples times steps at least, for products at full speed
TRIED_COLUMNS = 10_000  # examples times steps times layers of a call that is tried before it is checked


def _nested(layers: list[list[list[Array]]]) -> list[Any]:
    """Return states as they are shown: an array or a tuple of a direction, a pair of these of a layer of both."""
    shown: list[Any] = []
    for layer in layers:
        each = [states[0] if len(states) == 1 else tuple(states) for states in layer]
        shown.append(each[0] if len(each) == 1 else tuple(each))
    return shown


def _without_steps(lengths: bytes | None, T_x: int) -> Any:
    """Return which examples have no step, or None if all have one."""
    if T_x == 0:
        return slice(None)
    if lengths is None:
        return None
    none = np.frombuffer(lengths, np.intp) == 0
    return none if none.any() else None


def _sizes(parts: Layout) -> list[int]:
    """Return n_a of each layer; an error if that of two directions differs, or is 0."""
    sizes = []
    for layer in parts.layers:
        each = {len(direction.parameters[direction.spec.identifier]) for direction in layer}
        if len(each) > 1 or 0 in each:
            raise ValueError("the shapes do not fit")
        sizes.append(each.pop())
    return sizes


def _outputs(parts: Layout, output: str | None) -> Any:
    """Return the weights of the output layer if it is read."""
    if output is None or parts.output is None:
        return None
    return parts.output["Wy"], parts.output["by"]


def _forward(
    kernels: Kernels,
    given: _Input,
    dense: Any,
    parts: Layout,
    sizes: list[int],
    initial: Any,
    output: str | None,
    cache: bool,
) -> tuple[Any, Array, list[Any], list[Any]]:
    """Run all layers over all steps, one layer after the other: y, a, the last states, what is kept of each layer."""
    m, T_x = given.x.shape[-2:]
    kept, top = given.lengths, _outputs(parts, output)
    n_a, pair = sizes[-1], len(parts.layers[-1]) == 2
    a: Array = np.empty((n_a * (1 + pair), m, T_x), kernels.dtype)
    none = _without_steps(kept, T_x)
    source: tuple[Any, ...] = m, T_x, dense, given.x if dense is None else None, None
    buffers, last, y = [], [], None
    count = len(parts.layers)
    for layer, begin in zip(parts.layers, initial, strict=True):
        count -= 1
        form = layer[0].spec.form
        if len(layer) == 1:
            how = (None, None, OUTPUTS[None]) if count or top is None else (*top, OUTPUTS[output])
            own = begin[0], *layer[0].arrays(), None if count else a, count > 0
            made = [kernels.recurrent.layer_forward(form, False, *source, *own, *how, kept, cache)]
            y = made[0][2]
        else:
            weights, biases = zip(layer[0].arrays(), layer[1].arrays(), strict=True)
            halves = (None, None) if count else (a[:n_a], a[n_a:])
            made = kernels.recurrent.layer_forward_both(
                form, *source, tuple(begin), weights, biases, halves, count > 0, kept, cache
            )
        ends = [states for _, _, _, states in made]
        if none is not None:
            for states, before in zip(ends, begin, strict=True):
                for state, value in zip(states, before, strict=True):
                    state[:, none] = 0.0 if value is None else np.broadcast_to(value, state.shape)[:, none]
        hidden = tuple(columns for _, columns, _, _ in made)
        source = m, T_x, None, None, hidden
        if cache:
            buffers.append([(buffer, columns) for buffer, columns, _, _ in made])
        last.append(ends)
    if top is not None and pair:
        assert output is not None
        y = ACTIVATIONS[output](kernels.dense.forward(a, *top))
        if kept is not None:
            y[:, np.arange(T_x) >= np.frombuffer(kept, np.intp)[:, None]] = 0.0
    return y, a, last, buffers


def _steps_at_once(parts: Layout, sizes: list[int], n_y: int, given: _Input) -> int:
    """Return how many steps a pass that keeps nothing computes at once.

    What the layers hand on is then little beside what is returned.  A layer from right to left needs all steps of the
    one below.
    """
    m, T_x = map(int, given.x.shape[-2:])
    inner = 2 * max(sizes[:-1], default=0) + (0 if given.E is None else len(given.E))
    if not inner or any(len(layer) == 2 for layer in parts.layers):
        return T_x
    returned = sizes[-1] + n_y
    if 8 * inner * m * T_x <= PASSED_ON_BYTES:
        return T_x
    steps = max(int(PASSED_ON_SHARE * T_x * returned / (inner + returned)), -(-PASSED_ON_COLUMNS // m))
    return steps // 8 * 8 if steps > 8 else steps  # whole cache lines


def _forward_by_steps(
    kernels: Kernels, given: _Input, parts: Layout, sizes: list[int], initial: Any, output: str | None, n_y: int
) -> tuple[Any, Array, list[Any]]:
    """As `_forward`, some steps of all layers at a time: y, a and the last states."""
    m, T_x = given.x.shape[-2:]
    at_once = _steps_at_once(parts, sizes, n_y, given)
    if at_once >= T_x:
        return _forward(kernels, given, given.dense(), parts, sizes, initial, output, False)[:3]
    a: Array = np.empty((sizes[-1], m, T_x), kernels.dtype)
    y = np.empty((n_y, m, T_x), kernels.dtype) if n_y else None
    last: list[Any] = []
    for first in range(0, T_x, at_once):
        part = given.steps(first, min(first + at_once, T_x))
        y_part, a_part, last, _ = _forward(kernels, part, part.dense(), parts, sizes, initial, output, False)
        a[:, :, first : first + at_once] = a_part
        if y is not None:
            y[:, :, first : first + at_once] = y_part
        initial = [[tuple(states) for states in layer] for layer in last]
    return y, a, last


def network_forward(
    x: Any,
    network: Sequence[Any],
    *,
    states: Any = None,
    lengths: Any = None,
    output: str | None = "softmax",
    cache: bool = True,
    dtype: Any = np.float64,
) -> tuple[Any, Array, list[Any], NetworkCache | None]:
    """Run a network of several layers, in one or both directions, over all steps.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x), or of integers, shape (m, T_x)
        Input of every step.  Integers (m, T_x) are indices: of the columns of the embedding, or of one-hot columns if
        there is none.
    network : list
        The layers, from bottom to top: optionally an embedding ``{"E": (n_x,
        vocabulary)}``; then the recurrent parameters of each layer, as for `rnn_forward`, `lstm_forward` or
        `gru_forward` without the output layer, or a pair of them for a layer of both directions; optionally an output
        layer ``{"Wy": (n_y, n_a), "by": (n_y, 1)}``.  The inputs of a layer are the n_a units of the one below, or the
        2 n_a of its two directions, those from left to right first.
    states : list, optional
        Initial states, nested as they are returned; an entry may be None for zeros, and its arrays (n_a, 1) for all
        examples.  Zeros by default.
    lengths : array_like of integers, shape (m,), optional
        Valid time steps of each example, 0 to T_x.  From right to left an example begins with its own last step.  The
        result of an example is bit for bit that of running it alone without padding.
    output : str or None
        The output layer's activation: ``"softmax"``, ``"sigmoid"`` or ``"linear"``; with None the output layer is not
        read.  Without an output layer it has no meaning.
    cache : bool
        False to keep nothing for the backward pass.
    dtype : numpy.float64 or numpy.float32
        Precision of the computation and of every array that is returned, whatever the arguments are; those of another
        one are converted, at every call.

    Returns
    -------
    y : numpy.ndarray of `dtype`, shape (n_y, m, T_x), or None
        Predictions; None without an output.
    a : numpy.ndarray of `dtype`, shape (n_a, m, T_x)
        Hidden states of the top layer, (2 n_a, m, T_x) of two directions; zero past the lengths.  `network_backward`
        reads them for the gradient of the output layer: change a copy.
    states : list
        The states of each layer after the last step that an example has (from right to left: after its first step), to
        carry on: a (n_a, m), or (a, c) of an LSTM; a pair of these for two directions.
    caches : NetworkCache or None
        For `network_backward`, which reads a dense `x`, `a` and the parameters as they are when it runs; indices, and
        the columns of the embedding, are those of the forward pass.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape, or layers do not fit each other; the message names the entry, as
        ``network[2][1]['Wf']``.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> network = cyrnn.initialize_network("gru", n_x=3, n_a=[5, 4], n_y=2, rng=0, bidirectional=True)
    >>> y, a, states, caches = cyrnn.network_forward(np.ones((3, 10, 7)), network)
    >>> y.shape, a.shape, states[1][0].shape
    ((2, 10, 7), (8, 10, 7), (4, 10))
    """
    kernels, made = _checks.kernels(dtype), _updates.count
    check_output(output)
    parts = layout(network)
    if type(x) is np.ndarray and x.dtype is kernels.dtype and x.ndim == 3 and _is_small(parts, x.shape):
        try:
            kept = None if lengths is None else _checks.lengths(lengths, *x.shape[1:])
            return _run(kernels, _Input(x, None, kept), parts, parts, states, output, cache, made)
        except _checks.MISFIT:
            pass
    given = _input(x, parts, lengths, kernels.dtype)
    n_x = len(given.x) if given.x.ndim == 3 else None
    where, spec, parameters = parts.layers[0][0]
    if n_x is not None and spec.sizes(parameters, where)[1] != n_x:
        spec.check_input("x", given.x, parameters, where)
    checked = converted(parts, "network", n_x, output, kernels.dtype)
    return _run(kernels, given, parts, checked, states, output, cache, made)


def _is_small(parts: Layout, shape: tuple[int, ...]) -> bool:
    """Whether a call is tried before its arguments are checked.

    The kernels check them too, and checking them here takes as long as a small layer.  In a large network all layers
    but the last might have run for nothing.
    """
    return parts.embedding is None and shape[-1] * shape[-2] * len(parts.layers) <= TRIED_COLUMNS


def _run(
    kernels: Kernels,
    given: _Input,
    parts: Layout,
    checked: Layout,
    states: Any,
    output: str | None,
    cache: bool,
    made: int,
) -> tuple[Any, Array, list[Any], NetworkCache | None]:
    """Return what `network_forward` does; `checked` is what the caller passed, or that converted."""
    sizes = _sizes(checked)
    initial = initial_states(states, checked, given.x.shape[-2], sizes, "states", kernels.dtype)
    if not cache:
        top = _outputs(checked, output)
        n_y = 0 if top is None else len(top[0])
        y, a, last = _forward_by_steps(kernels, given, checked, sizes, initial, output, n_y)
        return y, a, _nested(last), None
    dense = given.dense()
    y, a, last, buffers = _forward(kernels, given, dense, checked, sizes, initial, output, True)
    embedded = None if given.E is None else dense
    caches = NetworkCache(parts, given.x, embedded, given.lengths, a, output, buffers, made)
    return y, a, _nested(last), caches


def network_backward(
    caches: NetworkCache, *, dz: Any = None, da: Any = None, dstates: Any = None
) -> tuple[list[Any], Any, list[Any]]:
    """Gradients through a network of several layers.

    Parameters
    ----------
    caches : NetworkCache
        As `network_forward` returns it.
    dz : array_like, shape (n_y, m, T_x), optional
        Gradient of the loss with respect to the output layer before its activation, as the losses return it.
    da : array_like, shape (n_a, m, T_x), optional
        Gradient with respect to the hidden states of the top layer, beside what comes through the output layer.
    dstates : list, optional
        Gradients with respect to the states that `network_forward` returned, nested as they are; None for zeros, and
        (n_a, 1) for the same of all examples.
        What `dz` and `da` hold past the lengths is not used.

    Returns
    -------
    gradients : list
        New arrays of the caches' dtype, nested as the network is, under the parameters' names with a d in front:
        ``gradients[0]["dWf"]``.
    dx : numpy.ndarray of the caches' dtype, shape (n_x, m, T_x), or None
        Zero past the lengths; None where `x` was of indices.
    dstates : list
        Gradients with respect to the initial states, nested as they are.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape; the message names it.
    RuntimeError
        If `update_parameters_with_adam` or `update_parameters_with_gd` changed one of the parameters in place since the
        forward pass.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> network = cyrnn.initialize_network("lstm", n_x=3, n_a=[5, 4], n_y=2, rng=0)
    >>> y, a, states, caches = cyrnn.network_forward(np.ones((3, 10, 7)), network)
    >>> loss, dz = cyrnn.cross_entropy(y, np.zeros((10, 7), int))
    >>> gradients, dx, dstates = cyrnn.network_backward(caches, dz=dz)
    >>> gradients[1]["dWf"].shape, gradients[2]["dWy"].shape, dx.shape
    ((4, 9), (2, 4), (3, 10, 7))
    """
    if not isinstance(caches, NetworkCache):
        got = "None, which network_forward returns with cache=False" if caches is None else type(caches).__name__
        raise TypeError(f"caches: expected what network_forward returned, got {got}")
    caches.check()
    kernels, x, embedded = _kernels.of(caches.a.dtype), caches.x, caches.embedded
    dense = embedded if embedded is not None else x if x.ndim == 3 else None
    for layer in caches.parts.layers:
        for where, spec, parameters in layer:
            if spec.name == "gru" and gru_form(parameters) is not spec:
                raise ValueError(f"{where}: expected {spec.title}, as in the forward pass, got the other form")
    read = caches.output if dz is None else "linear"  # whether the output layer is
    if _is_small(caches.parts, x.shape):
        try:
            return _backward(kernels, caches, caches.parts, dense, dz, da, dstates)
        except _checks.MISFIT:
            pass
    checked = converted(caches.parts, "network", None if dense is None else len(dense), read, kernels.dtype)
    return _backward(kernels, caches, checked, dense, dz, da, dstates)


def _backward(
    kernels: Kernels, caches: NetworkCache, checked: Layout, dense: Any, dz: Any, da: Any, dstates: Any
) -> tuple[list[Any], Any, list[Any]]:
    """Return what `network_backward` does; `checked` is what the caller passed, or that converted."""
    kept, x = caches.lengths, caches.x
    m, T_x = x.shape[-2:]
    sizes = _sizes(checked)
    n_top = len(caches.a)
    outside = None if kept is None else ~_checks.within(kept, T_x)
    used = _checks.used_steps(kept)
    gradients: list[Any] = []
    total = None
    if da is not None:
        total = _checks.shaped("da", da, "n_a, m, T_x", (n_top, m, T_x), kernels.dtype, used)
    if dz is not None:
        if checked.output is None:
            raise ValueError("dz: expected None for a network without an output layer, got a gradient")
        n_y = len(checked.output["Wy"])
        dz = np.ascontiguousarray(_checks.shaped("dz", dz, "n_y, m, T_x", (n_y, m, T_x), kernels.dtype, used))
        if outside is not None:
            dz = np.where(outside, dz.dtype.type(0), dz)
        da_output, dWy, dby = kernels.dense.backward(dz, caches.a, checked.output["Wy"])
        total = da_output if total is None else np.add(total, da_output, out=da_output)
        gradients.append({"dWy": dWy, "dby": dby})
    elif checked.output is not None:
        gradients.append({"d" + key: np.zeros(np.shape(value), kernels.dtype) for key, value in checked.output.items()})
    if total is None:
        total = np.zeros((n_top, m, T_x), kernels.dtype)
    d_last = initial_states(dstates, checked, m, sizes, "dstates", kernels.dtype)
    if dstates is not None:
        d_last = [[tuple(_full(d, m) for d in direction) for direction in layer] for layer in d_last]
    none = _without_steps(kept, T_x)
    d_hidden: tuple[Array, ...] | None = None
    d_initial: list[list[list[Array]]] = []
    dx: Any = None
    source: tuple[Any, ...]
    for k in range(len(checked.layers) - 1, -1, -1):
        layer, buffers = checked.layers[k], caches.layers[k]
        form, n_a = layer[0].spec.form, sizes[k]
        if k == 0:
            source = m, T_x, dense, x if dense is None else None, None
        else:
            source = m, T_x, None, None, tuple([hidden for _, hidden in caches.layers[k - 1]])
        if len(layer) == 1:
            above = (total, None) if d_hidden is None else (None, d_hidden[0])
            weights, _ = layer[0].arrays()
            how = weights, kept, buffers[0][0], *above, d_last[k][0]
            made = [kernels.recurrent.layer_backward(form, False, *source, *how)]
        else:
            halves = ((total[:n_a], total[n_a:]), (None, None)) if d_hidden is None else ((None, None), d_hidden)
            both = tuple([direction.arrays()[0] for direction in layer])
            made = kernels.recurrent.layer_backward_both(
                form, *source, both, kept, (buffers[0][0], buffers[1][0]), *halves, tuple(d_last[k])
            )
        if none is not None:
            for (_, _, d_begin, _, _), given in zip(made, d_last[k], strict=True):
                for gradient, end in zip(d_begin, given, strict=True):
                    if end is not None:
                        gradient[:, none] = end[:, none]
        dx, d_hidden, *_ = made[0]
        if len(layer) == 2:  # both read the same input
            dx_2, d_hidden_2, *_ = made[1]
            if dx is not None:
                np.add(dx, dx_2, out=dx)
            for gradient, other in zip(d_hidden or (), d_hidden_2 or (), strict=True):
                np.add(gradient, other, out=gradient)
        row = [direction.gradients(dW, db) for direction, (_, _, _, dW, db) in zip(layer, made, strict=True)]
        gradients.append(row[0] if len(row) == 1 else tuple(row))
        d_initial.append([d_begin for _, _, d_begin, _, _ in made])
    if checked.embedding is not None:
        dE = np.zeros(checked.embedding["E"].shape)  # float64: an index may come often
        inside = np.ones((m, T_x), bool) if outside is None else ~outside
        np.add.at(dE.T, x[inside], dx[:, inside].T)
        gradients.append({"dE": dE.astype(kernels.dtype, copy=False)})
        dx = None
    return gradients[::-1], dx, _nested(d_initial[::-1])


def _full(d: Any, m: int) -> Any:
    """Return the gradient of a state for every example."""
    return d if d is None or d.shape[1] == m else np.repeat(d, m, axis=1)
