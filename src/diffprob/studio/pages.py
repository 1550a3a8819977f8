"""From values to pages of the studio: escaped everywhere, no script inside them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.text import printable
from diffprob.reporting.html import stylesheet

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).resolve().parent
MEDIA = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


def fill(template: str, values: Mapping[str, Any]) -> str:
    """The template with ``values``, each of which is escaped."""
    page = _environment().get_template(f"{template}.html.jinja").render(values)
    return "\n".join(map(printable, page.split("\n"))).encode("utf-8", "replace").decode()


@cache
def static(name: str) -> tuple[str, bytes] | None:
    """Media type and bytes of a script or style sheet of the studio; None: there is none of this name."""
    if name == "style.css":
        own = (HERE / "static" / "studio.css").read_text("utf-8")
        return MEDIA[".css"], f"{stylesheet()}\n{own}".encode()
    if name not in ("htmx.min.js", "sse.min.js"):
        return None
    return MEDIA[".js"], (HERE / "static" / name).read_bytes()


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(HERE / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
