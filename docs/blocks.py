"""The examples of a page: its blocks of Python run one after the other, each with what the page says that it prints.

Used by the tests and by the build of the site, so that a page has one meaning.
"""

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\s*^```\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)


def missing(page: str) -> list[str]:
    """Return the modules that the examples of a page import and that are not installed."""
    code = "\n".join(code for code, _ in BLOCK.findall(page))
    names = re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE) + ["matplotlib"] * ("plot_" in code)
    return [name for name in dict.fromkeys(names) if find_spec(name) is None]


def run(page: str, pictures: Path | None = None) -> Iterator[tuple[str, str, str]]:
    """Run the examples in a folder of their own; of each give the code, what the page shows, and what it printed.

    The pictures that they save are kept in a folder, if one is given.
    """
    names: dict[str, object] = {}
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for code, shown in BLOCK.findall(page):
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(code, names)
                yield code, shown, printed.getvalue()
            for picture in Path(folder).glob("*.png") if pictures else ():
                shutil.copy(picture, pictures)
        finally:
            os.chdir(here)


def with_outputs(page: str) -> str:
    """Mark what a block prints as output, so that the site shows it differently and offers no copy of it."""
    def marked(match: re.Match[str]) -> str:
        code, output = match.groups()
        shown = f"\n```{{code-block}} text\n:class: output\n\n{output}```" if output else ""
        return f"```python\n{code}```\n{shown}"

    return BLOCK.sub(marked, page)
