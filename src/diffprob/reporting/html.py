"""From values to one self-contained HTML page: escaped everywhere, no script, nothing fetched."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.base.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class RenderedSection:
    """A section as HTML, as it stands on a page.

    Args:
        id: of its heading, for links.
        title: the heading.
        body: HTML.
    """

    id: str
    title: str
    body: "Markup"


def fill(template: str, values: Mapping[str, Any]) -> "Markup":
    """The template ``template`` with ``values`` in it; every value is escaped that is not `Markup` already.

    Raises:
        InputError: jinja2 is missing.
    """
    try:
        from markupsafe import Markup
    except ImportError as error:
        raise InputError("reports need jinja2: pip install jinja2") from error
    return Markup(_environment().get_template(f"{template}.html.jinja").render(values))


def document(template: str, title: str, values: Mapping[str, Any], parts: Sequence[RenderedSection]) -> bytes:
    """A whole page in UTF-8.

    The page's own policy (Content-Security-Policy) allows its one style sheet, by hash, and pictures inside it; it
    forbids everything else: scripts, requests, forms, frames.
    """
    style = stylesheet()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    from markupsafe import Markup

    shell = {"title": title, "policy": policy, "style": Markup(style), "parts": parts}
    page = str(fill(template, {**values, **shell}))
    # What an escape for HTML leaves: marks that turn the order of what is read, and what a terminal obeys; and a lone
    # surrogate, which JSON and string literals can hold, has no UTF-8.
    return "\n".join(map(printable, page.split("\n"))).encode()


@cache
def stylesheet() -> str:
    """The CSS of every page."""
    return (TEMPLATES / "style.css").read_text("utf-8").strip()


@cache
def _environment() -> "Environment":
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise InputError("reports need jinja2: pip install jinja2") from error
    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
