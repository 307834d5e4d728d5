"""A network that is fed one step at a time, prepared once."""

from typing import Any, NoReturn

import numpy as np

from .. import _checks, _kernels
from .._checks import Array, Parameters
from .fused import fuse
from .spec import CELLS

__all__ = ["Stream"]

OWN_ORDER = {spec.name: spec.gates for spec in CELLS.values()}


class Stream:
    """A trained RNN or LSTM that is fed one step at a time.

    The weights are copied and packed once and all memory is taken here, so a step is little more than its
    arithmetic.  Later changes to `parameters` do not reach the stream.  The results are, bit for bit, those
    of `rnn_forward` or `lstm_forward` over the same steps.  The state begins with zeros.

    A stream is for one thread at a time (another one that calls meanwhile gets a RuntimeError); streams of
    their own in many threads do not disturb each other.  A stream computes on the thread that calls.

    Parameters
    ----------
    parameters : mapping
        As for `rnn_forward` (an entry ``Wax``) or `lstm_forward` (an entry ``Wf``); copied.
    m : int
        Number of examples that are stepped side by side, each with a state of its own.

    Returns
    -------
    Stream
        With the methods `step`, `run` and `reset` and the attribute `state`.

    Raises
    ------
    TypeError, ValueError, KeyError
        If `parameters` are not those of an RNN or an LSTM with its output layer, or `m` is no whole number
        from 1 on; the message names what.
    MemoryError
        If there is not enough memory.

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

    __slots__ = ("_net", "_sizes", "_spec")

    def __init__(self, parameters: Parameters, m: int = 1) -> None:
        if isinstance(m, bool) or not isinstance(m, (int, np.integer)):
            raise TypeError(f"m: expected a whole number of examples, got {m!r}")
        if m < 1:
            raise ValueError(f"m: expected one example at least, got {m}")
        p = fuse(parameters, OWN_ORDER)
        if p.Wy is None or p.by is None:
            _checks.entry(parameters, p.spec.output)  # raises: it is not there
        n_gates, n_a, n_x = p.spec.n_gates, p.W_a.shape[1], p.W_x.shape[1]
        Wy, by = np.ascontiguousarray(p.Wy), np.array(p.by)[:, None]
        if int(m) * (n_x + 8 * n_a + len(by)) > _checks.MOST_COLUMNS:  # no size below can overflow
            raise ValueError(f"m: expected as many examples as memory can hold, got {m}")
        W = np.hstack([p.W_x, p.W_a]).reshape(n_gates, n_a, n_x + n_a)
        self._spec = p.spec
        self._sizes = n_x, n_a, len(by), int(m)
        self._net = _kernels.stream.Stream(p.spec.name, int(m), W, p.b.reshape(n_gates, n_a, 1), Wy, by)

    def __repr__(self) -> str:
        n_x, n_a, n_y, m = self._sizes
        return f"<Stream of {self._spec.title}: n_x={n_x}, n_a={n_a}, n_y={n_y}, m={m}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream is neither copied nor pickled: make another one and set its state")

    def step(self, xt: Any, out: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """Make one step.

        Parameters
        ----------
        xt : array_like, shape (n_x, m)
            Input of this step; a column also where m is 1.
        out : tuple of two arrays, optional
            C-contiguous float64 arrays of the shapes of the results, which are written and returned, so
            that nothing is allocated.  `xt` may be one of them.

        Returns
        -------
        a : numpy.ndarray of float64, shape (n_a, m)
            Hidden state after the step, a new array or the one in `out`.
        y : numpy.ndarray of float64, shape (n_y, m)
            Prediction, likewise.

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
            result: tuple[Array, Array] = self._net.step(xt, out)
            return result
        except _checks.MISFIT:
            pass
        n_x, n_a, n_y, m = self._sizes
        if out is not None:
            out = a, y = tuple(_checks.unpacked("out", out, "a, y"))
            _writeable("out[0]", a, "n_a, m", (n_a, m))
            _writeable("out[1]", y, "n_y, m", (n_y, m))
            if np.may_share_memory(a, y):  # exact for what is contiguous
                raise ValueError("out: expected two arrays that share no memory, got two that overlap")
        result = self._net.step(_checks.shaped("xt", xt, "n_x, m", (n_x, m)), out)
        return result

    def run(self, x: Any) -> tuple[Array, Array]:
        """Make all steps of a block, one after the other, in one call.

        Parameters
        ----------
        x : array_like, shape (n_x, m, T_x)
            Input of every step.

        Returns
        -------
        a : numpy.ndarray of float64, shape (n_a, m, T_x)
            Hidden states, a new array.
        y : numpy.ndarray of float64, shape (n_y, m, T_x)
            Predictions, a new array.

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
        n_x, _, _, m = self._sizes
        x = _checks.dimensions("x", x, "n_x, m, T_x")
        T_x = x.shape[2]
        _checks.shaped("x", x, "n_x, m, T_x", (n_x, m, T_x))
        _checks.columns_fit("x", m, T_x)
        result: tuple[Array, Array] = self._net.run(x)
        return result

    def reset(self) -> None:
        """Set the state to zeros.

        Raises
        ------
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
        """
        self._net.reset()

    @property
    def state(self) -> Any:
        """The state: a of an RNN, the pair (a, c) of an LSTM, float64 arrays of shape (n_a, m).

        What is read is a copy, and what is set is copied; set, they may be array_like and of shape (n_a, 1),
        one state for all examples.

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
        states = self._net.get()
        return states if len(states) > 1 else states[0]

    @state.setter
    def state(self, value: Any) -> None:
        _, n_a, _, m = self._sizes
        names = self._spec.states
        if len(names) == 1:
            self._net.set(_checks.state("state", value, n_a, m))
        else:
            values = _checks.unpacked("state", value, ", ".join(names))
            self._net.set(*(_checks.state(f"state[{k}]", value, n_a, m) for k, value in enumerate(values)))


def _writeable(name: str, value: Any, letters: str, shape: tuple[int, int]) -> None:
    """Refuse what a result cannot be written into."""
    if type(value) is not np.ndarray:
        raise TypeError(f"{name}: expected a numpy.ndarray to write into, got {type(value).__name__}")
    _checks.shaped(name, value, letters, shape)
    if value.dtype != _checks.FLOAT64 or not value.flags.carray:
        how = f"{value.dtype}, C-contiguous {value.flags.c_contiguous}, writeable {value.flags.writeable}"
        raise ValueError(f"{name}: expected a writeable C-contiguous float64 array, got {how}")
