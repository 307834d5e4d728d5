"""A network that is fed one step at a time, prepared once."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _checks
from .._checks import Array, Parameters
from .fused import Fused, fuse, split
from .layout import converted, layout, nested_states
from .spec import CELLS, OUTPUTS, CellSpec, check_output

__all__ = ["Stream"]

OWN_ORDER = {spec.name: spec.gates for spec in CELLS.values()}


class Stream:
    """A trained RNN, LSTM or GRU, or a network of several layers, that is fed one step at a time.

    The weights are copied and packed once and all memory is taken here, so a step is little more than its
    arithmetic.  Later changes to `parameters` do not reach the stream.  The results are, bit for bit, those
    of `rnn_forward`, `lstm_forward`, `gru_forward` or `network_forward` over the same steps.  The state begins with
    zeros.

    A stream is for one thread at a time (another one that calls meanwhile gets a RuntimeError); streams of
    their own in many threads do not disturb each other.  A stream computes on the thread that calls.  It can be
    copied and pickled: the copy has parameters and a state of its own and goes on with the same bits.

    Parameters
    ----------
    parameters : mapping or list
        As for `rnn_forward` (an entry ``Wax``), `lstm_forward` (an entry ``Wf``) or `gru_forward` (an entry ``Wu``), or
        a network as for `network_forward`, of one direction; copied.
    m : int
        Number of examples that are stepped side by side, each with a state of its own.
    output : str or None
        The output layer's activation: ``"softmax"`` (the notebook's), ``"sigmoid"``, ``"linear"``; None for no output
        layer, whose parameters are then not read: y is None.  So it is of a network that has no output layer.
        ``"auto"`` is ``"softmax"``, but ``"linear"`` with a warning where there is one output, whose softmax is 1
        whatever the input is.
    dtype : numpy.float64 or numpy.float32
        Precision of the computation, of the state and of the results.

    Returns
    -------
    Stream
        With the methods `step`, `run` and `reset` and the attributes `state` and `parameters`.

    Raises
    ------
    TypeError, ValueError, KeyError
        If `parameters` are not those of an RNN, an LSTM or a GRU with its output layer nor a network, `m` is no whole
        number from 1 on, or `output` is none of the above; the message names what, of a network as
        ``network[1]['Wf']``.  A network with a layer of both directions is refused: from right to left a layer begins
        with the last step, which is still to come.
    MemoryError
        If there is not enough memory.

    Warns
    -----
    UserWarning
        If there is one output and `output` is not given.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> rng = np.random.default_rng(0)
    >>> p = {"W" + gate: rng.normal(size=(5, 8)) for gate in "fico"} | {"b" + gate: np.zeros((5, 1)) for gate in "fico"}
    >>> p |= {"Wy": rng.normal(size=(2, 5)), "by": np.zeros((2, 1))}
    >>> stream = cyrnn.Stream(p)
    >>> x = rng.normal(size=(3, 1, 100))
    >>> steps = [stream.step(x[:, :, t]) for t in range(100)]
    >>> a, y, c, _ = cyrnn.lstm_forward(x, np.zeros((5, 1)), p)
    >>> np.array_equal(steps[-1][1], y[:, :, -1])
    True
    """

    __slots__ = (
        "_by_index",
        "_cells",
        "_dtype",
        "_net",
        "_network",
        "_output",
        "_predicts",
        "_sizes",
        "_units",
        "_vocabulary",
    )

    _by_index: bool  # the input seen last was of indices
    _cells: list[CellSpec]  # of the layers, and their sizes
    _dtype: _checks.DType
    _units: list[int]
    _network: bool  # it was made of a list
    _predicts: bool  # it has an output layer
    _sizes: tuple[int, int, int, int]  # n_x, n_a of the top layer, n_y, m
    _vocabulary: int | None  # of the embedding

    def __init__(
        self,
        parameters: Parameters | Sequence[Any],
        m: int = 1,
        *,
        output: str | None = "auto",
        dtype: Any = np.float64,
    ) -> None:
        kernels = _checks.kernels(dtype)
        if isinstance(m, bool) or not isinstance(m, (int, np.integer)):
            raise TypeError(f"m: expected a whole number of examples, got {m!r}")
        if m < 1:
            raise ValueError(f"m: expected one example at least, got {m}")
        by_size = isinstance(output, str) and output == "auto"
        if not by_size:
            check_output(output)
        self._network = isinstance(parameters, (list, tuple))
        layers, top, E = (_network_parts if self._network else _parts)(parameters, output, kernels.dtype)
        self._cells, self._units = [p.spec for p in layers], [p.W_a.shape[1] for p in layers]
        n_x, n_a, n_y = layers[0].W_x.shape[1], self._units[-1], 0 if top is None else len(top[0])
        columns = n_y + sum(p.W_x.shape[1] + 8 * p.W_a.shape[1] for p in layers)
        if int(m) * columns > _checks.MOST_COLUMNS:  # no size below can overflow
            raise ValueError(f"m: expected as many examples as memory can hold, got {m}")
        if by_size:
            output = "linear" if n_y == 1 else "softmax"
        if by_size and n_y == 1:
            why = "the softmax of one output is 1 whatever the input is, so y is linear"
            warnings.warn(f"output: {why}; say 'linear', 'sigmoid' or 'softmax'", UserWarning, stacklevel=2)
        self._output, self._predicts, self._dtype = output, top is not None, kernels.dtype
        self._sizes, self._vocabulary = (n_x, n_a, n_y, int(m)), None if E is None else len(E)
        f = OUTPUTS[output if self._predicts else None]
        self._net = kernels.recurrent.Stream(int(m), [_packed(p) for p in layers], E, *(top or (None, None)), f)
        self._by_index = E is not None

    def __repr__(self) -> str:
        n_x, n_a, n_y, m = self._sizes
        output = "" if self._output == "softmax" else f", output={self._output!r}"
        output += "" if self._dtype == _checks.FLOAT64 else f", dtype={self._dtype}"
        if not self._network:
            return f"<Stream of {self._cells[0].title}: n_x={n_x}, n_a={n_a}, n_y={n_y}, m={m}{output}>"
        layers = "; ".join(f"{spec.title}, n_a={n}" for spec, n in zip(self._cells, self._units, strict=True))
        embedding = "" if self._vocabulary is None else f"vocabulary={self._vocabulary}, "
        return f"<Stream of a network [{layers}]: {embedding}n_x={n_x}, n_y={n_y}, m={m}{output}>"

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = type(self), self.parameters, self._sizes[3], self._output, self.state, self._dtype.type
        return _restored, arguments, getattr(self, "__dict__", None)

    @property
    def parameters(self) -> Any:
        """A copy of the parameters, as the functions of a sequence take them; no output layer if `output` is None.

        Of a network it is a list.

        Examples
        --------
        >>> import numpy as np, cyrnn
        >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1))}
        >>> stream = cyrnn.Stream(p, output=None)
        >>> list(stream.parameters), np.array_equal(stream.parameters["Waa"], p["Waa"])
        (['Wax', 'Waa', 'ba'], True)
        """
        weights, Wy, by, E = self._net.weights()
        layers = []
        for spec, (W, b) in zip(self._cells, weights, strict=True):
            n_gates, n_a, columns = W.shape
            W, b = W.reshape(n_gates * n_a, columns), b[:, :, 0]
            fused = Fused(spec, W[:, n_a:], W[:, :n_a], b[:n_gates].ravel())
            fused.bca = b[n_gates] if len(b) > n_gates else None
            layers.append(fused)
        if not self._network:
            if Wy is not None:
                layers[0].Wy, layers[0].by = Wy, by[:, 0]
            return split(layers[0], OWN_ORDER)
        network = [split(fused, OWN_ORDER) for fused in layers]
        if E is not None:
            network.insert(0, {"E": E.T.copy("C")})
        if Wy is not None:
            network.append({"Wy": Wy, "by": by})
        return network

    def step(self, xt: Any, out: tuple[Array, Any] | None = None) -> tuple[Array, Any]:
        """Make one step.

        Parameters
        ----------
        xt : array_like, shape (n_x, m) or (m,)
            Input of this step; a column also where m is 1.  Integers of shape (m,) stand for one-hot columns: the
            number of the input that is 1, from 0 to n_x - 1.  With an embedding they are the numbers of its columns,
            and nothing else is taken.
        out : tuple of two arrays, optional
            C-contiguous arrays of the stream's dtype, of the shapes of the results, which are written and returned, so
            that nothing is allocated.  `xt` may be one of them.  Without an output layer ``(a, None)``.

        Returns
        -------
        a : numpy.ndarray of the stream's dtype, shape (n_a, m)
            Hidden state after the step, of a network that of the top layer; a new array or the one in `out`.
        y : numpy.ndarray of the stream's dtype, shape (n_y, m)
            Prediction, likewise.  None without an output layer.

        Raises
        ------
        TypeError, ValueError
            If an argument is of a wrong type or shape; the state and `out` are as they were.
        RuntimeError
            If another thread is inside this stream.

        Examples
        --------
        >>> import numpy as np, cyrnn
        >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1))}
        >>> stream = cyrnn.Stream(p | {"Wya": np.eye(2), "by": np.zeros((2, 1))})
        >>> out = np.empty((2, 1)), np.empty((2, 1))
        >>> a, y = stream.step(np.ones((3, 1)), out)
        >>> a is out[0], y[:, 0]
        (True, array([0.5, 0.5]))
        """
        try:
            result: tuple[Array, Any] = self._net.step_indices(xt, out) if self._by_index else self._net.step(xt, out)
            return result
        except _checks.MISFIT:
            pass
        n_x, n_a, n_y, m = self._sizes
        if out is not None:
            out = a, y = tuple(_checks.unpacked("out", out, "a, y"))
            _writeable("out[0]", a, "n_a, m", (n_a, m), self._dtype)
            if not self._predicts:
                if y is not None:
                    why = "output is None" if self._output is None else "the network has no output layer"
                    raise TypeError(f"out[1]: expected None, as {why}, got {type(y).__name__}")
            else:
                _writeable("out[1]", y, "n_y, m", (n_y, m), self._dtype)
                if np.may_share_memory(a, y):  # exact for what is contiguous
                    raise ValueError("out: expected two arrays that share no memory, got two that overlap")
        index = self._indices("xt", xt, "m", (m,))
        self._by_index = index is not None
        if index is not None:
            result = self._net.step_indices(index, out)
        else:
            array = _checks.real("xt", xt, dtype=self._dtype)
            if array.ndim == 2:
                xt = array
                self._check_input("xt", xt)
            result = self._net.step(_checks.dense("xt", xt, "n_x, m", self._dtype, shape=(n_x, m)), out)
        return result

    def run(self, x: Any) -> tuple[Array, Any]:
        """Make all steps of a block, one after the other, in one call.

        Parameters
        ----------
        x : array_like, shape (n_x, m, T_x) or (m, T_x)
            Input of every step.  Integers of shape (m, T_x) stand for one-hot columns: the number of the input that is
            1, from 0 to n_x - 1.  With an embedding they are the numbers of its columns, and nothing else is taken.

        Returns
        -------
        a : numpy.ndarray of the stream's dtype, shape (n_a, m, T_x)
            Hidden states, of a network those of the top layer; a new array.
        y : numpy.ndarray of the stream's dtype, shape (n_y, m, T_x)
            Predictions, a new array.  None without an output layer.

        Raises
        ------
        TypeError, ValueError
            If `x` is of a wrong type or shape; the state is as it was.
        RuntimeError
            If another thread is inside this stream.

        Examples
        --------
        >>> import numpy as np, cyrnn
        >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1))}
        >>> stream = cyrnn.Stream(p | {"Wya": np.eye(2), "by": np.zeros((2, 1))}, m=4)
        >>> a, y = stream.run(np.ones((3, 4, 7)))
        >>> a.shape, y.shape
        ((2, 4, 7), (2, 4, 7))
        """
        try:
            result: tuple[Array, Any] = self._net.run_indices(x) if self._by_index else self._net.run(x)
            return result
        except _checks.MISFIT:
            pass
        n_x, _, _, m = self._sizes
        index = self._indices("x", x, "m, T_x", (m, -1))
        self._by_index = index is not None
        if index is not None:
            result = self._net.run_indices(index)
        else:
            x = _checks.dense("x", x, "n_x, m, T_x", self._dtype)
            self._check_input("x", x)
            _checks.shaped("x", x, "n_x, m, T_x", (n_x, m, x.shape[2]), self._dtype)
            _checks.columns_fit("x", m, x.shape[2])
            result = self._net.run(x)
        return result

    def reset(self, examples: Any = None) -> None:
        """Set the state of all or some examples to zeros.

        Parameters
        ----------
        examples : int, array_like of ints, or array_like of bools of shape (m,), optional
            The examples to reset, from 0 to m - 1, or a mask of them; all without it.

        Raises
        ------
        TypeError, ValueError
            If `examples` are neither, or one is out of range; the state is as it was.
        RuntimeError
            If another thread is inside this stream.

        Examples
        --------
        >>> import numpy as np, cyrnn
        >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1))}
        >>> stream = cyrnn.Stream(p | {"Wya": np.eye(2), "by": np.zeros((2, 1))})
        >>> stream.state = np.ones((2, 1))
        >>> stream.reset()
        >>> stream.state[:, 0]
        array([0., 0.])
        >>> stream = cyrnn.Stream(stream.parameters, m=3)
        >>> stream.state = np.ones((2, 1))
        >>> stream.reset([False, True, False])  # the second of three environments is done
        >>> stream.state[0]
        array([1., 0., 1.])
        """
        self._net.reset(None if examples is None else _examples(examples, self._sizes[3]))

    @property
    def state(self) -> Any:
        """The state: a of an RNN or a GRU, the pair (a, c) of an LSTM, arrays of shape (n_a, m).

        Of a network it is a list of these, one entry for each layer, as `network_forward` takes and returns it.  What
        is read is a copy, and what is set is copied; set, they may be array_like and of shape (n_a, 1), one state for
        all examples, and an entry of the list may be None for zeros.

        Raises
        ------
        TypeError, ValueError
            If what is set is of a wrong type or shape; the state is as it was.
        RuntimeError
            If another thread is inside this stream.

        Examples
        --------
        >>> import numpy as np, cyrnn
        >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1))}
        >>> stream = cyrnn.Stream(p | {"Wya": np.eye(2), "by": np.zeros((2, 1))})
        >>> saved = stream.state
        >>> a, y = stream.step(np.ones((3, 1)))
        >>> stream.state = saved
        >>> np.array_equal(stream.step(np.ones((3, 1))), (a, y))
        True
        """
        states = [layer if len(layer) > 1 else layer[0] for layer in self._net.get()]
        return states if self._network else states[0]

    @state.setter
    def state(self, value: Any) -> None:
        n_a, m = self._units[0], self._sizes[3]
        if self._network:
            if value is None:
                raise TypeError(f"state: expected a list of {len(self._units)} entries, one for each layer, got None")
            nested = nested_states(value, [[spec] for spec in self._cells], m, self._units, "state", self._dtype)
            layers = []
            for n_a, (layer,) in zip(self._units, nested, strict=True):
                layers.append(tuple(np.zeros((n_a, 1), self._dtype) if given is None else given for given in layer))
            self._net.set(layers)
            return
        names = self._cells[0].states
        if len(names) == 1:
            self._net.set([(_checks.state("state", value, n_a, m, self._dtype),)])
        else:
            values = _checks.unpacked("state", value, ", ".join(names))
            states = [_checks.state(f"state[{k}]", value, n_a, m, self._dtype) for k, value in enumerate(values)]
            self._net.set([tuple(states)])

    def _check_input(self, name: str, x: Array) -> None:
        """Refuse numbers in another layout, with the transpose that fits."""
        parameters = self.parameters
        first, where = (parameters[0], "network[0]") if self._network else (parameters, "parameters")
        self._cells[0].check_input(name, x, first, where)

    def _indices(self, name: str, value: Any, letters: str, shape: tuple[int, ...]) -> Any:
        """Return what `_indices` does, or refuse numbers where there is an embedding."""
        if self._vocabulary is None:
            return _indices(name, value, letters, shape, "n_x", self._sizes[0])
        index = _indices(name, value, letters, shape, "vocabulary", self._vocabulary)
        if index is None:
            array = _checks.any_array(name, value)
            expected = f"integers of shape ({letters}), indices for the embedding network[0]"
            got = f"{array.ndim} dimensions of dtype {array.dtype}"
            raise ValueError(f"{name}: expected {expected}, got {got}")
        return index


def _parts(
    parameters: Any, output: str | None, dtype: _checks.DType
) -> tuple[list[Fused], tuple[Array, Array] | None, None]:
    """Return the layer, the output layer and that there is no embedding, as `_network_parts`."""
    p = fuse(parameters, OWN_ORDER, with_output=output is not None, dtype=dtype)
    if output is None:
        return [p], None, None
    if p.Wy is None or p.by is None:
        p.spec.output_sizes(parameters)  # raises: it is not there
    assert p.Wy is not None
    assert p.by is not None
    return [p], (np.ascontiguousarray(p.Wy), p.by[:, None]), None


def _network_parts(
    network: Any, output: str | None, dtype: _checks.DType
) -> tuple[list[Fused], tuple[Array, Array] | None, Array | None]:
    """Return the layers, the weights of the output layer and the embedding transposed of a network of one direction."""
    parts = layout(network)
    first = 0 if parts.embedding is None else 1
    for k, layer in enumerate(parts.layers, first):
        if len(layer) == 2:
            why = "from right to left a layer begins with the last step, which is still to come"
            raise ValueError(f"network[{k}]: expected one direction, got a pair; {why}")
    parts = converted(parts, "network", None, output, dtype)
    layers = [fuse(p, OWN_ORDER, with_output=False, name=name, dtype=dtype) for ((name, _, p),) in parts.layers]
    top = None if output is None or parts.output is None else (parts.output["Wy"], parts.output["by"])
    return layers, top, None if parts.embedding is None else parts.embedding["E"].T.copy("C")


def _packed(p: Fused) -> tuple[str, Array, Array]:
    """Return a layer as the kernel takes it: the cell's name, weights (n_gates, n_a, n_a + n_x), biases."""
    n_gates, n_a, n_x = p.spec.n_gates, p.W_a.shape[1], p.W_x.shape[1]
    W = np.hstack([p.W_a, p.W_x]).reshape(n_gates, n_a, n_a + n_x)
    b = np.concatenate([p.b] if p.bca is None else [p.b, p.bca]).reshape(-1, n_a, 1)
    return p.spec.form, W, b


def _restored(
    cls: type[Stream], parameters: Any, m: int, output: str | None, state: Any, dtype: Any = np.float64
) -> Stream:
    """Return a copy, for `copy` and `pickle`."""
    stream = cls.__new__(cls)
    Stream.__init__(stream, parameters, m, output=output, dtype=dtype)
    stream.state = state
    return stream


def _indices(name: str, value: Any, letters: str, shape: tuple[int, ...], size: str, n_x: int) -> Any:
    """Return integers of as many dimensions as indices, where -1 stands for any size; None if they are something else.

    Raises
    ------
    ValueError
        If they have another shape, or one is no input.
    """
    array = _checks.any_input(name, value, f"n_x, {letters}")
    if not _checks.are_indices(array, len(shape) + 1):
        return None
    if array.shape[0] != shape[0]:
        expected = ", ".join("T_x" if size < 0 else str(size) for size in shape) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name}: expected indices of shape ({letters}) = ({expected}), got {array.shape}")
    _checks.columns_fit(name, *array.shape)
    return _checks.indices(name, array, n_x, letters=size)


def _examples(value: Any, m: int) -> Any:
    """Return the numbers of some examples, given as they are or as a mask."""
    array = _checks.any_input("examples", value)
    if not (array.size or isinstance(value, np.ndarray)):  # an empty sequence, which NumPy takes for float64
        array = array.astype(np.intp)
    elif isinstance(value, (list, tuple)) and array.dtype.kind == "i":  # where NumPy takes True for 1
        array = array.astype(object if any(isinstance(entry, (bool, np.bool_)) for entry in value) else array.dtype)
    if array.dtype.kind not in "iub":
        got = f"dtype {array.dtype}" if array.dtype.kind != "O" else f"{type(value).__name__} of objects"
        raise TypeError(f"examples: expected integers or a mask of booleans, got {got}")
    if array.dtype.kind == "b":
        if array.shape != (m,):
            raise ValueError(f"examples: expected a mask of shape (m,) = ({m},), got {array.shape}")
        return np.flatnonzero(array)
    if array.ndim > 1:
        raise ValueError(f"examples: expected one dimension at most, got shape {array.shape}")
    array = array.reshape(-1)
    for wrong in array[(array < 0) | (array >= m)][:1]:
        raise ValueError(f"examples: expected numbers from 0 to m - 1 = {m - 1}, got {wrong}")
    return array.astype(np.intp)


def _writeable(name: str, value: Any, letters: str, shape: tuple[int, int], dtype: _checks.DType) -> None:
    """Refuse what a result cannot be written into."""
    if type(value) is not np.ndarray:
        raise TypeError(f"{name}: expected a numpy.ndarray to write into, got {type(value).__name__}")
    _checks.shaped(name, value, letters, shape, dtype)
    if value.dtype != dtype or not value.flags.carray:
        how = f"{value.dtype}, C-contiguous {value.flags.c_contiguous}, writeable {value.flags.writeable}"
        raise ValueError(f"{name}: expected a writeable C-contiguous {dtype} array, got {how}")
