"""Recurrent networks in float64, compiled: the functions of the RNN and LSTM notebook.

``from cyrnn import *`` gives a notebook every function it needs; each has the notebook's arguments
and results.  Arrays are (n, m, T): units, examples, steps.
"""

from ._config import show_config
from ._threads import get_num_threads, set_num_threads
from ._version import __version__
from .activations import sigmoid, softmax
from .exchange import from_keras, from_torch, to_keras, to_torch
from .losses import cross_entropy, mean_squared_error
from .lstm import lstm_backward, lstm_cell_backward, lstm_cell_forward, lstm_forward
from .onnx_files import export_onnx, import_onnx
from .output_layer import output_backward, output_forward
from .parameters import initialize_parameters, load_parameters
from .rnn import rnn_backward, rnn_cell_backward, rnn_cell_forward, rnn_forward
from .stream import Stream
from .updates import clip_gradients, initialize_adam, update_parameters_with_adam, update_parameters_with_gd

__all__ = [
    "Stream",
    "__version__",
    "clip_gradients",
    "cross_entropy",
    "export_onnx",
    "from_keras",
    "from_torch",
    "get_num_threads",
    "import_onnx",
    "initialize_adam",
    "initialize_parameters",
    "load_parameters",
    "lstm_backward",
    "lstm_cell_backward",
    "lstm_cell_forward",
    "lstm_forward",
    "mean_squared_error",
    "output_backward",
    "output_forward",
    "rnn_backward",
    "rnn_cell_backward",
    "rnn_cell_forward",
    "rnn_forward",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
    "to_keras",
    "to_torch",
    "update_parameters_with_adam",
    "update_parameters_with_gd",
]
