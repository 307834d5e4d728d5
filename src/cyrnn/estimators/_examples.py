"""What a training computes: batches of sequences, predictions, losses and gradients.

Nothing here is of scikit-learn; other processes run these functions too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import Array
from ..recurrent.activations import softmax
from ..recurrent.network import network_backward, network_forward
from ..training.losses import cross_entropy, mean_squared_error
from ..training.output_layer import output_backward, output_forward

Places = NDArray[np.intp]

STEPS = 1 << 15  # of a batch that is predicted: examples times steps, padding included


@dataclass(slots=True)
class Sequences:
    """Sequences one after another, from which batches are cut."""

    values: NDArray[Any]  # (steps of all, n_x) of the network's dtype, or (steps of all,) of numpy.intp
    lengths: Places
    starts: Places
    of_one_length: Places | None  # arange(T_x) if all have as many steps

    @classmethod
    def of(cls, values: NDArray[Any], lengths: Any) -> "Sequences":
        lengths = np.asarray(lengths, np.intp)
        one = len(lengths) > 0 and bool((lengths == lengths[0]).all())
        return cls(values, lengths, np.cumsum(lengths) - lengths, np.arange(lengths[0]) if one else None)

    def __len__(self) -> int:
        return len(self.lengths)

    def steps(self, which: Places) -> tuple[Places, Places | None]:
        """Return the places (m, T_x) of a batch's steps, and the lengths if they differ; past them it is any place."""
        if self.of_one_length is not None:
            return self.starts.take(which)[:, None] + self.of_one_length, None
        lengths = self.lengths[which]
        most = lengths.max()
        places = self.starts[which][:, None] + np.arange(most)
        if (lengths == most).all():
            return places, None
        return np.minimum(places, len(self.values) - 1), lengths

    def subset(self, which: Places) -> tuple["Sequences", Places]:
        """Return some of the sequences, and the places of their steps."""
        places, lengths = self.steps(which)
        places = places.ravel() if lengths is None else places[np.arange(places.shape[1]) < lengths[:, None]]
        return Sequences.of(self.values[places], self.lengths[which]), places

    def parts(self) -> Iterator[Places]:
        """Yield all examples in parts of similar lengths, each of at most `STEPS` steps or one example."""
        order = np.argsort(self.lengths, kind="stable")[::-1]
        while len(order):
            count = max(1, STEPS // int(self.lengths[order[0]]))
            yield order[:count]
            order = order[count:]


def _batch(values: NDArray[Any], places: Places) -> NDArray[Any]:
    """Return the steps of a batch: (n, m, T_x), or (m, T_x) of numbers without a width."""
    found = values.take(places, axis=0)  # several times faster than values[places]
    return np.ascontiguousarray(found.transpose(2, 0, 1)) if found.ndim == 3 else found


@dataclass(slots=True)
class Examples:
    """Sequences with what is to be predicted of them, at every step or once."""

    sequences: Sequences
    targets: NDArray[Any]  # of the steps of all, or of the sequences: (number,) classes or (number, n_y) values
    weights: Array | None  # (number,)
    each_step: bool

    def subset(self, which: Places) -> "Examples":
        """Return some of the examples."""
        sequences, places = self.sequences.subset(which)
        places = places if self.each_step else which
        weights = None if self.weights is None else self.weights[places]
        return Examples(sequences, self.targets[places], weights, self.each_step)

    def of_type(self, dtype: Any) -> "Examples":
        """Return the same with numbers of the network's dtype."""

        def cast(array: Any) -> Any:
            return array if array is None or array.dtype.kind != "f" else array.astype(dtype, copy=False)

        sequences = replace(self.sequences, values=cast(self.sequences.values))
        return Examples(sequences, cast(self.targets), cast(self.weights), self.each_step)

    def itself(self) -> "Examples":
        return self

    @property
    def classes(self) -> bool:
        """Whether the targets are classes."""
        return self.targets.ndim == 1

    def loss(self, y: Array, targets: Any, lengths: Any, weights: Any) -> tuple[float, Array]:
        """Return the loss of predictions, and its gradient."""
        if self.classes:
            return cross_entropy(y, targets, lengths, weights=weights)
        return mean_squared_error(y, targets, lengths, weights=weights)


def _dtype(network: Sequence[Any]) -> type[np.floating[Any]]:
    """Return the type of a network's numbers."""
    found: type[np.floating[Any]] = network[-1]["Wy"].dtype.type
    return found


def _last(network: Sequence[Any], states: list[Any]) -> list[Array]:
    """Return the top layer's hidden states after the last step, one of each direction."""
    directions = states[-1] if isinstance(network[-2], tuple) else [states[-1]]
    return [state[0] if isinstance(state, tuple) else state for state in directions]


def _joined(states: list[Array]) -> Array:
    return states[0] if len(states) == 1 else np.concatenate(states)


def _d_last(network: Sequence[Any], states: list[Any], da: Array) -> list[Any]:
    """Return the gradient of these hidden states, nested as the states are."""
    both = isinstance(network[-2], tuple)
    n_a = len(da) // (2 if both else 1)
    memory = isinstance(states[-1][0] if both else states[-1], tuple)
    nested = [(part, None) if memory else part for part in (da[:n_a], da[n_a:])]
    return [*[None] * (len(states) - 1), nested if both else nested[0]]


def outputs(network: Sequence[Any], examples: Examples) -> Array:
    """Return what is predicted: logits or values, (n_y, number of targets)."""
    sequences = examples.sequences
    n_y, dtype = len(network[-1]["by"]), _dtype(network)
    found = np.empty((n_y, len(sequences.values) if examples.each_step else len(sequences)), dtype)
    for which in sequences.parts():
        places, lengths = sequences.steps(which)
        x = _batch(sequences.values, places)
        if examples.each_step:
            z, *_ = network_forward(x, network, lengths=lengths, output="linear", cache=False, dtype=dtype)
            inside = np.ones(places.shape, bool) if lengths is None else np.arange(places.shape[1]) < lengths[:, None]
            found[:, places[inside]] = z[:, inside]
        else:
            _, _, states, _ = network_forward(x, network, lengths=lengths, output=None, cache=False, dtype=dtype)
            found[:, which] = output_forward(_joined(_last(network, states)), network[-1])
    return found


def loss_of(network: Sequence[Any], examples: Examples, z: Array) -> float:
    """Return the mean loss of examples whose `outputs` are z."""
    y = softmax(z) if examples.classes else z
    targets = examples.targets if examples.classes else examples.targets.T
    return examples.loss(y, targets, None, examples.weights)[0]


def gradient_of(examples: Examples, network: Sequence[Any], which: Places) -> tuple[float, list[Any], float] | None:
    """Return the mean loss of a batch, its gradients, and the sum of the weights; None if that is zero."""
    places, lengths = examples.sequences.steps(which)
    x = _batch(examples.sequences.values, places)
    at = places if examples.each_step else which
    targets, weights, total, dtype = examples.targets[at], None, float(len(which)), _dtype(network)
    if examples.weights is not None:
        weights = examples.weights[at]
        inside = weights
        if examples.each_step and lengths is not None:
            inside = weights[np.arange(places.shape[1]) < lengths[:, None]]
        total = float(inside.sum())
        if total == 0.0:
            return None
    elif examples.each_step:
        total = float(places.size if lengths is None else lengths.sum())
    if not examples.classes:
        targets = np.moveaxis(targets, -1, 0)
    if examples.each_step:
        output = "softmax" if examples.classes else "linear"
        y, _, _, caches = network_forward(x, network, lengths=lengths, output=output, dtype=dtype)
        loss, dz = examples.loss(y, targets, lengths, weights)
        assert caches is not None
        return loss, network_backward(caches, dz=dz)[0], total
    _, _, states, caches = network_forward(x, network, lengths=lengths, output=None, dtype=dtype)
    assert caches is not None
    last = _joined(_last(network, states))
    z = output_forward(last, network[-1])
    loss, dz = examples.loss(softmax(z) if examples.classes else z, targets, None, weights)
    top = output_backward(dz, last, network[-1])
    gradients, _, _ = network_backward(caches, dstates=_d_last(network, states, top["da"]))
    gradients[-1] = {"dWy": top["dWy"], "dby": top["dby"]}
    return loss, gradients, total


def total_gradient(parts: list[tuple[float, list[Any], float] | None]) -> tuple[float, list[Any], float] | None:
    """Return the mean loss and gradients of a batch from those of its parts, summed in their order."""
    found = [part for part in parts if part is not None]
    if len(found) < 2:
        return found[0] if found else None
    total = sum(weight for _, _, weight in found)
    shares = [weight / total for _, _, weight in found]

    def mean(nested: Any) -> Any:
        first = nested[0]
        if isinstance(first, dict):
            return {key: mean([each[key] for each in nested]) for key in first}
        if isinstance(first, (list, tuple)):
            return type(first)(mean(list(each)) for each in zip(*nested, strict=True))
        return sum(share * each for share, each in zip(shares, nested, strict=True))

    loss = sum(share * loss for share, (loss, _, _) in zip(shares, found, strict=True))
    return loss, mean([gradients for _, gradients, _ in found]), total
