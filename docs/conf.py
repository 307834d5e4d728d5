"""The site: sphinx-build -W -n --keep-going -b html docs build/site."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

from sphinx.util import logging

import cyrnn
from cyrnn import estimators

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import blocks  # noqa: E402
import figures  # noqa: E402

os.environ.setdefault("KERAS_BACKEND", "torch")  # of the pages that convert weights
cyrnn.set_num_threads(1)  # the pages' networks are small, and other work may run beside the build

project = "cyrnn"
author = "The cyrnn developers"
version = release = cyrnn.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_generated"]
nitpicky = True
templates_path = ["templates"]
highlight_language = "none"
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
# Not checked: a See Also section and a longer summary, which not every function needs; the mood of the summary, since
# a plural ("Gradients of ...") is taken for a verb; and whether None, as what is returned, is described.
numpydoc_validation_checks = {"all", "SA01", "ES01", "SS05", "RT03"}

html_theme = "pydata_sphinx_theme"
html_title = "cyrnn"
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "install": [], "guide": [], "speed": []}
copyright = "2026, the cyrnn developers"
copybutton_selector = "div.highlight:not(.output *) pre"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

PUBLIC = {name: f"cyrnn.{name}" for name in cyrnn.__all__ if name != "__version__"}
PUBLIC |= {name: f"cyrnn.estimators.{name}" for name in estimators.__all__}

logger = logging.getLogger(__name__)


def run_examples(app, docname, source):
    """Run the page's code; what it prints must be what the page shows."""
    if docname.startswith("api/"):
        return
    page = source[0]
    if missing := blocks.missing(page):
        logger.info("the examples of %s are not run without %s", docname, ", ".join(missing))
    else:
        for code, shown, printed in blocks.run(page, HERE / "_generated"):
            if printed != shown:
                logger.warning("this code:\n%s\nprints:\n%s", code, printed, location=docname)
    source[0] = link_functions(blocks.with_outputs(page))


def link_functions(page):
    """Make a link of each public name that is code in the text of a page, outside of blocks and of other links."""

    def linked(match):
        return f"{{py:obj}}`{match[1]} <{PUBLIC[match[1]]}>`" if match[1] in PUBLIC else match[0]

    parts = re.split(r"(^```.*?^```$)", page, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = [re.sub(r"(?<![`\[}])`(\w+)`(?!`)", linked, part) for part in parts[::2]]
    return "".join(parts)


def link_names(app, what, name, obj, options, lines):
    """Make a link of a name in single backquotes where it is public, code elsewhere."""

    def linked(match):
        word = match[1].removeprefix("cyrnn.")
        return f":py:obj:`{word} <{PUBLIC[word]}>`" if word in PUBLIC else f"``{match[1]}``"

    lines[:] = [re.sub(r"(?<![`:])`([^`<]+)`(?!`)", linked, line) for line in lines]


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out what a class inherits from other packages."""
    return skip or not (getattr(obj, "__module__", None) or "cyrnn").startswith("cyrnn")


def check_names(app, env):
    """Warn of a public function, class or method that no page describes."""
    names = set(PUBLIC.values())
    for name in estimators.__all__:
        methods = inspect.getmembers(getattr(estimators, name), inspect.isfunction)
        own = [key for key, method in methods if key[0] != "_" and method.__module__.startswith("cyrnn")]
        names.update(f"{PUBLIC[name]}.{key}" for key in own)
    for name in names - set(env.get_domain("py").objects):
        logger.warning("no page describes %s", name)


def draw(app):
    """Draw the figures of the measurements; run the short form of each example that draws, for its picture."""
    folder = HERE / "_generated"
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(Path(cyrnn.__file__).parents[1])}
    for script in sorted((HERE.parent / "examples").glob("*.py")):
        picture = folder / f"{script.stem}.png"
        if "--picture" in script.read_text() and not (
            picture.exists() and picture.stat().st_mtime > script.stat().st_mtime
        ):
            command = [sys.executable, str(script), "--quick", "--picture", str(picture)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                logger.warning("%s: %s", script.name, done.stderr)
    figures.speed(folder / "speed.svg")
    figures.latency(folder / "latency.svg")
    figures.accuracy(folder / "accuracy.svg")


def setup(app):
    """Connect these functions to the build."""
    app.connect("autodoc-process-docstring", link_names, priority=900)  # after numpydoc
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("builder-inited", draw)
    app.connect("env-check-consistency", check_names)
    app.connect("source-read", run_examples)
