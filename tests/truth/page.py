"""What every page must be: read with html.parser, which knows nothing of how the page was made."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "img", "br", "hr", "input", "line", "polyline"}
URL = re.compile(r"(?:[a-z]+:)?//|javascript:|file:", re.IGNORECASE)


class Page(HTMLParser):
    """A parsed page: its elements as (tag, attributes), its text, and whatever is wrong with it."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.problems: list[str] = []
        self.texts: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(page.decode("utf-8"))
        self.close()
        if self._open:
            self.problems.append(f"never closed: {self._open}")
        self._look()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.problems.append(f"{tag} has an attribute twice: {names}")
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> closes {self._open[-1:]}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """Everything that can be read, without line breaks."""
        return " ".join(" ".join(self.texts).split())

    def all(self, *tags: str) -> list[dict[str, str]]:
        """Attributes of every element with one of the tags."""
        return [attributes for tag, attributes in self.elements if tag in tags]

    def _look(self) -> None:
        say = self.problems.append
        for tag, attributes in self.elements:
            if tag in {"script", "iframe", "object", "embed", "form", "base", "foreignobject", "video", "audio"}:
                say(f"<{tag}>")
            for name, value in attributes.items():
                if name.startswith("on") or name in {"style", "srcdoc", "srcset", "action", "ping"}:
                    say(f"<{tag} {name}={value!r}>")
                if name in {"src", "href", "xlink:href", "poster", "data", "cite", "background"}:
                    fine = value.startswith("#") if tag == "a" else value.startswith(("data:image/", "data:,"))
                    if not fine or (tag != "img" and URL.search(value)):
                        say(f"<{tag} {name}={value[:60]!r}>")
            if tag == "img" and not attributes.get("alt"):
                say("an image without a text")
            if tag == "th" and attributes.get("scope") not in {"col", "row"}:
                say(f"a heading of a table without scope: {attributes}")
            if tag == "svg" and attributes.get("aria-hidden") != "true" and not attributes.get("aria-label"):
                say(f"a drawing without a text: {attributes}")
        if URL.search(self.style) or "@import" in self.style or "url(" in self.style:
            say("the style sheet asks for something")
        if len(self.all("table")) != len(self.all("caption")):
            say("a table without a caption")
        self._structure()

    def _structure(self) -> None:
        say = self.problems.append
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        if len(ids) != len(set(ids)):
            say(f"ids are not unique: {sorted(ids)}")
        wanted = {href[1:] for a in self.all("a") if (href := a.get("href", "")).startswith("#")}
        wanted |= {a["aria-labelledby"] for _, a in self.elements if "aria-labelledby" in a}
        if not wanted <= set(ids):
            say(f"nothing has the id {sorted(wanted - set(ids))}")
        levels = [int(tag[1]) for tag, _ in self.elements if re.fullmatch(r"h[1-6]", tag)]
        steps = any(b > a + 1 for a, b in pairwise(levels))
        if levels[:1] != [1] or levels.count(1) != 1 or steps:
            say(f"headings out of order: {levels}")
        if [a.get("lang") for a in self.all("html")] != ["en"]:
            say("no language")
        if len(self.all("main")) != 1 or len(self.all("title")) != 1:
            say("one main part and one title")
        policy = next((a["content"] for a in self.all("meta") if a.get("http-equiv") == "Content-Security-Policy"), "")
        digest = base64.b64encode(hashlib.sha256(self.style.encode()).digest()).decode()
        styled = f"style-src 'sha256-{digest}'" in policy
        if not policy.startswith("default-src 'none'; ") or not styled or "unsafe" in policy:
            say(f"policy: {policy}")


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours #rrggbb or #rgb (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
        parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)
