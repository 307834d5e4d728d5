"""A small typed program: what the public functions take and return."""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import cyrnn

Array = NDArray[np.float64]


def train(x: Array, labels: NDArray[np.int64], lengths: list[int]) -> tuple[dict[str, Array], float]:
    parameters = cyrnn.initialize_parameters("lstm", 3, 5, 2, 0)
    v, s = cyrnn.initialize_adam(parameters)
    loss = 0.0
    for t in range(1, 3):
        a, y, _, caches = cyrnn.lstm_forward(x, None, parameters, lengths=lengths)
        loss, dz = cyrnn.cross_entropy(y, labels, lengths)
        assert_type(loss, float)
        output = cyrnn.output_backward(dz, a, parameters)
        gradients = cyrnn.lstm_backward(output["da"], caches)
        gradients |= {name: output[name] for name in ("dWy", "dby")}
        gradients, norm = cyrnn.clip_gradients({"d" + name: gradients["d" + name] for name in parameters}, norm=1.0)
        assert_type(norm, float)
        parameters, v, s = cyrnn.update_parameters_with_adam(parameters, gradients, v, s, t)
    return parameters, loss


def stream(parameters: dict[str, Array], xt: Array) -> Array:
    network = cyrnn.Stream(parameters, 10)
    a, y = network.step(xt)
    assert_type(a, Array)
    prediction: Array = y  # of any type, since it is None without an output
    return prediction


def forward(x: NDArray[np.float32], parameters: dict[str, NDArray[np.float32]], keep: bool) -> Array:
    return cyrnn.rnn_forward(x, [[0.0]] * 5, parameters, cache=keep)[0]


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 10, 4))
    parameters, loss = train(x, rng.integers(0, 2, (10, 4)), [4] * 10)
    print(loss, stream(parameters, x[:, :, 0]).shape)
    rnn = cyrnn.initialize_parameters("rnn", 3, 5, 2, rng)
    a, y, caches = cyrnn.rnn_forward(x.tolist(), np.zeros((5, 10), dtype=np.float32), rnn)
    assert_type(a, Array)
    print(cyrnn.rnn_backward(np.ones_like(a), caches)["dx"].sum(), cyrnn.softmax(y).max())
    a, y, none = cyrnn.rnn_forward(x, np.zeros((5, 10)), rnn, cache=False)
    assert_type(none, None)
    single = {name: value.astype(np.float32) for name, value in rnn.items()}
    print(forward(x.astype(np.float32), single, bool(rng.integers(2))).dtype)
    a_next, y_t, cache = cyrnn.rnn_cell_forward(x[:, :, 0], np.zeros((5, 10)), rnn)
    print(cyrnn.rnn_cell_backward(np.ones_like(a_next), cache)["dxt"].shape, y_t.sum())
    print(sorted(cyrnn.to_torch(rnn)), len(cyrnn.to_keras(parameters)), cyrnn.get_num_threads())


if __name__ == "__main__":
    main()
