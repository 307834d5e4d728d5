"""Recurrent neural networks for NumPy, compiled: RNN, LSTM and GRU, networks, training, weights of other libraries.

``from cyrnn import *`` gives the notebook's functions, with its arguments and results, and all others.  Arrays are
(n, m, T_x): units, examples, time steps.  The estimators are in `cyrnn.estimators`.
"""

from ._config import release_memory, show_config
from ._threads import get_num_threads, set_num_threads
from ._version import __version__
from .interop.keras_weights import from_keras, to_keras
from .interop.onnx import export_onnx, import_onnx
from .interop.torch_weights import from_torch, to_torch
from .plots import plot_gates, plot_history
from .recurrent.activations import sigmoid, softmax
from .recurrent.gru import gru_backward, gru_cell_backward, gru_cell_forward, gru_forward
from .recurrent.lstm import lstm_backward, lstm_cell_backward, lstm_cell_forward, lstm_forward
from .recurrent.network import network_backward, network_forward
from .recurrent.rnn import rnn_backward, rnn_cell_backward, rnn_cell_forward, rnn_forward
from .recurrent.stream import Stream
from .training.checkpoints import load_checkpoint, save_checkpoint
from .training.dropout import dropout
from .training.losses import binary_cross_entropy, cross_entropy, mean_squared_error
from .training.networks import initialize_network, load_network, save_network
from .training.optimizers import clip_gradients, initialize_adam, update_parameters_with_adam, update_parameters_with_gd
from .training.output_layer import output_backward, output_forward
from .training.parameters import initialize_parameters, load_parameters
from .training.sequences import (
    last_steps,
    make_batches,
    one_hot,
    pad_sequences,
    reverse_sequences,
    sample,
    to_indices,
)

__all__ = [
    "Stream",
    "__version__",
    "binary_cross_entropy",
    "clip_gradients",
    "cross_entropy",
    "dropout",
    "export_onnx",
    "from_keras",
    "from_torch",
    "get_num_threads",
    "gru_backward",
    "gru_cell_backward",
    "gru_cell_forward",
    "gru_forward",
    "import_onnx",
    "initialize_adam",
    "initialize_network",
    "initialize_parameters",
    "last_steps",
    "load_checkpoint",
    "load_network",
    "load_parameters",
    "lstm_backward",
    "lstm_cell_backward",
    "lstm_cell_forward",
    "lstm_forward",
    "make_batches",
    "mean_squared_error",
    "network_backward",
    "network_forward",
    "one_hot",
    "output_backward",
    "output_forward",
    "pad_sequences",
    "plot_gates",
    "plot_history",
    "release_memory",
    "reverse_sequences",
    "rnn_backward",
    "rnn_cell_backward",
    "rnn_cell_forward",
    "rnn_forward",
    "sample",
    "save_checkpoint",
    "save_network",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
    "to_indices",
    "to_keras",
    "to_torch",
    "update_parameters_with_adam",
    "update_parameters_with_gd",
]
