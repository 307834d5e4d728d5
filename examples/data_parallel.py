"""Data-parallel training on Dask's distributed: the gradient of a batch is the sum over its parts.

    pip install '.[examples]'
    python examples/data_parallel.py                                two worker processes on this machine
    python examples/data_parallel.py --kill                         one of them is killed in the middle of a gradient
    python examples/data_parallel.py --scheduler tcp://HOST:8786    a cluster that runs elsewhere

The digits of scikit-learn are cut into shards, which the workers keep.  At every update each worker gets the network
and computes the gradients of its shards' part of the batch; they are summed here, in the order of the shards, and one
update is made.  If a worker dies, Dask has others compute what it had not finished: the numbers are the same.
"""

import argparse
import os
import signal
import threading
import time

import numpy as np
from sklearn.datasets import load_digits

from cyrnn.estimators import SequenceClassifier


def kill_a_worker(client):
    """Kill a worker's process in the middle of a gradient; the cluster starts another in its place."""
    pids = client.run(os.getpid)

    def busy(addresses):
        tasks = client.processing(addresses)
        return [address for address in tasks if any("gradient_of" in str(task) for task in tasks[address])]

    while True:
        for address in busy(list(pids)):
            os.kill(pids[address], signal.SIGSTOP)  # lest it is done before it dies
            time.sleep(0.1)  # until what it has sent is there
            unfinished = busy([address])
            os.kill(pids[address], signal.SIGKILL if unfinished else signal.SIGCONT)
            if unfinished:
                return


def main():
    from distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few epochs, for a test")
    parser.add_argument("--kill", action="store_true", help="kill one of the two processes meanwhile")
    parser.add_argument("--scheduler", help="address of a cluster; by default two processes of this machine")
    arguments = parser.parse_args()
    if arguments.kill and arguments.scheduler:
        parser.error("--kill is for the processes of this machine")
    units, epochs, n_shards = (16, 20, 4) if arguments.quick else (64, 100, 8)
    images, y = load_digits(return_X_y=True)
    X = images.reshape(-1, 8, 8) / 16
    size = {"epochs": epochs, "batch_size": len(y), "n_shards": n_shards}
    models = [SequenceClassifier("lstm", units, random_state=0, **size) for _ in range(2)]

    cluster = arguments.scheduler or LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with Client(cluster) as client:
        if arguments.kill:
            threading.Thread(target=kill_a_worker, args=(client,), daemon=True).start()
        start = time.perf_counter()
        models[0].fit(X, y, client=client)
        took, workers = time.perf_counter() - start, len(client.scheduler_info()["workers"])
        print(f"{workers} workers: loss {models[0].history_['loss'][-1]:.4f} after {took:.1f} s")
        died = [event for _, event in client.get_events("all") if event["action"] == "remove-worker"]
        for event in died:
            lost = [str(task).split("-")[0] for task in event["processing-tasks"]]
            print(f"a worker died with {lost.count('gradient_of')} gradients under way; others computed them")
    if not arguments.scheduler:
        cluster.close()
    same = np.array_equal(models[0].predict_proba(X), models[1].fit(X, y).predict_proba(X))
    print(f"the same bits as in one process: {same}")


if __name__ == "__main__":
    main()
