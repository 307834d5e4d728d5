"""ONNX models made at random around one or two recurrent operators, and what `import_onnx` makes of them.

A model is refused, or its parameters compute what ONNX's reference evaluator computes for the model.  Most sizes are
small, so that axes of different meaning have the same one.

    python tests/onnx_models.py --models 100000 --seed 1
"""

import argparse
import collections
import itertools
import pathlib
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import cyrnn

OPSET = 14
OWN = "of.the.model"  # a domain whose functions double, whatever their names


class Model:
    """A graph that grows; of its tensors the shapes are known."""

    def __init__(self, rng):
        self.rng, self.nodes, self.shapes, self.constants = rng, [], {}, {}
        self.inputs = {}  # to the sizes, of which those that are text are open
        self.words = 0  # how many an embedding has, of which the first input has the indices
        self.used, self.evaluated, self.exact = [], [], True

    def chance(self, probability):
        return self.rng.random() < probability

    def one_of(self, *values):
        return values[self.rng.integers(len(values))]

    def constant(self, value):
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def integers(self, values):
        return self.constant(np.array(values, np.int64))

    def input(self, shape):
        """An input of the model, of which some sizes are open."""
        name = f"i{len(self.inputs)}"
        self.inputs[name] = [f"{name}_{k}" if self.chance(0.4) else n for k, n in enumerate(shape)]
        self.shapes[name] = tuple(shape)
        return name

    def add(self, op, inputs, shapes, **attributes):
        """Add a node; return the name of its first output."""
        names = [f"t{len(self.nodes)}_{k}" for k in range(len(shapes))]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        self.shapes.update(zip(names, map(tuple, shapes), strict=True))
        self.used.append(op)
        return names[0]

    # Nodes of one input, most of which keep its values

    def moved(self, name, most):
        for _ in range(self.one_of(0, 0, *range(most + 1))):
            move = self.one_of(*MOVES)
            name = getattr(self, move)(name) or name
        return name

    def transpose(self, name):
        order = [int(k) for k in self.rng.permutation(len(self.shapes[name]))]
        return self.transposed(name, order) if order else None

    def transposed(self, name, order):
        return self.add("Transpose", [name], [[self.shapes[name][k] for k in order]], perm=order)

    def squeeze(self, name):
        ones = [k for k, n in enumerate(self.shapes[name]) if n == 1]
        if ones:
            k = self.one_of(*ones)
            return self.add("Squeeze", [name, self.integers([k])], [np.delete(self.shapes[name], k).tolist()])
        return self.add("Squeeze", [name], [self.shapes[name]])

    def unsqueeze(self, name):
        k = int(self.rng.integers(len(self.shapes[name]) + 1))
        return self.add("Unsqueeze", [name, self.integers([k])], [np.insert(self.shapes[name], k, 1).tolist()])

    def identity(self, name):
        return self.add("Identity", [name], [self.shapes[name]])

    def reshape(self, name):
        """Merge neighbours, restore an earlier shape, or order the sizes anew, which mixes axes."""
        shape = list(self.shapes[name])
        kind = self.rng.integers(3)
        if kind == 0 and len(shape) > 1:
            k = int(self.rng.integers(len(shape) - 1))
            shape[k : k + 2] = [shape[k] * shape[k + 1]]
        elif kind == 1:
            same = [s for s in self.shapes.values() if np.prod(s) == np.prod(shape)]
            shape = list(self.one_of(*same))
        else:
            shape = [shape[k] for k in self.rng.permutation(len(shape))]
        return self.reshaped(name, shape)

    def reshaped(self, name, shape):
        """Reshape by numbers, by 0 and -1, or by a shape that the graph computes."""
        before, numbers = self.shapes[name], list(shape)
        if self.chance(0.4) and numbers:
            numbers[self.rng.integers(len(numbers))] = -1
        for k, n in enumerate(numbers):
            if k < len(before) and n == before[k] and self.chance(0.3):
                numbers[k] = 0
        if self.chance(0.4) and numbers:
            parts = [self.one_of(self.size_of(n), self.integers([n])) for n in numbers]
            return self.add("Reshape", [name, self.add("Concat", parts, [[len(parts)]], axis=0)], [shape])
        return self.add("Reshape", [name, self.integers(numbers)], [shape])

    def size_of(self, n):
        """A vector of one number, that of an axis of any tensor if there is one of this size."""
        found = [(name, k) for name, shape in self.shapes.items() for k, size in enumerate(shape) if size == n]
        if not found:
            return self.integers([n])
        name, k = self.one_of(*found)
        shape = self.add("Shape", [name], [[len(self.shapes[name])]])
        if self.chance(0.5):
            return self.add("Slice", [shape, self.integers([k]), self.integers([k + 1])], [[1]])
        scalar = self.add("Gather", [shape, self.constant(np.int64(k))], [[]], axis=0)
        return self.add("Unsqueeze", [scalar, self.integers([0])], [[1]])

    def flatten(self, name):
        shape = self.shapes[name]
        k = int(self.rng.integers(len(shape) + 1))
        return self.add("Flatten", [name], [[int(np.prod(shape[:k])), int(np.prod(shape[k:]))]], axis=k)

    def cast(self, name):
        to = self.one_of(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32)
        self.exact &= to == TensorProto.DOUBLE
        name = self.add("Cast", [name], [self.shapes[name]], to=to)
        return self.add("Cast", [name], [self.shapes[name]], to=TensorProto.DOUBLE)

    def gather(self, name):
        shape = list(self.shapes[name])
        if not shape:
            return None
        k = int(self.rng.integers(len(shape)))
        index = self.rng.integers(-shape[k], shape[k], size=self.one_of((), (), (1,), (2,)))
        shape[k : k + 1] = index.shape
        return self.add("Gather", [name, self.constant(index)], [shape], axis=k)

    def slice(self, name):
        shape = list(self.shapes[name])
        if not shape:
            return None
        k = int(self.rng.integers(len(shape)))
        start, end, step = self.one_of((0, 2**31 - 1, 1), (0, shape[k], 1), (-1, 2**31 - 1, 1), (0, 1, 1), (-1, -9, -1))
        shape[k] = len(range(shape[k])[start:end:step])
        return self.add("Slice", [name, *(self.integers([n]) for n in (start, end, k, step))], [shape])

    def expand(self, name):
        shape = [2 if n == 1 and self.chance(0.2) else n for n in self.shapes[name]]
        return self.add("Expand", [name, self.integers(shape)], [shape])

    def other(self, name):
        """Something that is no move, though some look like one or change nothing."""
        op, shape = self.one_of("Relu", "Neg", "function", "If", "Mul", "Softmax"), self.shapes[name]
        if op == "function":
            return self.add(self.one_of("Identity", "Transpose", "Cast"), [name], [shape], domain=OWN)
        if op == "If":
            branches = [
                helper.make_graph(
                    [helper.make_node("Neg" if k else "Identity", [name], [f"b{len(self.nodes)}_{k}"])], "branch", [],
                    [helper.make_tensor_value_info(f"b{len(self.nodes)}_{k}", TensorProto.DOUBLE, None)],
                )
                for k in range(2)
            ]  # fmt: skip
            condition = self.constant(np.array(self.chance(0.5)))
            return self.add("If", [condition], [shape], then_branch=branches[0], else_branch=branches[1])
        if op == "Softmax" and not shape:
            return None
        return self.add(op, [name, self.constant(self.one_of(1.0, 2.0))] if op == "Mul" else [name], [shape])

    # The network

    def towards(self, name, shape, free=()):
        """Give a tensor a shape, the sizes of some axes of which are free, by the means that fit."""
        have = list(self.shapes[name])
        wanted = [n for k, n in enumerate(shape) if k not in free]
        orders = [
            order for order in itertools.permutations(range(len(have)))
            if len(have) == len(shape) and all(k in free or have[order[k]] == n for k, n in enumerate(shape))
        ]  # fmt: skip
        if orders and self.chance(0.9):
            return self.transposed(name, list(self.one_of(*orders)))
        rest = int(np.prod(have)) // int(np.prod(wanted))
        if rest * int(np.prod(wanted)) != int(np.prod(have)) or (not free and rest != 1):
            return None
        sizes = iter([1] * (len(free) - 1) + [rest])
        return self.reshaped(name, [next(sizes) if k in free else n for k, n in enumerate(shape)])

    def state(self, shape, axis):
        """An initial state, or the name of none; its directions are this axis."""
        kind = self.rng.integers(10)
        if kind == 0:
            return self.constant(np.zeros(shape))
        if kind == 1:
            return self.constant(np.where(np.arange(shape[2]) == shape[2] - 1, 1.0, np.zeros((*shape[:2], 1))))
        if kind == 2:
            parts = [self.size_of(n) for n in shape]
            made = self.add("Concat", parts, [[3]], axis=0)
            fill = numpy_helper.from_array(np.array([self.one_of(0.0, 0.0, 1.0)]))
            return self.add("ConstantOfShape", [made], [shape], value=fill)
        if kind in (3, 4):
            sizes = [shape[k] for k in self.rng.permutation(3)]
            name = self.moved(self.input([n for n in sizes if n != 1 or self.chance(0.7)]), 2)
            return self.towards(name, shape) or ""
        if kind == 5 and shape[axis] == 2:
            one = [1 if k == axis else n for k, n in enumerate(shape)]
            return self.add("Concat", [self.input(one), self.input(one)], [shape], axis=self.one_of(axis, axis, 1))
        return ""

    def layer(self, X, batch_first):
        """Add a recurrent operator; return what is compared, and its results."""
        m, T_x = self.shapes[X][:2] if batch_first else self.shapes[X][1::-1]
        n_x, n_a = self.shapes[X][2], int(self.rng.integers(1, 4))
        cell = self.one_of("rnn", "lstm", "gru")
        gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
        direction = self.one_of(*5 * ["forward"], *4 * ["bidirectional"], "reverse")
        n = 2 if direction == "bidirectional" else 1
        shapes = [(n, gates * n_a, n_x), (n, gates * n_a, n_a), (n, 2 * gates * n_a)]
        weights = [self.constant(self.rng.standard_normal(shape)) for shape in shapes]
        if self.chance(0.3):  # weights that the graph computes
            k = int(self.rng.integers(2))
            weights[k] = self.folded(weights[k])
        shape, axis = ((m, n, n_a), 1) if batch_first else ((n, m, n_a), 0)
        states = [self.state(shape, axis) for _ in range(2 if cell == "lstm" else 1)]
        made = [(m, T_x, n, n_a) if batch_first else (T_x, n, m, n_a), shape, shape][: len(states) + 1]
        attributes = {"linear_before_reset": 1} if cell == "gru" and self.chance(0.6) else {}
        attributes |= {"direction": direction} if n == 2 or self.chance(0.3) or direction == "reverse" else {}
        attributes |= {"layout": 1} if batch_first else {}
        Y = self.add(cell.upper(), [X, *weights, "", *states], made, hidden_size=n_a, **attributes)
        self.used += [direction, f"reset {attributes.get('linear_before_reset', 0)}" if cell == "gru" else cell]
        return {"states": states, "shape": shape, "axis": axis}, [Y[:-1] + str(k) for k in range(len(made))]

    def between(self, Y, before, after):
        """What the next layer reads: the directions side by side, or something that looks like it."""
        shape = self.shapes[Y]
        if self.chance(0.15):
            return self.towards(self.moved(Y, 2), (*shape[:2], shape[3]), free=(0, 1, 2))
        order = [0, 1, 2, 3] if before else [0, 2, 1, 3]
        if before != after or self.chance(0.1):
            order[:2] = order[1::-1]
        if self.chance(0.1):
            order[2:] = order[:1:-1]
        name = self.transposed(Y, order)
        shape = self.shapes[name]
        return self.moved(self.reshaped(name, [*shape[:2], shape[2] * shape[3]]), self.one_of(0, 0, 0, 1))

    def network(self):
        """Add everything; return the parts that are compared, by name."""
        T_x, m, n_x, n_y = (int(n) for n in self.rng.integers(1, 5, 4))
        batch_first = self.chance(0.2)
        first = (m, T_x) if batch_first else (T_x, m)
        if self.chance(0.3):  # an embedding
            self.words = 5
            sizes = [first[k] for k in self.rng.permutation(2)]
            x = self.input(sizes)
            index = self.towards(self.moved(x, self.one_of(0, 0, 1)), first)
            if index is None:
                return None
            E = self.constant(self.rng.standard_normal((self.words, n_x)))
            self.used.append("embedding")
            X = self.moved(self.add("Gather", [E, index], [(*first, n_x)], axis=0), self.one_of(0, 0, 1))
        else:
            sizes = [(T_x, m, n_x)[k] for k in self.rng.permutation(3)]
            x = self.input([n for n in sizes if n != 1 or self.chance(0.7)])
            X = self.towards(self.moved(x, 2), (*first, n_x), free=(0, 1))
        if X is None or len(self.shapes[X]) != 3:
            return None
        parts = {"x": x, "X": X, "batch_first": batch_first, "layers": [], "outputs": []}
        layer, results = self.layer(X, batch_first)
        parts["layers"].append(layer)
        if self.chance(0.5):
            after = self.chance(0.2)
            below = self.between(results[0], batch_first, after)
            if below is None or len(self.shapes[below]) != 3:
                return None
            inner = self.one_of(*results[1:])
            joined = results[1]
            layer, results = self.layer(below, after)
            self.used.append("two layers")
            parts["layers"].append(layer)
            parts["outputs"] += [inner] if self.chance(0.1) else []
            shapes = [self.shapes[joined], self.shapes[results[1]]]
            if batch_first == after and shapes[0][2] == shapes[1][2] and self.chance(0.5):
                axis = layer["axis"]
                whole = list(shapes[0])
                whole[axis] += shapes[1][axis]
                joined = self.add("Concat", [joined, results[1]], [whole], axis=axis)
                self.used.append("joined")
                results = [self.one_of(self.gather(joined), joined)] if self.chance(0.7) else results
        outputs = parts["outputs"]
        n_a = layer["shape"][2]
        both = layer["shape"][layer["axis"]] == 2
        name = self.one_of(*results, results[0])
        if both and len(self.shapes[name]) == 4 and self.chance(0.7):
            name = self.between(name, self.shapes[name][1] != 2 or layer["axis"] == 1, layer["axis"] == 1)
            if name is None:
                return None
            n_a = 2 * n_a
        name = self.moved(name, 2)
        outputs += [name] if self.chance(0.1) else []
        if self.chance(0.8):
            name = self.linear(name, n_a, n_y, outputs)
        parts["outputs"] = list(dict.fromkeys([*outputs, name]))
        return parts

    def folded(self, name):
        """Put a constant together again from its parts."""
        value = self.constants[name]
        middle = value.shape[1] // 2
        parts = [self.constant(np.ascontiguousarray(part.T)) for part in (value[0, :middle], value[0, middle:])]
        parts = [self.add("Transpose", [part], [self.constants[part].shape[::-1]], perm=[1, 0]) for part in parts]
        whole = self.add("Concat", parts, [value.shape[1:]], axis=0)
        return self.add("Unsqueeze", [whole, self.integers([0])], [value.shape])

    def linear(self, name, n_a, n_y, outputs):
        """Add a linear layer and a softmax, as far as the sizes fit, over whatever axis has the size."""
        shape = self.shapes[name]
        fitting = [k for k, n in enumerate(shape) if n == n_a]
        if not fitting:
            return name
        last = len(shape) - 1
        if last not in fitting or self.chance(0.1):
            k = self.one_of(*fitting)
            name = self.transposed(name, [*(j for j in range(last + 1) if j != k), k])
        shape = list(self.shapes[name])
        W, b = self.rng.standard_normal((n_a, n_y)), self.rng.standard_normal(n_y)
        if len(shape) == 2 and self.chance(0.5):
            turned = self.chance(0.5)
            more = [self.constant(b)] if self.chance(0.7) else []
            weights = self.constant(W.T.copy() if turned else W)
            name = self.add("Gemm", [name, weights, *more], [[shape[0], n_y]], transB=int(turned))
        else:
            name = self.add("MatMul", [name, self.constant(W)], [[*shape[:-1], n_y]])
        outputs += [name] if self.chance(0.1) else []
        name = self.moved(name, 1)
        if self.shapes[name][-1:] == (n_y,) and self.chance(0.6):
            b = self.constant(b)
            name = self.add("Add", [name, b] if self.chance(0.5) else [b, name], [self.shapes[name]])
            name = self.moved(name, 1)
        if self.shapes[name] and self.chance(0.7):
            axis = -1 if self.chance(0.7) else int(self.rng.integers(len(self.shapes[name])))
            op, attributes = ("Softmax", {"axis": axis}) if self.chance(0.7) else ("Sigmoid", {})
            name = self.moved(self.add(op, [name], [self.shapes[name]], **attributes), 1)
        return name

    def proto(self, outputs):
        """The model with these outputs."""
        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        kinds = [TensorProto.INT64 if k == 0 and self.words else TensorProto.DOUBLE for k in range(len(self.inputs))]
        inputs = [helper.make_tensor_value_info(*i) for i in zip(self.inputs, kinds, self.inputs.values(), strict=True)]
        made = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [None] * len(self.shapes[n])) for n in outputs]
        graph = helper.make_graph(self.nodes, "random", inputs, made, tensors)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(OWN, 1)]
        double = helper.make_node("Add", ["v", "v"], ["w"])
        functions = [helper.make_function(OWN, name, ["v"], ["w"], [double], opsets[:1]) for name in
                     ("Identity", "Transpose", "Cast")]  # fmt: skip
        return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


MOVES = 4 * ["transpose", "reshape", "squeeze", "unsqueeze"] + 2 * ["identity", "gather", "slice", "cast", "flatten"]
MOVES += ["expand", "other"]


def without_ones(array):
    return array.reshape([n for n in array.shape if n != 1])


def merges(shape, wanted):
    """Tell whether a shape becomes another by merging neighbours alone."""
    sizes = [n for n in shape if n != 1]
    for n in wanted:
        product = 1
        while product < n and sizes:
            product *= sizes.pop(0)
        if product != n:
            return False
    return not sizes


def is_moved(array, got, tolerance):
    """Tell whether an array is another one with its axes in another order."""
    got = without_ones(got)
    orders = [array.transpose(order) for order in itertools.permutations(range(array.ndim))]
    return any(one.shape == got.shape and np.allclose(one, got, 0, tolerance) for one in map(without_ones, orders))


def parts_of(array):
    """Yield an array, then all ranges of it along each axis."""
    yield array
    ranges = [[slice(*ends) for ends in itertools.combinations(range(n + 1), 2)] for n in array.shape]
    yield from (array[part] for part in itertools.product(*ranges))


def is_part(value, got, tolerance):
    """Tell whether an array is a result of cyrnn, or a range of its last axis, with axes in another order or merged."""
    for start, end in itertools.combinations(range(value.shape[-1] + 1), 2):
        part = value[..., start:end]
        for order in itertools.permutations(range(value.ndim)):
            one = part.transpose(order)
            if merges(one.shape, got.shape) and np.allclose(one.reshape(got.shape), got, 0, tolerance):
                return True
    return False


def evaluate(model, parts, rng, sizes):
    """Run a model by the reference evaluator, with the open sizes as given; return inputs and all that is compared."""
    feeds = {
        name: 1.5 * rng.standard_normal([sizes.get(n, n) for n in shape]) for name, shape in model.inputs.items()
    }  # fmt: skip
    if model.words:
        feeds[parts["x"]] = rng.integers(0, model.words, feeds[parts["x"]].shape)
    states = [name for layer in parts["layers"] for name in layer["states"] if name]
    wanted = [parts["X"], *states, *parts["outputs"]]
    wanted = [name for name in dict.fromkeys(wanted) if name not in model.constants]
    with np.errstate(all="ignore"):
        got = ReferenceEvaluator(model.proto(wanted)).run(wanted, feeds)
    got = dict(zip(wanted, got, strict=True)) | model.constants
    m = got[parts["X"]].shape[0 if parts["batch_first"] else 1]
    for layer in parts["layers"]:
        shape = list(layer["shape"])
        shape[1 - layer["axis"]] = m
        if any(got[name].shape != tuple(shape) for name in layer["states"] if name):
            raise ValueError("an initial state of another shape, which the evaluator broadcasts")
    return feeds, got


def as_input(net, X, x, tolerance):
    """What cyrnn reads for X (T_x, m, n_x), None if that is not the input x with its axes moved."""
    if "E" not in net[0]:
        return X.transpose(2, 1, 0) if is_moved(x, X, tolerance) else None
    E = net[0]["E"].T
    orders = [x.transpose(order) for order in itertools.permutations(range(x.ndim))]
    rows = [one.reshape(X.shape[:2]) for one in orders if merges(one.shape, X.shape[:2])]
    found = [one for one in rows if E[one].shape == X.shape and np.allclose(E[one], X, 0, tolerance)]
    return found[0].T if found else None


def compare(model, parts, p, feeds, got):
    """Compare parameters with what a model computed; return what is wrong."""
    tolerance = 1e-12 if model.exact else 1e-5
    head = [key for key in ("Wya", "Wy") if key in p]  # none of a list
    net = p
    if isinstance(p, dict):
        net = [{key: value for key, value in p.items() if key not in (*head, "by")}]
        net += [{"Wy": p[head[0]], "by": p["by"]}] if head else []
    X = got[parts["X"]]
    X = X.transpose(1, 0, 2) if parts["batch_first"] else X
    x = as_input(net, X, feeds[parts["x"]], tolerance)
    if x is None:
        return "X is not the input"
    others = [value for key, value in feeds.items() if key != parts["x"]]
    states = []
    for layer in parts["layers"]:
        n, both = layer["shape"][2], layer["shape"][layer["axis"]]
        found = []
        for name in layer["states"]:
            state = np.moveaxis(got[name], layer["axis"], 0) if name else np.zeros((both, X.shape[1], n))
            inputs = [part for value in others for part in parts_of(value)]
            if not all(
                not np.any(values) or any(is_moved(part, values, tolerance) for part in inputs)
                for values in ([state] if any(is_moved(part, state, tolerance) for part in inputs) else state[:, None])
            ):
                return "an initial state is no input"
            found.append(state.transpose(0, 2, 1))
        each = [tuple(one) if len(one) == 2 else one[0] for one in zip(*found, strict=True)]
        states.append(each[0] if both == 1 else tuple(each))
    candidates = []
    for output in ("softmax", "sigmoid", "linear"):
        y, a, last, _ = cyrnn.network_forward(x, net, states=states, output=output)
        candidates += [] if y is None else [y]
    both = parts["layers"][-1]["shape"][parts["layers"][-1]["axis"]]
    candidates.append(a.reshape(both, -1, *a.shape[1:]))
    ends = []
    for layer, end in zip(parts["layers"], last, strict=True):
        each = [end] if layer["shape"][layer["axis"]] == 1 else end
        each = [one if isinstance(one, tuple) else (one,) for one in each]
        ends.append([np.stack(values, 2) for values in zip(*each, strict=True)])
    candidates += [end for layer in ends for end in layer]
    if len({layer[0].shape[0] for layer in ends}) == 1:
        candidates.append(np.concatenate([layer[0] for layer in ends], 2))
    for name in parts["outputs"]:
        if not any(is_part(value, got[name], tolerance) for value in candidates):
            return f"the output {name} is no result"
    return None


def check(seed, path):
    """Make a model; return whether it was taken, None if it cannot run, and the operators in it."""
    rng = np.random.default_rng(seed)
    model = Model(rng)
    parts = model.network()
    if parts is None:
        return None, []
    sizes = {f"{name}_{k}": n for name in model.inputs for k, n in enumerate(model.shapes[name])}
    # With every open size as it was made, then with one of them another: a proof holds for all sizes.
    changed = [{}] + [{name: n + 1} for name, n in sizes.items() if any(name in s for s in model.inputs.values())]
    onnx.save(model.proto(parts["outputs"]), path)
    try:
        p = cyrnn.import_onnx(path)
    except ValueError as error:
        if not str(error).startswith("path: ") or "valid ONNX model" in str(error):
            raise
        return False, model.used
    for k, change in enumerate(changed):
        try:
            feeds, got = evaluate(model, parts, rng, sizes | change)
        except Exception:
            if k:
                continue  # a model that cannot run with this size
            return None, []
        wrong = compare(model, parts, p, feeds, got)
        text = onnx.printer.to_text(model.proto(parts["outputs"]))
        assert wrong is None, f"{wrong}; seed {seed}, sizes {change or 'as made'}:\n{text}"
    return True, model.used


def main():
    """Make models and count what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts, wrong = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        for k in range(options.models):
            try:
                taken, _ = check([options.seed, k], pathlib.Path(folder) / "net.onnx")
            except AssertionError as error:
                wrong += 1
                print(f"seed {options.seed} {k}: {error}", flush=True)
                continue
            counts[{True: "taken", False: "refused", None: "not made"}[taken]] += 1
    print(f"{dict(counts)}, {wrong} wrong")
    return wrong


if __name__ == "__main__":
    raise SystemExit(bool(main()))
