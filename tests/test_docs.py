"""The pages: every block of Python runs and prints what the block after it shows; every link has a target."""

import importlib.util
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import cyrnn

ROOT = Path(__file__).parent.parent
ALL = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def module(path):
    """Import a file of the documentation, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


blocks = module(ROOT / "docs" / "blocks.py")
figures = module(ROOT / "docs" / "figures.py")
PAGES = [page for page in ALL if blocks.BLOCK.search(page.read_text())]


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")  # Keras on PyTorch
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples(page):
    text = page.read_text()
    if missing := blocks.missing(text):
        pytest.skip(f"{', '.join(missing)}: not installed")
    for _, shown, printed in blocks.run(text):
        assert printed == shown


def test_every_page_with_examples_is_found():
    names = {"float32.md", "guide.md", "networks.md", "onnx.md", "streaming.md", "training.md", "weights.md"}
    names.add("README.md")
    assert {page.name for page in PAGES} >= names
    for page in PAGES:  # none that the pattern overlooks
        assert len(blocks.BLOCK.findall(page.read_text())) == len(re.findall("^ *```+ *{?py", page.read_text(), re.M))


def anchors(page):
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_links(page):
    """Links between the pages and to files, and to headings, as a reader of the repository follows them."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists() or "_generated" in path, target
        if anchor:
            found = anchors(ROOT / "CONTRIBUTING.md" if file.name == "contributing.md" else file)
            assert anchor in found, target


def test_every_public_name_has_a_page():
    api = (ROOT / "docs" / "api.md").read_text()
    before, estimators, after = re.split(r"(?=^## (?:Estimators|One step at a time)$)", api, flags=re.MULTILINE)
    init = (ROOT / "src" / "cyrnn" / "estimators" / "__init__.py").read_text()
    listed = re.findall(r"^   (\w+)$", estimators, re.MULTILINE)
    assert sorted(listed) == sorted(re.findall(r'"(\w+)"', init.split("__all__ = ")[1]))
    listed = re.findall(r"^   (\w+)$", before + after, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in cyrnn.__all__ if name != "__version__")
    calls = dict(re.findall(r"`(\w+)\(([^`]*)\)`", api.split("| call | returns |")[1]))
    for name in listed:
        shown = [argument.partition("=")[0] for argument in calls[name].split(", ") if argument not in ("*", "")]
        arguments = list(inspect.signature(getattr(cyrnn, name)).parameters)
        rest = shown.index("...") if "..." in shown else None  # stands for some
        assert set(shown) - {"..."} <= set(arguments), name
        assert shown[:rest] == arguments[:rest], name


def test_every_page_is_in_the_site():
    trees = re.findall(r"```{toctree}\n:hidden:\n\n(.*?)```", "".join(page.read_text() for page in ALL), re.DOTALL)
    listed = {re.sub(r".*<(.*)>", r"\1", line) for tree in trees for line in tree.split("\n") if line}
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert listed | {"index"} == pages


def test_the_readme_is_short():
    assert (ROOT / "README.md").read_text().count("\n") < 150


def test_the_figure_that_is_kept_is_of_its_table():
    kept = figures.KEPT.read_text()
    assert figures.digest("speed.md") in kept
    assert all(f">{name}</text>" in kept for name in list(figures.table("speed.md")[0])[5:])


def test_readme_has_the_latency_of_the_table():
    rows = figures.table("streaming.md")
    (row,) = (r for r in rows if (r["column 0"], r["n_x, n_a, n_y"], r["column 2"]) == ("LSTM", "16", "Stream, out="))
    assert f"LSTM of 16 units takes [{float(row['median, us']):.1f} us]" in (ROOT / "README.md").read_text()


def test_figures_show_their_tables(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figures, "HERE", tmp_path)
    (tmp_path / "speed.md").write_text(
        "<!-- benchmark -->\nof what\n\n"
        "| n_x, n_a, n_y, m, T_x |  | threads | time | fraction of peak | Theirs | Another |\n"
        "|---|---|---|---|---|---|---|\n"
        "| 1, 22, 3, 4, 5 | LSTM forward | 1 | 3 us | 0.5 | 8.0 | 2.0 |\n"
        "| 1, 333, 3, 44, 5 | LSTM forward | 1 | 3 us | 0.5 | 4.0 |  |\n"
        "| 1, 22, 3, 4, 5 | LSTM forward + backward | 1 | 3 us | 0.5 | 1.0 |  |\n\n- and a line\n<!-- end -->\n"
    )
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, *_: drawn.append(figure))
    figures.speed(tmp_path / "speed.svg")
    left, right = ([list(zip(*line.get_data(), strict=True)) for line in axis.lines] for axis in drawn[0].axes)
    assert left[:2] == [[(0, 8), (1, 4)], [(0, 2)]]
    assert right[0] == [(0, 1)]
    assert [label.get_text() for label in drawn[0].axes[0].get_xticklabels()] == ["22\n4", "333\n44"]


def test_validation_of_docstrings():
    """The checks that the site's build makes, where numpydoc is installed."""
    validate = pytest.importorskip("numpydoc.validate").validate
    conf = (ROOT / "docs" / "conf.py").read_text()
    ignored = set(re.findall(r'"(\w\w\d\d)"', re.search(r"numpydoc_validation_checks = (.*)", conf)[1]))
    assert len(ignored) == 4
    names = [f"cyrnn.{name}" for name in cyrnn.__all__ if name != "__version__"]
    names += [f"cyrnn.Stream.{name}" for name in vars(cyrnn.Stream) if not name.startswith("_")]
    if find_spec("sklearn"):
        from cyrnn import estimators

        for name in estimators.__all__:
            methods = inspect.getmembers(getattr(estimators, name), inspect.isfunction)
            own = [key for key, method in methods if key[0] != "_" and method.__module__.startswith("cyrnn")]
            names += [f"cyrnn.estimators.{name}", *(f"cyrnn.estimators.{name}.{key}" for key in own)]
    wrong = [(name, *error) for name in names for error in validate(name)["errors"] if error[0] not in ignored]
    assert wrong == []
