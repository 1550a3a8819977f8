"""The page of a run: one HTML file with everything in it."""

from collections.abc import Sequence

from diffprob import __version__
from diffprob.reporting import summary
from diffprob.reporting.html import RenderedSection, document
from diffprob.reporting.material import Material
from diffprob.reporting.sections import SECTIONS, Section


def report_page(material: Material, sections: Sequence[Section] = SECTIONS) -> bytes:
    """The report of a run as one self-contained HTML page in UTF-8.

    It makes no request, runs no script, and names no absolute path, machine or user.

    Args:
        material: what it is made of.
        sections: in the order of the page; one without anything to show is left out.

    Raises:
        InputError: jinja2 is missing, or the measurements are damaged.
    """
    parts = [RenderedSection(s.id, s.title, body) for s in sections if (body := s.render(material)) is not None]
    name = summary.without_paths(material.run.recipe.name)
    values = {
        "name": name,
        "verdict": summary.in_one_line(material),
        "facts": summary.overview(material),
        "version": __version__,
    }
    return document("report", f"{name}: diffprob report", values, parts)
