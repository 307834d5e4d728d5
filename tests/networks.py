"""Networks of several layers for the tests: drawn at random, and run layer by layer for one example at a time."""

from types import SimpleNamespace

import numpy as np
from cells import CELLS

import cyrnn

OUTPUTS = {"softmax": cyrnn.softmax, "sigmoid": cyrnn.sigmoid, "linear": np.asarray}
BATCHES, STEPS = (1, 2, 3, 7, 20), (1, 2, 5, 11, 40)


def leaves(nested):
    """The arrays of nested lists, tuples and dicts, in order."""
    if isinstance(nested, dict):
        nested = list(nested.values())
    if isinstance(nested, (list, tuple)):
        return [array for entry in nested for array in leaves(entry)]
    return [nested]


def changed(nested, how):
    """The same nesting with `how` of each array."""
    if isinstance(nested, dict):
        return {name: how(value) for name, value in nested.items()}
    if isinstance(nested, (list, tuple)):
        return type(nested)(changed(entry, how) for entry in nested)
    return how(nested)


def recurrent(cell, n_x, n_a, rng):
    """Recurrent parameters alone, biases too at random."""
    p = cell.initialize(n_x, n_a, 1, rng)
    return {name: p[name] + 0.3 * rng.standard_normal(p[name].shape) for name in cell.inputs}


def per_direction(q, make):
    """What `make(cell, n_a)` gives for each layer and direction, nested as states are."""
    each = list(zip(q.cells, q.sizes, q.pairs, strict=True))
    return [(make(cell, n_a), make(cell, n_a)) if pair else make(cell, n_a) for cell, n_a, pair in each]


def states_of(q, rng):
    """Random states, or gradients of states."""

    def draw(cell, n_a):
        found = tuple(rng.standard_normal((n_a, q.m)) for _ in cell.states)
        return found if cell.memory else found[0]

    return per_direction(q, draw)


def build(cells, pairs, sizes, rng, n_x=3, m=4, T_x=6, input="dense", n_y=2, shortest=None, given=True):
    """A network with its input.

    Its dtype is that of the cells.  `input` is "dense", "indices" (of one-hot columns) or "embedding".  `shortest` of
    the lengths is None without lengths.  `given` tells whether there are initial states.
    """
    q = SimpleNamespace(cells=cells, pairs=pairs, sizes=sizes, m=m, T_x=T_x, input=input, dtype=cells[0].dtype)
    q.network, q.x = [], rng.standard_normal((n_x, m, T_x))
    if input != "dense":
        q.x = rng.integers(9 if input == "embedding" else n_x, size=(m, T_x))
    if input == "embedding":
        q.network.append({"E": rng.standard_normal((n_x, 9))})
    for cell, pair, n_a in zip(cells, pairs, sizes, strict=True):
        layer = tuple(recurrent(cell, n_x, n_a, rng) for _ in range(1 + pair))
        q.network.append(layer if pair else layer[0])
        n_x = n_a * (1 + pair)
    q.n_top, q.n_y = n_x, n_y
    if n_y is not None:
        q.network.append({"Wy": rng.standard_normal((n_y, n_x)), "by": rng.standard_normal((n_y, 1))})
    q.lengths = None if shortest is None else rng.integers(shortest, T_x + 1, size=m)
    q.states = states_of(q, rng) if given else None
    q.dz = None if n_y is None else rng.standard_normal((n_y, m, T_x))
    q.da, q.dstates = rng.standard_normal((n_x, m, T_x)), states_of(q, rng)
    if q.dtype is not np.float64:
        for name in ("network", "states", "dz", "da", "dstates", *["x"] * (input == "dense")):
            setattr(q, name, changed(getattr(q, name), rounded(q.dtype)))
    return q


def rounded(dtype):
    """A function that rounds what is an array."""
    return lambda value: value if value is None else value.astype(dtype)


def draw(rng, cells=CELLS, most=12, shortest=0, layers=3, **fixed):
    """A random one; `fixed` as `build` takes it."""
    layers = int(rng.integers(1, layers + 1))
    how = {
        "n_x": int(rng.integers(1, most)), "m": int(rng.choice(BATCHES)), "T_x": int(rng.choice(STEPS)),
        "input": str(rng.choice(["dense", "dense", "indices", "embedding"])), "n_y": [None, 3, 3][rng.integers(3)],
        "shortest": [None, shortest][rng.integers(2)], "given": bool(rng.integers(2)),
    }  # fmt: skip
    chosen = [cells[rng.integers(len(cells))] for _ in range(layers)]
    pairs = fixed.pop("pairs", None)
    pairs = [bool(rng.integers(2)) for _ in range(layers)] if pairs is None else [pairs] * layers
    sizes = [int(rng.integers(1, most)) for _ in range(layers)]
    return build(chosen, pairs, sizes, rng, **(how | fixed))


def forward(q, **how):
    how |= q.cells[0].keywords()
    y, a, states, caches = cyrnn.network_forward(q.x, q.network, states=q.states, lengths=q.lengths, **how)
    return SimpleNamespace(y=y, a=a, states=states, caches=caches)


def backward(q, caches):
    gradients, dx, dstates = cyrnn.network_backward(caches, dz=q.dz, da=q.da, dstates=q.dstates)
    return SimpleNamespace(gradients=gradients, dx=dx, dstates=dstates)


def column(states, j):
    """The states of example j."""
    return changed(states, lambda v: v[:, j : j + 1])


def part(q, j):
    """Example j alone and unpadded."""
    r, length = SimpleNamespace(**vars(q)), q.T_x if q.lengths is None else int(q.lengths[j])
    r.m, r.T_x, r.lengths = 1, length, None
    r.x = q.x[..., j : j + 1, :length] if q.input == "dense" else q.x[j : j + 1, :length]
    r.dz = None if q.dz is None else q.dz[:, j : j + 1, :length]
    r.da = q.da[:, j : j + 1, :length]
    r.states, r.dstates = (None if s is None else column(s, j) for s in (q.states, q.dstates))
    return r


def by_layers(q, output="softmax"):
    """What `forward` returns for an example alone: the functions of one layer, reversed copies of their inputs."""
    network = list(q.network)
    below = network.pop(0)["E"][:, q.x] if q.input == "embedding" else q.x
    states = []
    for k, (cell, pair) in enumerate(zip(q.cells, q.pairs, strict=True)):
        found, last = [], []
        for d in range(1 + pair):
            p = network[k][d] if pair else network[k]
            zero = np.zeros((q.sizes[k], 1), q.dtype)
            begin = (zero, zero) if cell.memory else zero
            if q.states is not None:
                begin = q.states[k][d] if pair else q.states[k]
            a0, c0 = begin if isinstance(begin, tuple) else (begin, None)
            x = np.ascontiguousarray(below[..., ::-1]) if d else below
            how = {"c0": c0} if cell.memory else {}
            if not x.shape[-1]:
                found.append(np.zeros((q.sizes[k], 1, 0), q.dtype))
                last.append(begin)
                continue
            a, _, *c = cell.function("forward")(x, a0, p, output=None, **how)[: 2 + cell.memory]
            found.append(a[:, :, ::-1] if d else a)
            last.append((a[:, :, -1], c[0][:, :, -1]) if cell.memory else a[:, :, -1])
        below = np.concatenate(found)
        states.append(tuple(last) if pair else last[0])
    y = None
    if q.n_y is not None and output is not None:
        y = OUTPUTS[output](cyrnn.output_forward(np.ascontiguousarray(below), network[-1]))
    return SimpleNamespace(y=y, a=below, states=states)
