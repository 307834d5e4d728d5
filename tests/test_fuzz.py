"""Random calls, and random lives of the caches: a short run of what `python tests/fuzz.py` does for hours."""

import copy
import pickle

import fuzz
import numpy as np
from cells import CELLS
from fuzz_oracle import compare
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule

import cyrnn
from cyrnn.demo import numpy_reference

# What takes no arrays, and what is tested with the programs whose weights it reads and writes
NOT_DRAWN = {
    "__version__", "set_num_threads", "get_num_threads", "show_config", "release_memory",
    "load_parameters", "initialize_network", "save_network", "load_network", "from_torch", "to_torch",
    "from_keras", "to_keras", "import_onnx", "export_onnx", "plot_gates", "plot_history",
    "save_checkpoint", "load_checkpoint", "last_steps", "make_batches", "one_hot", "pad_sequences", "sample",
    "to_indices", "reverse_sequences",
}  # fmt: skip


def test_random_calls():
    done = fuzz.run(seed=7, calls=20_000).done
    assert done["refused"] > 2000
    assert done["edits of the caches"] > 100
    assert done["networks"] > 20
    assert min(done[name] for name in cyrnn.__all__ if name not in NOT_DRAWN) > 50
    options = ("c0", "dc", "lengths", "cache", "weights", "out", "norm", "value", "output", "from_logits")
    options += ("variational", "weight_decay", "recurrent", "forget_bias", "states", "dtype")
    assert min(done[f"  with {option}="] for option in options) > 50


class Caches(RuleBasedStateMachine):
    """Caches that are edited, copied, kept while other calls are made, and used: beside the notebook's list."""

    held = Bundle("held")

    @rule(
        target=held,
        cell=st.sampled_from(CELLS),
        size=st.tuples(*[st.integers(1, 9)] * 4, st.integers(1, 6)),
        seed=st.integers(0, 2**20),
    )
    def forward(self, cell, size, seed):
        q = cell.problem(*size, seed=seed)
        q.cell, q.copied, q.plain_x = cell, False, q.x.copy()
        q.steps = cell.forward(q).caches[0]
        q.plain_steps = cell.function("forward", numpy_reference)(q.plain_x, q.a0.copy(), q.p)[-1][0]
        return q

    @rule(target=held, q=held, way=st.sampled_from((copy.deepcopy, lambda steps: pickle.loads(pickle.dumps(steps)))))
    def duplicate(self, q, way):
        other = copy.copy(q)
        other.steps, other.plain_steps, other.copied = way(q.steps), way(q.plain_steps), True
        return other

    @rule(q=held, edit=st.sampled_from(fuzz.EDITS), pick=st.randoms(use_true_random=False))
    def edit(self, q, edit, pick):
        if q.copied and edit in (fuzz.write, fuzz.write_before):
            return  # a copy of an edited list no longer shares the states of neighbours
        state = pick.getstate()
        q.steps = edit(pick, q.steps)
        pick.setstate(state)
        q.plain_steps = edit(pick, q.plain_steps)

    @rule(q=held, other=held)
    def join(self, q, other):
        if q.cell is other.cell and q.x.shape[:2] == other.x.shape[:2] and len(q.a0) == len(other.a0):
            q.steps, q.plain_steps = q.steps + other.steps, q.plain_steps + other.plain_steps
            q.da, q.copied = np.concatenate([q.da, other.da], 2), q.copied or other.copied

    @rule(q=held, factor=st.sampled_from((0.5, -1.0)))
    def change_the_input(self, q, factor):
        if not q.copied:
            q.x *= factor
            q.plain_x *= factor

    @rule(q=held, factor=st.sampled_from((0.5, -1.0)))
    def change_a_weight(self, q, factor):
        if not q.copied:
            q.p[q.cell.inputs[0]] *= factor

    @rule(q=held, steps=st.integers(1, 6))
    def backward(self, q, steps):
        da = q.da[:, :, : min(steps, len(q.plain_steps))]
        want = q.cell.function("backward", numpy_reference)(da, (q.plain_steps, None))
        compare(q.cell.backward(da, (q.steps, q.x)), want)


Caches.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None, derandomize=True)
TestCaches = Caches.TestCase
