"""Data-parallel training on Dask's distributed: the gradient of a batch is the sum over its parts.

    pip install '.[examples]'
    python examples/data_parallel.py                                two worker processes on this machine
    python examples/data_parallel.py --scheduler tcp://HOST:8786      a cluster that runs elsewhere

The digits of scikit-learn are cut into shards, which stay on the workers.  At every step each worker gets the
parameters and computes the gradient of its shards; they are summed here, in the order of the shards, and one update
is made.  A loss is a mean, so each shard weighs as many examples as it has.  If a worker dies, Dask gives its shards
to the others.  Nothing of this is in cyrnn itself.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import cyrnn


def shards_of_digits(number):
    """Return as many shards: x (8, m, 8) and the labels (m,)."""
    images, labels = load_digits(return_X_y=True)
    x = images.reshape(-1, 8, 8).transpose(2, 0, 1) / 16
    parts = np.array_split(np.random.default_rng(0).permutation(len(labels)), number)
    return [(x[:, part].copy(), labels[part]) for part in parts]


def gradient(shard, parameters):
    """Sum of the losses of a shard's examples, the sum of their gradients, and their number."""
    x, labels = shard
    m = len(labels)
    a, y, _, caches = cyrnn.lstm_forward(x, np.zeros((len(parameters["bf"]), 1)), parameters)
    loss, dz_last = cyrnn.cross_entropy(y[:, :, -1], labels)
    dz = np.zeros(y.shape)
    dz[:, :, -1] = dz_last  # the digit is told after the last row
    gradients = cyrnn.output_backward(dz, a, parameters)
    gradients |= cyrnn.lstm_backward(gradients["da"], caches)
    return m * loss, {"d" + name: m * gradients["d" + name] for name in parameters}, m


def train(parameters, steps, gradients_of_shards, learning_rate=0.01):
    """Update the parameters in place; yields the loss before every step.

    ``gradients_of_shards(parameters)`` gives what `gradient` returns, one for each shard in their order.
    """
    v, s = cyrnn.initialize_adam(parameters)
    for t in range(1, steps + 1):
        losses, parts, counts = zip(*gradients_of_shards(parameters), strict=True)
        m = sum(counts)
        summed = {name: sum(part[name] for part in parts) / m for name in parts[0]}
        cyrnn.update_parameters_with_adam(parameters, summed, v, s, t, learning_rate)
        yield sum(losses) / m


def on_workers(client, shards):
    """Return the function for `train` that computes the gradients on the workers of a cluster."""
    kept = client.scatter(shards, broadcast=True)  # on every worker, so that none is lost with one of them

    def gradients_of_shards(parameters):
        # The parameters travel with the task, so that it can be given to another worker as it is.
        return client.gather([client.submit(gradient, shard, parameters, pure=False) for shard in kept])

    return gradients_of_shards


def main():
    from distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, for a test")
    parser.add_argument("--scheduler", help="address of a cluster; by default two processes of this machine")
    arguments = parser.parse_args()
    steps, n_a, shards = (5, 16, shards_of_digits(4)) if arguments.quick else (100, 64, shards_of_digits(8))
    rng = np.random.default_rng(0)
    parameters = cyrnn.initialize_parameters("lstm", n_x=8, n_a=n_a, n_y=10, rng=rng)
    alone = {name: value.copy() for name, value in parameters.items()}

    cluster = arguments.scheduler or LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with Client(cluster) as client:
        start = time.perf_counter()
        with tqdm(train(parameters, steps, on_workers(client, shards)), total=steps, unit="step") as bar:
            for loss in bar:
                bar.set_postfix_str(f"loss {loss:.4f}")
        took = time.perf_counter() - start
        print(f"{len(client.scheduler_info()['workers'])} workers: loss {loss:.4f} after {steps} steps, {took:.1f} s")
    if not arguments.scheduler:
        cluster.close()
    for _ in train(alone, steps, lambda parameters: [gradient(shard, parameters) for shard in shards]):
        pass
    apart = max(np.abs(parameters[name] - alone[name]).max() for name in alone)
    print(f"the parameters are at most {apart:.1e} apart from those of a run in one process")


if __name__ == "__main__":
    main()
