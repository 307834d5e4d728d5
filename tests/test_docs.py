"""The pages' examples: every block of Python runs, in order, and prints what the block after it shows."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(.*?)```(?:\s*```\n(.*?)```)?", re.DOTALL)
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if BLOCK.search(page.read_text())]


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")  # Keras on PyTorch
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples(page, capsys, tmp_path, monkeypatch):
    blocks = BLOCK.findall(page.read_text())
    for module in set(re.findall(r"^(?:import|from) (\w+)", "\n".join(code for code, _ in blocks), re.MULTILINE)):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    names = {}
    for code, shown in blocks:
        exec(code, names)
        assert capsys.readouterr().out == shown
    assert blocks


def test_every_page_with_examples_is_found():
    names = {"README.md", "float32.md", "guide.md", "networks.md", "onnx.md", "streaming.md", "weights.md"}
    assert {page.name for page in PAGES} >= names
