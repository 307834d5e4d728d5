"""Pictures of a network: its gates over time, and its training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import _checks
from .recurrent.caches import CacheList, PaddedTuple
from .recurrent.spec import GRU, LSTM, RNN

__all__ = ["plot_gates", "plot_history"]

# What a step of the caches holds: its panel's title, its place in the tuple, and whether it is a gate, from 0 to 1.
PANELS = {
    RNN.name: [("hidden state a", 0, False)],
    LSTM.name: [
        ("forget gate", 4, True), ("input gate", 5, True), ("output gate", 7, True),
        ("candidate", 6, False), ("cell state c", 1, False), ("hidden state a", 0, False),
    ],
    GRU.name: [
        ("update gate", 3, True), ("reset gate", 4, True), ("candidate", 2, False), ("hidden state a", 0, False),
    ],
}  # fmt: skip
CELL_OF_LENGTH = {4: RNN.name, 10: LSTM.name, 8: GRU.name}  # of a step's tuple
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, for colour-blind readers


def _figure(width: float, height: float) -> Any:
    """Return an empty figure, which no window shows."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the package matplotlib is needed for this: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def plot_gates(caches: Any, example: int = 0, *, labels: Sequence[str] | None = None) -> Any:
    """Draw the gates and states of one example over time, a row for each unit.

    Gates are drawn from 0 to 1; candidates and states from minus to plus their largest magnitude, white at 0.
    Needs the package matplotlib.

    Parameters
    ----------
    caches : tuple
        ``(steps, x)``, from `rnn_forward`, `lstm_forward` or `gru_forward`.  With lengths the steps of the example
        alone are drawn.
    example : int
        Which example of the batch, from 0 on.
    labels : sequence of str, optional
        A label for each step, its letter for instance; numbers by default.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each gate, candidate and state; ``figure.savefig(path)`` writes it.

    Raises
    ------
    TypeError, ValueError, IndexError
        If `caches` are not those of a sequence, or empty; if there is no such example; if there are not as many labels
        as steps.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = cyrnn.initialize_parameters("lstm", n_x=3, n_a=8, n_y=2, rng=0)
    >>> a, y, c, caches = cyrnn.lstm_forward(np.ones((3, 4, 20)), None, p)
    >>> figure = cyrnn.plot_gates(caches, example=1)
    >>> [axis.get_title() for axis in figure.axes[:3]]
    ['forget gate', 'input gate', 'output gate']
    """
    steps = caches[0] if isinstance(caches, tuple) and len(caches) == 2 else None
    if not isinstance(steps, (CacheList, list)):
        raise TypeError(
            "caches: expected (steps, x) from rnn_forward, lstm_forward or gru_forward, got "
            f"{type(caches).__name__}; of a network run a layer by itself"
        )
    if not steps or len(steps[0]) not in CELL_OF_LENGTH:
        raise ValueError("caches: expected the steps of an RNN, an LSTM or a GRU, got none")
    if isinstance(example, bool) or not isinstance(example, (int, np.integer)):
        raise TypeError(f"example: expected a whole number, got {example!r}")
    m = steps[0][0].shape[1]
    if not 0 <= example < m:
        raise IndexError(f"example: expected a number from 0 to {m - 1}, got {example}")
    own = [step for step in steps if not isinstance(step, PaddedTuple) or step.active[example]]
    if not own:
        raise ValueError(f"example: expected one with at least one step, got {example}, whose length is 0")
    if labels is not None and len(labels) != len(own):
        raise ValueError(f"labels: expected one for each of the {len(own)} steps, got {len(labels)}")

    panels = PANELS[CELL_OF_LENGTH[len(steps[0])]]
    n_a = len(steps[0][0])
    each = 0.7 + min(0.15 * n_a, 2.0)
    figure = _figure(min(4 + 0.15 * len(own), 14), each * len(panels) + 0.4)
    axes = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
    for axis, (title, place, gate) in zip(axes, panels, strict=True):
        values = np.stack([step[place][:, example] for step in own], axis=1)
        most = float(np.max(np.abs(values))) or 1.0
        shades = {"cmap": "cividis", "vmin": 0, "vmax": 1} if gate else {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
        shown = axis.imshow(values, aspect="auto", interpolation="nearest", **shades)
        axis.set(title=title, ylabel="unit")
        figure.colorbar(shown, ax=axis, pad=0.01)
    axes[-1].set_xlabel("step")
    if labels is not None:
        axes[-1].set_xticks(range(len(own)), list(labels))
    return figure


def plot_history(history: Any, *, xlabel: str = "epoch", ylabel: str = "loss (nats)") -> Any:
    """Draw what was recorded during training, a line for each quantity.

    Needs the package matplotlib.

    Parameters
    ----------
    history : mapping from str to sequence of float, or sequence of float
        The values of each quantity, by the name that the legend shows: ``{"training": [...], "validation": [...]}``;
        or one sequence.
    xlabel, ylabel : str
        What the axes show, with its unit.

    Returns
    -------
    matplotlib.figure.Figure
        One panel; ``figure.savefig(path)`` writes it.

    Raises
    ------
    TypeError, ValueError
        If `history` holds anything but sequences of real numbers.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import cyrnn
    >>> figure = cyrnn.plot_history({"training": [2.0, 1.1, 0.7], "validation": [2.1, 1.4, 1.3]})
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['training', 'validation']
    """
    named = isinstance(history, Mapping)
    lines = dict(history) if named else {"": history}
    arrays = {name: _checks.real(f"history[{name!r}]" if named else "history", v) for name, v in lines.items()}
    for name, values in arrays.items():
        if values.ndim != 1:
            where = f"history[{name!r}]" if named else "history"
            raise ValueError(f"{where}: expected a sequence of numbers, got an array of shape {values.shape}")
    figure = _figure(6.4, 4)
    axis = figure.subplots()
    for k, (name, values) in enumerate(arrays.items()):
        style = {"color": COLOURS[k % len(COLOURS)], "linestyle": ("-", "--", ":")[k // len(COLOURS) % 3]}
        axis.plot(np.arange(1, len(values) + 1), values, label=name or None, **style)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    if named and arrays:
        axis.legend(frameon=False)
    return figure
