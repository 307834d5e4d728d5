"""Data-parallel training on Dask's distributed: the gradient of a batch is the sum over its parts.

    pip install '.[examples]'
    python examples/data_parallel.py                                two worker processes on this machine
    python examples/data_parallel.py --kill                         one of them is killed in the middle of a gradient
    python examples/data_parallel.py --scheduler tcp://HOST:8786    a cluster that runs elsewhere

The digits of scikit-learn are cut into shards, which the workers load and keep.  At every step each worker gets the
parameters and computes the gradients of its shards; they are summed here, in the order of the shards, and one update
is made.  A loss is a mean, so each shard counts as many times as it has examples.  If a worker dies, Dask has others
load its shards and compute what it had not finished: the numbers are the same.  Nothing of this is in cyrnn itself.
"""

import argparse
import os
import signal
import threading
import time

import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import cyrnn


def shard_of_digits(k, number):
    """The k-th of as many shards: x (8, m, 8) and the labels (m,)."""
    images, labels = load_digits(return_X_y=True)
    part = np.array_split(np.random.default_rng(0).permutation(len(labels)), number)[k]
    return images.reshape(-1, 8, 8).transpose(2, 0, 1)[:, part] / 16, labels[part]


def gradient(shard, parameters):
    """Sum of the losses of a shard's examples, the sum of their gradients, and their number."""
    x, labels = shard
    m = len(labels)
    a, y, _, caches = cyrnn.lstm_forward(x, np.zeros((len(parameters["bf"]), 1)), parameters)
    loss, dz = cyrnn.cross_entropy(y[:, :, -1], labels)  # the digit is told after the last row
    gradients = cyrnn.output_backward(dz, a[:, :, -1], parameters)
    da = np.zeros(a.shape)
    da[:, :, -1] = gradients["da"]
    gradients |= cyrnn.lstm_backward(da, caches)
    return m * loss, {"d" + name: m * gradients["d" + name] for name in parameters}, m


def mean(gradients_of_shards):
    """Mean loss and gradient of the examples of all shards together."""
    losses, parts, counts = zip(*gradients_of_shards, strict=True)
    m = sum(counts)
    return sum(losses) / m, {name: sum(part[name] for part in parts) / m for name in parts[0]}


def train(parameters, steps, gradients_of_shards, learning_rate=0.01):
    """Update the parameters in place; yields the loss before every step.

    ``gradients_of_shards(parameters)`` gives what `gradient` returns, one for each shard in their order.
    """
    v, s = cyrnn.initialize_adam(parameters)
    for t in range(1, steps + 1):
        loss, gradients = mean(gradients_of_shards(parameters))
        cyrnn.update_parameters_with_adam(parameters, gradients, v, s, t, learning_rate)
        yield loss


def on_workers(client, number):
    """Return the function for `train` that computes the gradients of as many shards on the workers of a cluster."""
    shards = client.map(shard_of_digits, range(number), number=number)  # loaded again where one is lost

    def gradients_of_shards(parameters):
        # The parameters travel with the task, so that it can be given to another worker as it is.
        return client.gather([client.submit(gradient, shard, parameters, pure=False) for shard in shards])

    return gradients_of_shards


def kill_a_worker(client):
    """Kill a worker's process in the middle of a gradient; the cluster starts another in its place."""
    pids = client.run(os.getpid)
    while True:
        for address in [address for address, tasks in client.processing().items() if tasks]:
            os.kill(pids[address], signal.SIGSTOP)  # lest it is done before it dies
            time.sleep(0.1)  # until what it has sent is there
            unfinished = client.processing([address])[address]
            os.kill(pids[address], signal.SIGKILL if unfinished else signal.SIGCONT)
            if unfinished:
                return


def apart(some, others):
    """The largest difference between two dicts of arrays."""
    return max(np.abs(some[name] - others[name]).max() for name in some)


def main():
    from distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, for a test")
    parser.add_argument("--kill", action="store_true", help="kill one of the two processes after a third of the steps")
    parser.add_argument("--scheduler", help="address of a cluster; by default two processes of this machine")
    arguments = parser.parse_args()
    if arguments.kill and arguments.scheduler:
        parser.error("--kill is for the processes of this machine")
    steps, n_a, number = (15, 16, 4) if arguments.quick else (100, 64, 8)
    rng = np.random.default_rng(0)
    parameters = cyrnn.initialize_parameters("lstm", n_x=8, n_a=n_a, n_y=10, rng=rng)
    alone = {name: value.copy() for name, value in parameters.items()}

    cluster = arguments.scheduler or LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with Client(cluster) as client:
        killer = threading.Thread(target=kill_a_worker, args=(client,), daemon=True)
        start = time.perf_counter()
        with tqdm(train(parameters, steps, on_workers(client, number)), total=steps, unit="step") as bar:
            for step, loss in enumerate(bar, 1):
                bar.set_postfix_str(f"loss {loss:.4f}")
                if arguments.kill and step == steps // 3:
                    killer.start()
        took = time.perf_counter() - start
        print(f"{len(client.scheduler_info()['workers'])} workers: loss {loss:.4f} after {steps} steps, {took:.1f} s")
        died = [event for _, event in client.get_events("all") if event["action"] == "remove-worker"]
        for event in died:
            lost = [str(task).split("-")[0] for task in event["processing-tasks"]]
            print(f"a worker died with {lost.count('gradient')} gradients under way; others computed them")
    if not arguments.scheduler:
        cluster.close()
    shards = [shard_of_digits(k, number) for k in range(number)]

    def gradients_here(parameters):
        return [gradient(shard, parameters) for shard in shards]

    for _ in train(alone, steps, gradients_here):
        pass
    print(f"parameters: at most {apart(parameters, alone):.1e} apart from those of a run in one process")
    (_, parts), (_, whole) = mean(gradients_here(alone)), mean([gradient(shard_of_digits(0, 1), alone)])
    print(f"gradient: at most {apart(parts, whole):.1e} apart from that of the whole batch at once")


if __name__ == "__main__":
    main()
