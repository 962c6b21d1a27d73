"""Builds the site: `pip install ".[docs]" && sphinx-build -W docs site`, then open site/index.html.

The tutorials are run meanwhile, which is their test; `-D nb_execution_mode=off` leaves that out.
"""

import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import jupytext
from sphinx.util import logging
from sphinx.util.inspect import signature as inspect_signature
from sphinx.util.inspect import stringify_signature

import tibert_keras
from tibert_keras.cli.main import VERBS, main
from tibert_keras.models.tibert_presets import PRESETS

DOCS = Path(__file__).parent
TUTORIALS = DOCS.parent / "examples" / "tutorials"
PAGE = DOCS.parent / "tibert_keras" / "serving" / "page"

project = "tibert_keras"
author = "The tibert_keras authors"
release = version = tibert_keras.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
templates_path: list[str] = []
html_theme = "furo"
html_title = f"tibert_keras {version}"
html_copy_source = False
html_show_copyright = False
html_static_path = [str(PAGE / "NotoSerifTibetan.woff2"), "site.css"]
html_css_files = ["site.css"]
html_search_scorer = str(DOCS / "search.js")
# The list of operations of decision 8 is fenced for the tests that read it, not for a language.
suppress_warnings = ["misc.highlighting_failure"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
# Logs and progress bars.
nb_output_stderr = "remove"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Call arguments", "params_style")]
maximum_signature_line_length = 120


def _write_verbs(app: Any) -> None:
    """Write the reference of the command line from what `--help` prints."""
    pages = ["# Verbs and their flags\n", "```text", _help(), "```\n"]
    for verb in VERBS:
        pages += [f"## tibert {verb}\n", "```text", _help(*verb.split()), "```\n"]
    _write_if_new(DOCS / "reference" / "verbs.md", "\n".join(pages))


def _write_tutorials(app: Any) -> None:
    """Write the scripts of `examples/tutorials` as notebooks in Markdown, which are run when they are read."""
    for script in TUTORIALS.glob("*.py"):
        notebook = jupytext.read(script)
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.metadata = {"file_format": "mystnb", "kernelspec": kernel}
        _write_if_new(DOCS / "tutorials" / f"{script.stem}.md", jupytext.writes(notebook, "md:myst"))


def _copy_cards(app: Any) -> None:
    """Copy the cards of the models that come with the package, with their pictures."""
    for file in [*PRESETS.glob("*/CARD.md"), *PRESETS.glob("*/*.png")]:
        folder = DOCS / "cards" / file.parent.name
        folder.mkdir(exist_ok=True)
        shutil.copy2(file, folder)


def _write_if_new(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    # An equal page would be built anew.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _help(*verb: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main([*verb, "--help"])
    return printed.getvalue().rstrip()


def _to_restructured_text(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn the Markdown of a docstring, as Keras writes it, into what autodoc reads."""
    text = re.sub(
        r"^( *)```python\n(.*?)^ *```$",
        lambda match: f"\n{match[1]}.. code-block:: python\n\n{re.sub('^', '    ', match[2], flags=re.MULTILINE)}\n",
        "\n".join(lines),
        flags=re.DOTALL | re.MULTILINE,
    )
    # In a plural, such as that of `[MASK]`, nothing separates the literal from the letter.
    text = re.sub(r"(?<!`)`([^`\n]+)`(?!`)(?=(\w?))", lambda match: f"``{match[1]}``" + "\\ " * bool(match[2]), text)
    text = re.sub(r"\[([^\]\n]+)\]\((https?://[^)\s]+)\)", r"`\1 <\2>`__", text)
    lines[:] = text.splitlines()


def _sign_as_init(app: Any, what: str, name: str, obj: Any, options: Any, signature: str, returns: str) -> Any:
    """Show the arguments of `__init__`, where autodoc shows those of Keras's `__new__`, which takes any."""
    if what != "class":
        return None
    arguments = inspect_signature(obj.__init__, bound_method=True)
    return stringify_signature(arguments, show_return_annotation=False, unqualified_typehints=True), None


def _find_undocumented(app: Any, env: Any) -> None:
    """Warn of public names that the reference lacks."""
    names = {*tibert_keras.__all__, *(f"callbacks.{name}" for name in tibert_keras.callbacks.__all__)} - {"callbacks"}
    for name in sorted(names):
        if f"tibert_keras.{name}" not in env.get_domain("py").objects:
            logging.getLogger(__name__).warning("docs/reference/python.md does not describe %s", name)


def setup(app: Any) -> None:
    """Connect the steps above."""
    app.connect("builder-inited", _write_verbs)
    app.connect("builder-inited", _write_tutorials)
    app.connect("builder-inited", _copy_cards)
    # Before napoleon, which has the default priority of 500.
    app.connect("autodoc-process-docstring", _to_restructured_text, priority=400)
    app.connect("autodoc-process-signature", _sign_as_init)
    app.connect("env-check-consistency", _find_undocumented)
