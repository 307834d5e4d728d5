"""The caches of a sequence: a few large buffers, and the notebook's list of tuples made of them on demand.

A forward pass keeps its intermediate values in one buffer (`SequenceCache`).  The notebook keeps a list with one tuple
of arrays per step.  `CacheList` is that list to a reader or an edit; a backward pass that finds it unedited takes the
buffer instead.  To build 100 tuples of 10 views would cost more than the whole computation of a small network.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .. import _checks, _kernels, _updates
from .._checks import Array, Parameters
from .spec import CellSpec, gru_form


@dataclass(slots=True)
class SequenceCache:
    """What a forward pass keeps for the backward pass."""

    spec: CellSpec
    buffer: Array  # (rows, n_a): each state, the initial one first, then the slots; see _kernels/schedule/layer.pxd
    shape: tuple[int, int, int]  # n_a, m, T_x
    lengths: bytes | None  # as `_checks.lengths` keeps them
    x: Any  # (n_x, m, T_x) or indices (m, T_x), the caller's array
    parameters: Parameters
    made: int  # `_updates.count` at the forward pass

    def __len__(self) -> int:
        return self.shape[2]

    @property
    def kernels(self) -> _kernels.Kernels:
        """The kernels of its precision."""
        return _kernels.of(self.buffer.dtype)

    def check(self) -> None:
        """Refuse a cache that is older than an update of one of its arrays, see `_updates.check`."""
        if self.made != _updates.count:
            arrays = {f"parameters[{key!r}]": self.parameters[key] for key in self.spec.entries}
            _updates.check(self.made, {"x": self.x, **arrays})

    def step(self, t: int) -> tuple[Any, ...]:
        """Return the notebook's cache of step t: states after it, states before it, slots, xt, parameters.

        Its arrays are views of the buffer, or with lengths read-only copies.
        """
        n_a, m, T_x = self.shape
        step = None if self.lengths is None else PaddedStep(self.lengths, t)
        n_states, n_slots = len(self.spec.states), len(self.spec.slots)
        active = m if step is None else step.n_active
        columns = (len(self.buffer) - n_states * active) // (n_states + n_slots)
        *states, slots = np.split(self.buffer, [(k + 1) * (active + columns) for k in range(n_states)])
        # slots (n_slots, columns, n_a); with one example each step has its slots side by side
        slots = slots.reshape(columns, n_slots, n_a) if m == 1 else slots.reshape(n_slots, columns, n_a)
        if m == 1:
            slots = slots.transpose(1, 0, 2)
        if step is not None:
            after, before = [step.after(a[active:]) for a in states], [step.before(a) for a in states]
            entries = *after, *before, *map(step.after, slots), step.input(self.x), self.parameters
            return PaddedTuple(entries, step.active)
        states = [a.reshape(T_x + 1, m, n_a) for a in states]
        after, before = [a[t + 1].T for a in states], [a[t].T for a in states]
        gates = slots[:, t * m : (t + 1) * m].transpose(0, 2, 1)
        return *after, *before, *gates, self.x[..., t], self.parameters


FIRST_EDIT = threading.Lock()  # two threads that edit a list of caches at once must get the same list


class CacheList(MutableSequence[tuple[Any, ...]]):
    """The caches of all steps, as the notebook's list of tuples.

    Reading makes a tuple of views, once for each step: what is written into their arrays is what the backward pass
    reads.  (With lengths the arrays are read-only copies.)  A slice or a sum is an ordinary list.  The first edit of
    the sequence itself (assignment, append, deletion, ...) turns it into an ordinary list inside, which the backward
    pass reads step by step.  It is no `list` to isinstance, and equal only to itself; as long as any step of it is
    kept, so are the buffers of all steps.
    """

    __slots__ = ("_list", "_made", "_sequence")

    def __init__(self, sequence: SequenceCache | None, items: Iterable[tuple[Any, ...]] | None = None) -> None:
        self._sequence = sequence
        self._list: list[tuple[Any, ...]] = [] if items is None else list(items)
        self._made: dict[int, tuple[Any, ...]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return CacheList, (self._sequence, self._list)  # without the tuples made: they would lose the buffers

    @property
    def sequence(self) -> SequenceCache | None:
        """The cache of the sequence, or None once the list has been edited."""
        return self._sequence

    def _step(self, sequence: SequenceCache, t: int) -> tuple[Any, ...]:
        made = self._made.get(t)
        if made is None:
            made = self._made.setdefault(t, sequence.step(t))
        return made

    def _edited(self) -> list[tuple[Any, ...]]:
        with FIRST_EDIT:
            if self._sequence is not None:
                self._list = list(self)
                self._sequence = None
                self._made = {}
        return self._list

    def __len__(self) -> int:
        sequence = self._sequence  # once: another thread may edit the list meanwhile
        return len(self._list) if sequence is None else len(sequence)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        t = 0
        while t < len(self):  # an edit during the loop is seen, as with a list
            yield self[t]
            t += 1

    @overload
    def __getitem__(self, index: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[Any, ...]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        sequence = self._sequence
        if sequence is None:
            return self._list[index]
        found = range(len(sequence))[index]
        return self._step(sequence, found) if isinstance(found, int) else [self._step(sequence, t) for t in found]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._edited()[index] = value

    def __delitem__(self, index: int | slice) -> None:
        del self._edited()[index]

    def append(self, value: tuple[Any, ...]) -> None:
        """Append a step."""
        self._edited().append(value)

    def insert(self, index: int, value: tuple[Any, ...]) -> None:
        """Insert a step before `index`."""
        self._edited().insert(index, value)

    def sort(self, **how: Any) -> None:
        """Sort the steps in place."""
        self._edited().sort(**how)

    def copy(self) -> list[tuple[Any, ...]]:
        """Return an ordinary list of the steps."""
        return list(self)

    def __copy__(self) -> "CacheList":
        return CacheList(self._sequence, self._list)

    def __add__(self, other: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [*self, *other]

    def __radd__(self, other: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [*other, *self]

    def __mul__(self, count: int) -> list[tuple[Any, ...]]:
        return list(self) * count

    __rmul__ = __mul__

    def __imul__(self, count: int) -> "CacheList":
        self._list = self._edited() * count
        return self

    def __repr__(self) -> str:
        sequence = self._sequence
        of = "" if sequence is None else f" of {sequence.spec.title}"
        return f"<the caches of {len(self)} steps{of}>"


class PaddedTuple(tuple[Any, ...]):
    """The notebook's cache of a step that only some examples have: a list of such steps knows the lengths too."""

    active: Any  # (m,), whether an example has the step

    def __new__(cls, entries: Iterable[Any], active: Any) -> "PaddedTuple":
        """Make the tuple."""
        made = super().__new__(cls, entries)
        made.active = active
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return PaddedTuple, (tuple(self), self.active)


class PaddedStep:
    """One step of a batch whose examples have different lengths, put together from packed columns.

    The kernels keep a column for every example that takes part in a step, the longest first.
    """

    def __init__(self, kept: bytes, t: int) -> None:
        lengths = np.frombuffer(kept, np.intp)
        self._m, self._t = len(lengths), t
        order = np.argsort(-lengths, kind="stable")
        self._examples = order[: np.count_nonzero(lengths > t)]
        self.active: NDArray[np.bool_] = lengths > t
        self._first = int(np.minimum(lengths, t).sum())
        self.n_active: int = int(np.count_nonzero(lengths))  # examples with initial states
        self._before = self.n_active + int(np.minimum(lengths, t - 1).sum()) if t else 0

    def _spread(self, columns: Any) -> Any:
        step = np.zeros((columns.shape[1], self._m), columns.dtype)
        step[:, self._examples] = columns.T
        step.flags.writeable = False
        return step

    def after(self, columns: Array) -> Any:
        """Return (n, m) of the columns (columns, n) after every step."""
        return self._spread(columns[self._first : self._first + len(self._examples)])

    def before(self, columns: Array) -> Any:
        """Return (n, m) before this step of the columns that begin with the initial ones."""
        return self._spread(columns[self._before : self._before + len(self._examples)])

    def input(self, x: Any) -> Any:
        """Return (n_x, m) of x (n_x, m, T_x), or (m,) of indices (m, T_x), without what it holds past the lengths."""
        columns = self._spread(np.atleast_2d(x[..., self._examples, self._t]).T)
        return columns if x.ndim == 3 else columns[0]


def sequence_of(steps: Any, spec: CellSpec, T_x: int) -> SequenceCache | None:
    """Return the cache of the sequence behind the steps, or None where they are an ordinary sequence.

    Raises
    ------
    TypeError
        If the steps are no sequence, or the caches of another cell.
    ValueError
        If there are fewer steps than `da` has.
    """
    if not isinstance(steps, Sequence) or isinstance(steps, (str, bytes)):
        raise TypeError(f"caches[0]: expected the list of steps, got {type(steps).__name__}")
    if len(steps) < T_x:
        raise ValueError(f"da: expected at most T_x = {len(steps)} steps, as the caches have, got {T_x}")
    sequence = steps.sequence if isinstance(steps, CacheList) else None
    if sequence is not None and sequence.spec.name != spec.name:
        raise TypeError(f"caches: expected the caches of {spec.name}_forward, got those of another cell")
    if sequence is None and len(steps) == 0:
        raise ValueError("caches[0]: expected at least one step, got an empty list")
    return sequence


def kernels_of(steps: Any) -> _kernels.Kernels:
    """Return the kernels of the precision of caches: that of the first step's first array, the hidden state."""
    sequence = steps.sequence if isinstance(steps, CacheList) else None
    if sequence is not None:
        return sequence.kernels
    first = steps[0] if isinstance(steps, Sequence) and len(steps) and isinstance(steps[0], (tuple, list)) else ()
    return _checks.kernels_for(*first[:1])


def used_of(steps: Any) -> _checks.Used:
    """Return what of the gradients of all steps is read: that of the examples that have the step."""
    if isinstance(steps, CacheList) and steps.sequence is not None:
        return _checks.used_steps(steps.sequence.lengths)
    return partial(_used_by_steps, steps)


def _used_by_steps(steps: Any, shape: tuple[int, ...]) -> Any:
    every = [step.active for step in steps if isinstance(step, PaddedTuple)]
    if len(shape) != 3 or len(every) < len(steps) or {active.shape for active in every} != {shape[1:2]}:
        return True
    return np.stack(every[: shape[2]], 1)


def backward_by_steps(
    cell_back: Callable[..., dict[str, Any]], reaching: dict[str, Array | None], steps: Sequence[Any]
) -> dict[str, Any]:
    """Go back through an ordinary sequence of cell caches, one cell at a time, as the notebook does.

    Parameters
    ----------
    cell_back : callable
        The cell's backward pass: called with the names and then the values of the gradients of the states
        after the step and of the step's cache, it returns dxt (None for indices), the gradients of the
        states before the step (``da_prev``, ``dc_prev``), and those of the weights.
    reaching : dict
        The gradients that reach the states from outside, by name and in this order: ``da`` (n_a, m, T_x),
        then ``dc`` of the same shape or None for zeros, if there is a memory.
    steps : sequence
        The caches, at least T_x of them.
    """
    da = reaching["da"]
    assert da is not None
    n_a, m, T_x = da.shape
    carried = {name: np.zeros((n_a, m), da.dtype) for name in reaching}
    sums: dict[str, Array] = {}
    dx: Array | None = None
    for t in reversed(range(T_x)):
        names = [name if value is None else f"{name}[:, :, {t}]" for name, value in reaching.items()]
        active = getattr(steps[t], "active", True)
        for name, value in reaching.items():
            if value is not None:
                carried[name] = np.where(active, value[:, :, t], 0.0) + carried[name]
        step = cell_back([*names, f"caches[0][{t}]"], [*carried.values(), steps[t]])
        dxt = step.pop("dxt")
        carried = {name: step.pop(f"{name}_prev") for name in reaching}
        if not sums:
            dx, sums = None if dxt is None else np.empty((len(dxt), m, T_x), dxt.dtype), step
        else:
            if (dx is None) != (dxt is None):
                kinds = ("indices", "a dense input")[:: -1 if dxt is None else 1]
                raise ValueError(f"caches[0][{t}]: expected {kinds[0]} as in the step after, got {kinds[1]}")
            if dx is not None and dxt.shape != dx.shape[:2]:
                raise ValueError(f"caches[0][{t}]: expected n_x = {len(dx)} as in the step after, got {len(dxt)}")
            if step.keys() != sums.keys():
                here, after = gru_form(steps[t][-1]).title, gru_form(steps[t + 1][-1]).title
                raise ValueError(f"caches[0][{t}]: expected {after}, as in the step after, got {here}")
            for name, value in step.items():
                if value.dtype != sums[name].dtype:
                    expected = f"{sums[name].dtype} as in the step after"
                    raise ValueError(f"caches[0][{t}]: expected {expected}, got {value.dtype}")
                if value.shape != sums[name].shape:  # of another n_x, which only the weights tell where x is of indices
                    expected = f"weights of the shape {sums[name].shape} as in the step after"
                    raise ValueError(f"caches[0][{t}]: expected {expected}, got {value.shape}")
                sums[name] += value
        if dx is not None:
            dx[:, :, t] = dxt
    if not sums:  # no step at all: the first cache still tells the shapes
        step = cell_back([*reaching, "caches[0][0]"], [*carried.values(), steps[0]])
        dxt = step.pop("dxt")
        dx = None if dxt is None else np.zeros((*dxt.shape, 0), dxt.dtype)
        sums = {name: np.zeros_like(value) for name, value in step.items() if not name.endswith("_prev")}
    return {"dx": dx, **{f"{name}0": value for name, value in carried.items()}, **sums}
