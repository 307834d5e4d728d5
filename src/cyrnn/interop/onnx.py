"""Networks to and from ONNX files: one operator RNN or LSTM, the output layer, the softmax.

ONNX stacks the gates of an LSTM in the order i, o, f, c and has two biases one behind the other.  The
package ``onnx`` is imported when a function of this module is called.
"""

import os
from typing import Any

import numpy as np

from .._checks import Array, Parameters
from .._version import __version__
from ..recurrent.fused import fuse, split
from .onnx_graph import network

__all__ = ["export_onnx", "import_onnx"]

ORDERS = {"lstm": "iofc"}
OPSET, IR_VERSION = 14, 7  # the oldest that have the operators as they are today


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("the package onnx is needed for this: pip install onnx") from error
    return onnx


def export_onnx(path: str | os.PathLike[str], parameters: Parameters, *, dtype: str = "float32") -> None:
    """Write the network as an ONNX model.

    The arrays of the model have the names, the order of dimensions and the meaning that they have here:
    inputs ``x`` (n_x, m, T_x), ``a0`` (n_a, m) and, of an LSTM, ``c0`` (n_a, m); outputs ``a`` (n_a, m, T_x),
    ``y`` (n_y, m, T_x), if the parameters have an output layer, and, of an LSTM, ``c``, which differs: it is
    (n_a, m), the memory after the last step, since the operator gives no other.  m and T_x are free.

    Parameters
    ----------
    path : str or path-like
        The file to write; one that exists is replaced.
    parameters : mapping
        As for `rnn_forward` or `lstm_forward`; the output layer (``Wya`` or ``Wy``, and ``by``) may be
        missing.
    dtype : {"float32", "float64"}
        Of the weights, the inputs and the outputs.  ONNX Runtime has these operators in float32 alone, so
        that is the default, and the weights are rounded to it.  In float64 nothing is lost and ONNX's
        reference evaluator computes with it.

    Returns
    -------
    None

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    TypeError, ValueError, KeyError
        If an entry is missing, of a wrong type or shape, or too large for float32; the message names it.
        Then nothing is written.

    Examples
    --------
    >>> import numpy as np, cyrnn, onnx, tempfile
    >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1)), "Wya": np.eye(2), "by": np.zeros((2, 1))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cyrnn.export_onnx(f"{folder}/rnn.onnx", p)
    ...     graph = onnx.load(f"{folder}/rnn.onnx").graph
    >>> [value.name for value in graph.input], [value.name for value in graph.output]
    (['x', 'a0'], ['a', 'y'])
    """
    onnx = _onnx()
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}")
    q = fuse(parameters, ORDERS)
    n_a, n_x = q.W_a.shape[1], q.W_x.shape[1]
    weights = {"W": q.W_x[None], "R": q.W_a[None], "B": np.concatenate([q.b, np.zeros_like(q.b)])[None]}
    if q.Wy is not None and q.by is not None:
        weights |= {"Wy_transposed": q.Wy.T, "by": q.by}
    with np.errstate(over="ignore"):
        tensors = {name: value.astype(dtype, order="C") for name, value in weights.items()}
    for name, value in tensors.items():
        if np.isinf(value).sum() != np.isinf(weights[name]).sum():
            raise ValueError(f"parameters: expected numbers that {dtype} can hold, got larger ones (ONNX's {name})")

    make, kind = onnx.helper.make_node, q.spec.name.upper()
    axes = {"axis_0": np.array([0]), "axis_1": np.array([1])}
    memory = "c" in q.spec.states
    states = {"a0": "initial_h", "c0": "initial_c"} if memory else {"a0": "initial_h"}
    nodes = [make("Transpose", ["x"], ["X"], perm=[2, 1, 0])]
    for name, initial in states.items():
        nodes += [make("Transpose", [name], [f"{name}_rows"], perm=[1, 0])]
        nodes += [make("Unsqueeze", [f"{name}_rows", "axis_0"], [initial])]
    made = ["Y", "Y_h", "Y_c"] if memory else ["Y", "Y_h"]  # all of them: OpenCV cannot read an omitted one
    nodes += [
        make(kind, ["X", "W", "R", "B", "", *states.values()], made, hidden_size=n_a),
        make("Squeeze", ["Y", "axis_1"], ["a_rows"]),
        make("Transpose", ["a_rows"], ["a"], perm=[2, 1, 0]),
    ]
    inputs = {"x": [n_x, "m", "T_x"]} | {name: [n_a, "m"] for name in states}
    outputs = {"a": [n_a, "m", "T_x"]}
    if q.Wy is not None:
        nodes += [
            make("MatMul", ["a_rows", "Wy_transposed"], ["product"]),
            make("Add", ["product", "by"], ["z"]),
            make("Softmax", ["z"], ["y_rows"], axis=-1),
            make("Transpose", ["y_rows"], ["y"], perm=[2, 1, 0]),
        ]
        outputs["y"] = [len(q.Wy), "m", "T_x"]
    if memory:
        nodes += [make("Squeeze", ["Y_c", "axis_0"], ["c_rows"]), make("Transpose", ["c_rows"], ["c"], perm=[1, 0])]
        outputs["c"] = [n_a, "m"]

    real = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    infos = [
        [onnx.helper.make_tensor_value_info(name, real, shape) for name, shape in values.items()]
        for values in (inputs, outputs)
    ]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in (tensors | axes).items()]
    graph = onnx.helper.make_graph(nodes, kind.lower(), *infos, initializers)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="cyrnn", producer_version=__version__,
    )  # fmt: skip
    onnx.save(model, path)


def import_onnx(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Parameters from an ONNX model, one that `export_onnx` wrote or another.

    The model has one operator RNN or LSTM that reads an input of the model, and at most one linear layer
    (MatMul and Add, or Gemm) and a softmax over its classes after it; between them stand only operators that
    move dimensions or pick steps.  The two biases of the operator are added; without biases they are zeros.

    Parameters
    ----------
    path : str or path-like
        The file to read.

    Returns
    -------
    dict of new float64 arrays
        ``Wax Waa ba`` of an RNN, ``Wf bf Wi bi Wc bc Wo bo`` of an LSTM, with a linear layer also ``Wya`` or
        ``Wy``, and ``by``.  Without one add these before you call a function of cyrnn.  The softmax is always
        part of those functions: of a model that ends before it, y is the softmax of what it returns.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    OSError
        If the file cannot be read.
    ValueError
        If it is no valid ONNX model, or not such a one.  The message names the operator with its attribute or
        input that has no counterpart here: another direction than forward, other activations than the default
        ones, clip, input_forget, peepholes, sequence lengths, an initial state other than zeros or an input
        of the model, weights that are computed.

    Examples
    --------
    >>> import numpy as np, cyrnn, tempfile
    >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1)), "Wya": np.eye(2), "by": np.zeros((2, 1))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cyrnn.export_onnx(f"{folder}/rnn.onnx", p)
    ...     q = cyrnn.import_onnx(f"{folder}/rnn.onnx")
    >>> all((q[name] == p[name]).all() for name in p)
    True
    """
    onnx = _onnx()
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # each format that onnx reads, by the file's extension, has errors of its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"path: expected a valid ONNX model, got one with {reason}") from error
    parameters = split(network(onnx, model), ORDERS)
    for key, value in parameters.items():
        if not np.isfinite(value).all():
            raise ValueError(f"path: expected finite weights, got some of {key} that are not")
    return parameters
