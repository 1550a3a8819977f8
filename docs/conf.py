"""Sphinx: Markdown pages, and a reference made from the docstrings."""

import re

from sphinx.application import Sphinx

project = "diffprob"
author = "The diffprob authors"
project_copyright = "The diffprob authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "diffprob"
exclude_patterns = ["build"]

myst_heading_anchors = 3

default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # forward would get that of torch
autodoc_typehints = "signature"
autodoc_preserve_defaults = False  # methods that draw have a signature of their own
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

_CODE = re.compile(r"(``.+?``|`[^`\s][^`]*`)")
_SECTION = re.compile(r"^(Args|Raises|Returns|Yields|Attributes|Example|Examples|Note):\s*$")


def _escape(line: str) -> str:
    """Docstrings hold formulas in plain text: |x|, x_t*, a_: no markup is meant outside code."""
    parts = _CODE.split(line)
    return "".join(part if i % 2 else re.sub(r"([\\*|]|_(?!\w))", r"\\\1", part) for i, part in enumerate(parts))


def _plain_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Escape formulas, and show indented blocks as they are typed; sections such as Args are left to napoleon."""
    result: list[str] = []
    in_section = False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent == 0:
            in_section = bool(_SECTION.match(line))
        block = indent > 0 and not in_section
        starts = block and (not result or not result[-1].startswith("| ") or not result[-1].strip())
        if starts and result and result[-1].strip():
            result.append("")
        if block:
            result.append("| " + "\u00a0" * (indent - 4) + _escape(line.strip()))
            continue
        if result and result[-1].startswith("| ") and line.strip():
            result.append("")
        result.append(_escape(line))
    lines[:] = result


def setup(app: Sphinx) -> None:
    """Runs before napoleon, which listens with priority 500."""
    app.connect("autodoc-process-docstring", _plain_text, priority=100)
