"""exp, tanh, sigmoid, log and the vectors on floats, compiled alone: a sample of what portable/float32.py checks."""

import importlib.util
import shutil
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "portable" / "float32.py"
MOST_ULP = {"exp": 1.05, "tanh": 1.2, "sigmoid": 1.77, "log": 0.9}  # of all arguments, see docs/numerics.md


@pytest.mark.skipif(not PROGRAM.with_suffix(".c").exists(), reason="not in a source distribution, which has no C")
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_functions_and_vectors_of_floats(build, tmp_path):
    spec = importlib.util.spec_from_file_location("float32", PROGRAM)
    float32 = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(float32)
    largest, wrong = float32.check(float32.compiled(build, tmp_path), sample=True)
    assert not wrong
    assert all(error <= MOST_ULP[name] for name, (error, _) in largest.items())
    assert largest.keys() == MOST_ULP.keys()
