"""What is known of the tensors of an ONNX graph before it runs.

A tensor is a constant; or one value everywhere; or an input, or a result of a layer, with its axes moved; or unknown.
Each of these is a proof: it holds for every input of the model.  An operator that is not in the tables below, one of
another domain, and a known one with an attribute or input that it is not known with, give unknown tensors.

The dimensions of an input are `Dim` objects.  An axis of a tensor is a tuple of them: () has size 1, and (t, m) is the
axis that a Reshape makes of t and m, in this order.  A Reshape is proved if it merges axes, or takes merged ones apart
where they were merged, for all sizes that the model leaves open.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

STANDARD = ("", "ai.onnx")
# Operators that are computed if all their inputs are constants.  None of them is random, has a state or a subgraph, or
# gives more numbers than a model of its size should have, but for those that `Graph.folds` looks at.
FOLDED = {
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Div",
    "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gemm", "Greater",
    "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "MatMul", "Max", "Min", "Mod", "Mul", "Neg", "Not",
    "Or", "Pow", "QuantizeLinear", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Reshape", "Round", "ScatterElements", "ScatterND", "Shape",
    "Sigmoid", "Sign", "Size", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile",
    "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
# Those of them that are so, too, if some numbers are sizes that the model leaves open.
OF_SIZES = {"Concat", "Gather", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Unsqueeze"}
MOST_FILLED = 1 << 24  # elements that a constant is filled with; a file of a few bytes can ask for any number
TO_THE_END = 2**31 - 1  # and more: the end of a Slice of a dimension of any size
KEEPS_FILLING = {"Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose",
                 "Unsqueeze"}  # fmt: skip

# Types by ONNX's numbers: float32, float16, float64, bfloat16; integers with the bits of their positive numbers.
FLOAT16 = 10
FLOATS = {1, FLOAT16, 11, 16}
INTEGERS = {2: 8, 3: 7, 4: 16, 5: 15, 6: 31, 7: 63, 12: 32, 13: 64}


def is_floating(array: Any) -> bool:
    """Tell whether an array is of floating-point numbers; bfloat16 is a type that NumPy has not of its own."""
    return bool(array.dtype.kind == "f" or array.dtype.name == "bfloat16")


class Unproved(Exception):
    """What an operator gives is not known; the text says why."""


@dataclass(frozen=True, eq=False, slots=True)
class Dim:
    """A dimension of an input or of a layer's result; no two are the same."""

    size: int | None = None  # None if the model leaves it open


Axis = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """A number times dimensions that the model leaves open."""

    factor: int
    dims: tuple[Dim, ...]

    def __mul__(self, other: Any) -> "Size":
        factor, dims = (other.factor, other.dims) if isinstance(other, Size) else (int(other), ())
        return Size(self.factor * factor, tuple(sorted(self.dims + dims, key=id)))

    __rmul__ = __mul__


def size(axis: Axis) -> Any:
    """Return the size of an axis, an int where it is known."""
    factor = prod(dim.size for dim in axis if dim.size is not None)
    dims = tuple(sorted((dim for dim in axis if dim.size is None), key=id))
    return Size(factor, dims) if dims else factor


@dataclass(frozen=True, slots=True)
class Constant:
    """An array; of type object if some of its numbers are sizes that the model leaves open."""

    array: Any


@dataclass(frozen=True, slots=True)
class Filled:
    """One value everywhere, in an array of any shape."""

    value: Any


@dataclass(frozen=True, slots=True)
class Tensor:
    """The values of an input or of a layer's result, with its axes moved."""

    what: str  # "input", "embedded", "states", "last", "memory", "product", "logits", "y"
    name: str  # of the input
    axes: tuple[Axis, ...]
    element: int  # the type, as ONNX numbers it
    whole: bool = True  # False if it is a part of it, or integers in a narrower type
    picks: Axis | None = None  # the axis that may be picked of: the steps, of the last states the directions
    features: Axis = ()  # the axis of the embedding, of the units of all directions, or of the outputs
    layer: int = 0  # the recurrent layer that it is a result of
    embedding: Any = field(default=None, compare=False)  # (vocabulary, n_x), if it is embedded


@dataclass(frozen=True, slots=True)
class Joined:
    """Last states of several layers, or inputs, one behind the other."""

    parts: tuple[Tensor, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """Whatever a node gives, and why nothing is known of it."""

    node: Any
    why: str = ""


Value = Constant | Filled | Tensor | Joined | Unknown


@dataclass(slots=True)
class Graph:
    """A model's graph and what is known of its tensors so far."""

    onnx: Any
    model: Any
    values: dict[str, Value] = field(default_factory=dict)
    opset: int = 1

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.opset = max((o.version for o in self.model.opset_import if o.domain in STANDARD), default=1)
        for info in graph.input:
            self.values[info.name] = self.an_input(info)
        for tensor in graph.initializer:
            self.values[tensor.name] = Constant(self.onnx.numpy_helper.to_array(tensor))
        for sparse in graph.sparse_initializer:
            self.values[sparse.values.name] = Unknown(None, "a sparse constant")

    def an_input(self, info: Any) -> Value:
        """Return an input of the model."""
        if not info.type.HasField("tensor_type"):
            return Unknown(None, "an input that is no tensor")
        kind = info.type.tensor_type
        axes = [() if d.dim_value == 1 else (Dim(d.dim_value if d.dim_value > 0 else None),) for d in kind.shape.dim]
        return Tensor("input", info.name, tuple(axes), kind.elem_type)

    def is_standard(self, node: Any) -> bool:
        """Tell whether a node is an operator of ONNX itself, and not a function of the model of the same name."""
        own = {(f.domain if f.domain not in STANDARD else "", f.name) for f in self.model.functions}
        return node.domain in STANDARD and ("", node.op_type) not in own

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return the attributes of a node, text as str."""
        values = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}

    def constant(self, name: str) -> Any:
        """Return the array of a constant, else None."""
        value = self.values.get(name)
        return value.array if isinstance(value, Constant) and value.array.dtype != object else None

    def read(self, node: Any) -> Iterator[str]:
        """Yield the names of the tensors that a node reads, in its subgraphs too."""
        yield from node.input
        for attribute in node.attribute:
            for graph in [attribute.g, *attribute.graphs]:
                yield from (value.name for value in graph.output)
                for inner in graph.node:
                    yield from self.read(inner)

    def results(self, node: Any) -> list[Value]:
        """Return what is known of the results of an operator that is no layer.

        Raises
        ------
        Unproved
            If that is nothing.
        """
        op, given = node.op_type, [self.values.get(name, Unknown(None)) if name else None for name in node.input]
        if not self.is_standard(node):
            raise Unproved(f"it is no operator of ONNX itself, but of the domain {node.domain!r}")
        first = given[0] if given else None
        if op == "ConstantOfShape" and not self.folds(node, given):
            value = self.attributes(node).get("value")
            fill = np.zeros(1) if value is None else self.onnx.numpy_helper.to_array(value)
            if fill.size != 1:
                raise Unproved(f"it fills with {fill.size} values")
            return [Filled(fill.flat[0])]
        if op in FOLDED and self.folds(node, given):
            return self.folded(node, [value.array for value in given if isinstance(value, Constant)])
        if op == "Expand" and isinstance(first, Constant) and first.array.size == 1:
            return [Filled(first.array.flat[0])]
        if op == "Gather" and isinstance(first, Constant) and isinstance(given[1], Tensor):
            return [self.embedded(first.array, given[1], self.attributes(node))]
        if op == "Concat" and (tensors := [value for value in given if isinstance(value, Tensor)]) == given:
            return [_joined(tensors, self.attributes(node)["axis"])]
        if op == "Gather" and isinstance(first, Joined):
            return [_part(first, Arguments(self.attributes(node), given))]
        if op in KEEPS_FILLING and isinstance(first, Filled):
            return [first]
        if op in MOVES and isinstance(first, Tensor):
            move, known = MOVES[op]
            attributes = self.attributes(node)
            for name in set(attributes) - known:
                raise Unproved(f"its attribute {name!r} is not known")
            return [move(first, Arguments(attributes, given))]
        if given and all(isinstance(value, Constant) for value in given if value is not None):
            raise Unproved("constants are not computed through it")
        raise Unproved("it may change values")

    def embedded(self, array: Any, index: Tensor, attributes: dict[str, Any]) -> Tensor:
        """Return what a Gather makes of indices: rows of a matrix."""
        if array.ndim != 2 or not is_floating(array) or attributes.get("axis", 0) not in (0, -2):
            raise Unproved("it picks no rows of a matrix of floating-point numbers")
        if index.what != "input" or not index.whole or index.element not in INTEGERS:
            raise Unproved("its indices are no input of integers")
        features = (Dim(array.shape[1]),) if array.shape[1] != 1 else ()
        element = self.onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        axes = (*index.axes, features)
        return Tensor("embedded", index.name, axes, element, features=features, embedding=array)

    def folds(self, node: Any, given: Sequence[Value | None]) -> bool:
        """Tell whether a node can be computed now."""
        arrays = [value.array for value in given if isinstance(value, Constant)]
        if len(arrays) < sum(value is not None for value in given):
            return False
        if node.op_type not in OF_SIZES | {"Cast"} and any(array.dtype == object for array in arrays):
            return False
        if node.op_type in ("ConstantOfShape", "Expand", "Tile") and arrays:
            count = arrays[0].size if node.op_type == "Tile" else 1
            return count * prod(abs(int(n)) for n in arrays[-1].flat) <= MOST_FILLED
        return True

    def folded(self, node: Any, arrays: list[Any]) -> list[Value]:
        """Compute an operator of constants by ONNX's reference evaluator."""
        from onnx.reference import ReferenceEvaluator

        op, helper = node.op_type, self.onnx.helper
        if any(array.dtype == object for array in arrays):
            if op == "Cast":
                return [Constant(arrays[0])]
            if op == "Gather" and arrays[0].ndim == 1:  # of which the evaluator returns arrays alone, no `Size`
                return [Constant(np.asarray(np.take(*arrays), object))]
            if op in ("Concat", "Mul"):
                arrays = [array.astype(object) for array in arrays]
        feeds = dict(zip([name for name in node.input if name], arrays, strict=True))
        outputs = [name for name in node.output if name]
        infos = [[helper.make_empty_tensor_value_info(name) for name in names] for names in (feeds, outputs)]
        model = helper.make_model(helper.make_graph([node], "constants", *infos), opset_imports=self.model.opset_import)
        try:
            with np.errstate(all="ignore"):
                made = dict(zip(outputs, ReferenceEvaluator(model).run(None, feeds), strict=True))
        except MemoryError:
            raise
        except Exception as error:  # of a node that is wrong, or that the evaluator does not know
            raise Unproved(f"its evaluation failed with {type(error).__name__}: {error}".splitlines()[0]) from error
        if not all(isinstance(value, (np.ndarray, np.generic)) for value in made.values()):
            raise Unproved("it gives no array")
        return [Constant(np.asarray(made[name])) if name else Unknown(node) for name in node.output]


@dataclass(slots=True)
class Arguments:
    """The attributes of a node and what is known of its inputs."""

    attributes: dict[str, Any]
    given: list[Value | None]

    def integers(self, name: str, position: int, dtype: Any = int) -> list[Any] | None:
        """Return the numbers of an attribute or, in newer operator sets, an input, None if it is left out."""
        if name in self.attributes:
            return list(self.attributes[name])
        value = self.given[position] if position < len(self.given) else None
        if value is None:
            return None
        if not isinstance(value, Constant) or (value.array.dtype == object and dtype is int):
            raise Unproved(f"what is its {name}, is computed")
        return list(value.array.ravel().tolist())


def axis_number(number: int, rank: int) -> int:
    """Return the number of an axis counted from the first one."""
    if not -rank <= number < rank:
        raise Unproved(f"it names axis {number} of {rank}")
    return number % rank


def _identity(tensor: Tensor, arguments: Arguments) -> Tensor:
    return tensor


def _cast(tensor: Tensor, arguments: Arguments) -> Tensor:
    """Return a tensor in another type: values may be rounded to a floating one, and change in no other way."""
    source, to = tensor.element, arguments.attributes.get("to")
    if to in FLOATS and (source in FLOATS or (source in INTEGERS and to != FLOAT16)):
        return replace(tensor, element=to)
    if to in INTEGERS and source in INTEGERS:
        return replace(tensor, element=to, whole=tensor.whole and INTEGERS[source] <= INTEGERS[to])
    raise Unproved("that type does not hold every value")


def _transpose(tensor: Tensor, arguments: Arguments) -> Tensor:
    rank = len(tensor.axes)
    order = arguments.attributes.get("perm", list(range(rank))[::-1])
    if sorted(order) != list(range(rank)):
        raise Unproved(f"it orders {rank} axes by {list(order)}")
    return replace(tensor, axes=tuple(tensor.axes[k] for k in order))


def _unsqueeze(tensor: Tensor, arguments: Arguments) -> Tensor:
    numbers = arguments.integers("axes", 1) or []
    rank = len(tensor.axes) + len(numbers)
    new, rest = {axis_number(k, rank) for k in numbers}, iter(tensor.axes)
    if len(new) < len(numbers):
        raise Unproved(f"it names axes {numbers}")
    return replace(tensor, axes=tuple(() if k in new else next(rest) for k in range(rank)))


def _squeeze(tensor: Tensor, arguments: Arguments) -> Tensor:
    rank, numbers = len(tensor.axes), arguments.integers("axes", 1)
    if numbers is None:
        if any(isinstance(size(axis), Size) for axis in tensor.axes):
            raise Unproved("it may remove axes of an open size, or not")
        numbers = [k for k, axis in enumerate(tensor.axes) if axis == ()]
    removed = {axis_number(k, rank) for k in numbers}
    for k in removed:
        if isinstance(size(tensor.axes[k]), int) and tensor.axes[k]:
            raise Unproved(f"axis {k} has not the size 1")
    return replace(tensor, axes=tuple(axis for k, axis in enumerate(tensor.axes) if k not in removed))


def _flatten(tensor: Tensor, arguments: Arguments) -> Tensor:
    k = arguments.attributes.get("axis", 1)
    if not -len(tensor.axes) <= k <= len(tensor.axes):
        raise Unproved(f"it names axis {k} of {len(tensor.axes)}")
    return replace(tensor, axes=(merged(tensor.axes[:k]), merged(tensor.axes[k:])))


def merged(axes: Sequence[Axis]) -> Axis:
    """Return the one axis that a Reshape makes of several."""
    return tuple(dim for axis in axes for dim in axis)


def _reshape(tensor: Tensor, arguments: Arguments) -> Tensor:
    shape = arguments.integers("shape", 1, object)
    if shape is None:
        raise Unproved("it has no shape")
    if not arguments.attributes.get("allowzero", 0):
        for k, number in enumerate(shape):
            if number == 0:
                shape[k] = size(tensor.axes[axis_number(k, len(tensor.axes))])
    dims, open_ = list(merged(tensor.axes)), [k for k, number in enumerate(shape) if number == -1]
    if len(open_) > 1:
        raise Unproved("it leaves several sizes open")
    middle = open_[0] if open_ else len(shape)
    axes = [_taken(dims, number, first=True) for number in shape[:middle]]
    last = [_taken(dims, number, first=False) for number in shape[:middle:-1]]
    if dims and not open_:
        raise Unproved("it mixes axes")
    if open_:
        axes.append(tuple(dims))
    return replace(tensor, axes=(*axes, *last[::-1]))


def _taken(dims: list[Dim], wanted: Any, first: bool) -> Axis:
    """Take as many dimensions from one end as have this size."""
    axis: Axis = ()
    while size(axis) != wanted:
        if not dims:
            raise Unproved("it mixes axes")
        axis = (*axis, dims.pop(0)) if first else (dims.pop(), *axis)
    return axis


def _gather(tensor: Tensor, arguments: Arguments) -> Tensor:
    k, index = axis_number(arguments.attributes.get("axis", 0), len(tensor.axes)), arguments.given[1]
    if not isinstance(index, Constant) or index.array.dtype == object:
        raise Unproved("its index is computed")
    if index.array.size != 1:
        raise Unproved(f"it picks {index.array.size} indices")
    tensor = _picked(tensor, k, 1) if tensor.axes[k] else tensor
    units = ((),) * index.array.ndim
    return replace(tensor, axes=(*tensor.axes[:k], *units, *tensor.axes[k + 1 :]))


def _slice(tensor: Tensor, arguments: Arguments) -> Tensor:
    starts, ends = arguments.integers("starts", 1), arguments.integers("ends", 2)
    if starts is None or ends is None:
        raise Unproved("it has no starts or ends")
    numbers = arguments.integers("axes", 3)
    steps = arguments.integers("steps", 4)
    numbers = list(range(len(starts))) if numbers is None else numbers
    steps = [1] * len(starts) if steps is None else steps
    for number, start, end, step in zip(numbers, starts, ends, steps, strict=True):
        k = axis_number(number, len(tensor.axes))
        axis = tensor.axes[k]
        n = size(axis)
        if step != 1:
            raise Unproved(f"it has a step of {step}")
        if start == 0 and end >= (n if isinstance(n, int) else TO_THE_END):
            continue
        if not axis and (start != -1 or end < 1):
            raise Unproved("it may be empty")
        if axis:
            tensor = _picked(tensor, k, len(range(n)[start:end]) if isinstance(n, int) else None)
    return tensor


def _picked(tensor: Tensor, k: int, size: int | None) -> Tensor:
    """Return a part of an axis: any of an input, which it is then no longer; else of the axis that may be picked of."""
    axis = () if size == 1 else (Dim(size),)
    axes = (*tensor.axes[:k], axis, *tensor.axes[k + 1 :])
    if tensor.what in ("input", "embedded"):
        return replace(tensor, axes=axes, whole=False)
    if tensor.picks is None or tensor.axes[k] != tensor.picks:
        raise Unproved("it picks what are no steps")
    return replace(tensor, axes=axes, picks=axis)


def _joined(tensors: list[Tensor], axis: int) -> Joined:
    """Return last states one behind the other, as exporters write those of all layers, or inputs."""
    kinds = {"last" if tensor.what == "memory" else tensor.what for tensor in tensors}
    if kinds not in ({"last"}, {"input"}):
        raise Unproved("it joins what are no last states")
    return Joined(tuple(tensors), axis_number(axis, len(tensors[0].axes)))


def _part(joined: Joined, arguments: Arguments) -> Tensor:
    """Return what a Gather picks of joined states, all of it from one layer."""
    index, sizes = arguments.given[1], [size(tensor.axes[joined.axis]) for tensor in joined.parts]
    axis = axis_number(arguments.attributes.get("axis", 0), len(joined.parts[0].axes))
    if axis != joined.axis or not isinstance(index, Constant) or index.array.size != 1:
        raise Unproved("it picks no one layer")
    if not all(isinstance(n, int) for n in sizes):
        raise Unproved("it joins axes of open sizes")
    number = axis_number(int(index.array.flat[0]), sum(sizes))
    for tensor, n in zip(joined.parts, sizes, strict=True):
        if number < n:
            here = Constant(np.full(index.array.shape, number))
            return _gather(tensor, Arguments({"axis": axis}, [None, here]))
        number -= n
    raise Unproved("it picks no layer")


def _expand(tensor: Tensor, arguments: Arguments) -> Tensor:
    """Return a tensor with axes of size 1 repeated; of an input alone, and it is then no longer the input itself."""
    shape = arguments.integers("shape", 1, object)
    if shape is None:
        raise Unproved("it has no shape")
    rank = max(len(shape), len(tensor.axes))
    axes = [()] * (rank - len(tensor.axes)) + list(tensor.axes)
    whole = tensor.whole
    for k, number in enumerate([1] * (rank - len(shape)) + shape):
        if number not in (1, size(axes[k])):
            if axes[k] or tensor.what != "input":
                raise Unproved("it repeats what has more than one value")
            axes[k], whole = (Dim(number if isinstance(number, int) else None),), False
    return replace(tensor, axes=tuple(axes), whole=whole)


def _shape(tensor: Tensor, arguments: Arguments) -> Constant:
    rank = len(tensor.axes)
    start, end, _ = slice(arguments.attributes.get("start", 0), arguments.attributes.get("end", rank)).indices(rank)
    sizes = [size(axis) for axis in tensor.axes[start:end]]
    array = np.empty(len(sizes), object if any(isinstance(n, Size) for n in sizes) else np.int64)
    array[:] = sizes
    return Constant(array)


Move = Callable[[Tensor, Arguments], Value]
# What changes no value of its first input, with the attributes that it is known with.
MOVES: dict[str, tuple[Move, set[str]]] = {
    "Cast": (_cast, {"to", "saturate"}),
    "Expand": (_expand, set()),
    "Flatten": (_flatten, {"axis"}),
    "Gather": (_gather, {"axis"}),
    "Identity": (_identity, set()),
    "Reshape": (_reshape, {"allowzero", "shape"}),
    "Shape": (_shape, {"start", "end"}),
    "Slice": (_slice, {"axes", "ends", "starts"}),
    "Squeeze": (_squeeze, {"axes"}),
    "Transpose": (_transpose, {"perm"}),
    "Unsqueeze": (_unsqueeze, {"axes"}),
}
