"""Many Python threads at once: what each computes has the bits of one thread alone, and what they share is in order.

    python tests/race.py [--seconds S] [--threads N] [--seed N] [--serial]

Every thread draws problems of all kinds (sequences, single steps, networks, streams, losses, updates; both
precisions; sizes whose buffers go into the pool) and compares.  Then all of them use one stream, one list of caches,
the settings and the counts of updates.  `--serial` keeps every call on one thread, since OpenMP's own library is not
built with ThreadSanitizer.
Meant for a free-threaded Python, and right on every other one.  tests/test_threads.py makes a short run of it.
"""

import argparse
import hashlib
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import networks
import numpy as np
from cells import CELLS
from reference import problem

import cyrnn
from cyrnn import _kernels, _updates
from cyrnn._kernels.runtime import buffers, threads

SIZES = (1, 2, 3, 5, 8, 17)
LARGE = (40, 60, 9, 20, 24)  # whose caches go into the pool
FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


def digest(value, found=None):
    """A digest of the bits of all arrays in a nested result."""
    own = hashlib.blake2b(digest_size=12) if found is None else found
    if isinstance(value, np.ndarray):
        own.update(repr((value.dtype.str, value.shape)).encode() + value.tobytes())
    elif isinstance(value, dict):
        digest(list(value.items()), own)
    elif isinstance(value, (list, tuple)):
        for part in value:
            digest(part, own)
    else:
        own.update(repr(value).encode())
    return own.digest() if found is None else None


def of_dtype(value, dtype):
    """The same with arrays of another dtype."""
    if isinstance(value, dict):
        return {name: of_dtype(part, dtype) for name, part in value.items()}
    return value.astype(dtype) if isinstance(value, np.ndarray) else value


def drawn(rng):
    """A cell, a problem of it in one of the precisions."""
    cell = CELLS[rng.integers(len(CELLS))]
    size = LARGE if rng.random() < 0.3 else tuple(int(rng.choice(SIZES)) for _ in range(5))
    q = problem(cell.name, *size, seed=int(rng.integers(1 << 30)))
    dtype = rng.choice([np.float64, np.float32])
    for name, value in vars(q).items():
        setattr(q, name, of_dtype(value, dtype))
    return cell, q


def sequence(rng):
    cell, q = drawn(rng)
    lengths = rng.integers(0, q.x.shape[2], q.x.shape[1], endpoint=True) if rng.random() < 0.3 else None
    out = cell.forward(q, lengths=lengths)
    steps = out.caches[0]
    looked_at = [steps[t][:-1] for t in range(0, len(steps), 3)]
    whole = cell.backward(q.da, out.caches)
    if lengths is None and rng.random() < 0.3:
        steps[0] = steps[0]  # from now on an ordinary list
        return out.a, out.y, looked_at, whole, cell.backward(q.da, out.caches)
    return out.a, out.y, looked_at, whole


def one_step(rng):
    cell, q = drawn(rng)
    out = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
    return out.a, out.y, cell.cell_backward(q.da[:, :, 0], q.dc, out.cache)


def network(rng):
    q = networks.draw(rng)
    out = networks.forward(q)
    back = networks.backward(q, out.caches)
    return out.y, out.a, out.states, back.gradients, back.dx, back.dstates


def stream(rng):
    _, q = drawn(rng)
    made = cyrnn.Stream(q.p, q.x.shape[1], output="softmax", dtype=q.x.dtype)
    first = made.step(np.ascontiguousarray(q.x[:, :, 0]))
    block = made.run(q.x)
    made.reset()
    return first, block, made.state


def training(rng):
    cell, q = drawn(rng)
    p = {name: value.copy() for name, value in q.p.items()}
    v, s = cyrnn.initialize_adam(p)
    out = cell.forward(q)
    n_y, m, T_x = out.y.shape
    loss, dz = cyrnn.cross_entropy(out.y, rng.integers(0, n_y, (m, T_x)))
    gradients = cyrnn.output_backward(dz, out.a, q.p)
    gradients |= cell.backward(gradients["da"], out.caches)
    clipped, norm = cyrnn.clip_gradients({"d" + name: gradients["d" + name] for name in p}, norm=1.0)
    cyrnn.update_parameters_with_adam(p, clipped, v, s, t=1)
    return loss, norm, p, v, s, cyrnn.softmax(out.a), cyrnn.sigmoid(out.a)


KINDS: tuple[Callable, ...] = (sequence, one_step, network, stream, training)


def result(seed):
    """The digest of the problem of that seed."""
    rng = np.random.default_rng(seed)
    return digest(KINDS[rng.integers(len(KINDS))](rng))


def on_threads(count, work):
    """Begin `work(k)` on so many threads at once; their results."""
    ready = threading.Barrier(count)

    def begin(k):
        ready.wait()
        return work(k)

    with ThreadPoolExecutor(count) as pool:
        return [job.result() for job in [pool.submit(begin, k) for k in range(count)]]


def compute(count, seconds, seed, problems=200, serial=False):
    """Problems at random on all threads, each compared with one thread alone; how many."""
    want = [result([seed, k]) for k in range(problems)]
    until = time.perf_counter() + seconds

    def work(k):
        rng, made = np.random.default_rng([seed, k]), 0
        while made < 20 or time.perf_counter() < until:
            case = int(rng.integers(problems))
            assert result([seed, case]) == want[case], f"problem {[seed, case]} in another thread"
            made += 1
            if not serial and k == 0 and made % 16 == 0:
                cyrnn.set_num_threads(int(rng.integers(1, 4)))
            if k == 1 and made % 64 == 0:
                cyrnn.release_memory()
        return made

    done = sum(on_threads(count, work))
    assert threads.busy_threads() == 0
    return done


def first_use(count):
    """The modules of a build, imported at their first use by all threads at once."""
    kernels = _kernels.Kernels(_kernels.build, "f32")
    names = _kernels._modules(f"{_kernels.build}.f32")
    found = on_threads(count, lambda k: [getattr(kernels, name) for name in names])
    assert all(modules == found[0] for modules in found)


def one_stream(count, steps=200):
    """Every step has the same input: the state is that after as many steps as were made, others are refused."""
    refused = 0
    for cell in CELLS:
        q = problem(cell.name, 3, 6, 2, 1, 1)
        if cell.memory:  # which grows with every step: in the others so many equal steps come to rest
            q.p["Wf"][:], q.p["bf"][:] = 0.0, 50.0
        shared, xt = cyrnn.Stream(q.p, 1, output="softmax"), np.ascontiguousarray(q.x[:, :, 0])
        # one `out` for each thread, which the stream remembers
        outs = [tuple(np.empty_like(part) for part in shared.step(xt)) for _ in range(count)]
        shared.reset()
        alone = cyrnn.Stream(q.p, 1, output="softmax")
        known = [digest(alone.step(xt)) for _ in range(steps * count)]

        def work(k, shared=shared, xt=xt, outs=outs, right=frozenset(known)):
            made, others = 0, 0
            for t in range(steps):
                try:
                    got = shared.step(xt, outs[k] if t % 3 else None)
                    made += 1
                    assert digest(got) in right  # of `out` too, which is this thread's own
                except RuntimeError as error:
                    others += str(error) == "this stream is making a step in another thread"
                if t % 7 == 0:
                    try:
                        _ = shared.state, repr(shared)
                    except RuntimeError:
                        others += 1
            return made, others

        found = on_threads(count, work)
        made = sum(pair[0] for pair in found)
        refused += sum(pair[1] for pair in found)
        assert made > 0
        assert made + sum(pair[1] for pair in found) >= steps * count  # every other one was refused
        alone.reset()
        for _ in range(made):
            alone.step(xt)
        assert digest(shared.state) == digest(alone.state)
    return refused


def one_list_of_caches(count, times=40):
    """Read and edited at once: every step is one tuple for all, and all edits are in one list."""
    for k in range(times):
        cell = CELLS[k % len(CELLS)]
        q = problem(cell.name, 3, 4, 2, 2, 12, seed=k)
        caches = cell.forward(q).caches
        want, steps = digest(cell.backward(q.da, caches)), caches[0]

        def read(_k, steps=steps):
            return [id(step) for step in steps]

        def back(_k, cell=cell, q=q, caches=caches):
            return digest(cell.backward(q.da, caches))

        assert len({tuple(ids) for ids in on_threads(count, read)}) == 1
        assert set(on_threads(count, back)) == {want}

        def edit(k, steps=steps):
            repr(steps), len(steps)
            steps.append(steps[k % 12])
            return len(steps)

        most = max(on_threads(count, edit))
        assert most == 12 + count
        assert len(steps) == 12 + count


def counts(count, times=500):
    """No update is lost, no setting, no buffer, no thread that is busy."""
    before, arrays = _updates.count, [[np.zeros(1)] for _ in range(count)]

    def work(k):
        for _ in range(times):
            _updates.note(arrays[k])
            cyrnn.set_num_threads(1 + k % 2)
            assert cyrnn.get_num_threads() in (1, 2)
            buffers.arrays((100, 100 + k), (64, 200))
            threads.paused()
            assert buffers.pooled_bytes() >= 0

    on_threads(count, work)
    assert _updates.count == before + count * times
    buffers.release_pool()
    assert buffers.pooled_bytes() == 0


def run(count, seconds, seed=0, serial=False):
    """Everything; what was done."""
    first_use(count)
    done = compute(count, seconds, seed, serial=serial)
    refused = one_stream(count)
    one_list_of_caches(count)
    if not serial:
        counts(count)
    cyrnn.set_num_threads(1 if serial else None)
    return done, refused


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serial", action="store_true")
    options = parser.parse_args()
    if options.serial:
        cyrnn.set_num_threads(1)
    start = time.perf_counter()
    done, refused = run(options.threads, options.seconds, options.seed, options.serial)
    how = "no GIL" if FREE_THREADED else "a GIL"
    took = time.perf_counter() - start
    print(f"{options.threads} threads, {how}: {done} problems in {took:.0f} s, all right; one stream refused {refused}")


if __name__ == "__main__":
    main()
