"""Use the studio in headless Chromium: each view on a packaged run, light and dark, phone and desktop.

    python tests/browser/check_studio.py http://127.0.0.1:8765/?token=... --axe package/axe.min.js --shots shots/

The address is the one that `diffprob studio` printed. Prints one JSON object; exit code 1 where anything was found: a
console message, a request to elsewhere, sideways scrolling, a violation of axe-core's rules, or a step that fails.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from check_page import SCHEMES, TAGS, chromium

WIDTHS = (360, 1280)
RUN = "digits"


def drive(page, home: str, seen) -> None:
    """All views, as somebody would use them; ``seen(name)`` looks at the page."""
    page.goto(home)
    seen("models")
    page.get_by_role("link", name=RUN, exact=True).last.click()
    page.wait_for_load_state("networkidle")
    seen("model")
    page.get_by_role("link", name="Draw", exact=True).click()
    page.get_by_label("Evaluations of the network").fill("1000")
    page.get_by_role("button", name="Draw").press("Enter")
    page.wait_for_selector(".chain img", timeout=60_000)
    seen("drawing")
    began = time.monotonic()
    page.get_by_role("button", name="Cancel").press("Enter")
    page.wait_for_selector("text=Cancelled.", timeout=60_000)
    print(f"cancelled after {time.monotonic() - began:.1f} s", file=sys.stderr)
    page.get_by_label("Evaluations of the network").fill("10")
    began = time.monotonic()
    page.get_by_role("button", name="Draw").click()
    page.wait_for_selector(".samples img", timeout=60_000)
    print(f"drawn after {time.monotonic() - began:.1f} s", file=sys.stderr)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    seen("drawn")
    page.get_by_label("Images").fill("999")
    page.evaluate("document.querySelector('form').noValidate = true")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_selector("[role=alert]")
    seen("refused")
    page.get_by_role("link", name="Measure", exact=True).click()
    page.get_by_role("button", name="Measure").click()
    page.wait_for_selector("table.pixels", timeout=120_000)
    page.wait_for_timeout(500)
    seen("measured")
    page.get_by_role("link", name="Between", exact=True).click()
    page.get_by_role("button", name="Mix").click()
    slider = page.get_by_label("From the first to the second")
    slider.wait_for(timeout=60_000)
    began = time.monotonic()
    slider.press("ArrowRight")
    page.wait_for_selector("#frame img[alt='Mixture 1 of 11']")
    print(f"the slider answered after {time.monotonic() - began:.2f} s", file=sys.stderr)
    page.wait_for_timeout(500)
    seen("mixed")


def main() -> int:
    """Drive, look, print."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--axe", type=Path, help="axe.min.js")
    parser.add_argument("--shots", type=Path, help="a folder for pictures of the pages")
    given = parser.parse_args()
    axe = None if given.axe is None else given.axe.read_text("utf-8")
    problems: dict[str, list[str]] = {"console": [], "requests": [], "sideways": [], "broken": [], "accessibility": []}
    inside = (given.address.partition("/?")[0], "data:")
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox", *quiet])
        for scheme in SCHEMES:
            for width in WIDTHS:
                size = {"width": width, "height": 900}
                # The pages' own policy forbids other scripts, and the check is one.
                context = browser.new_context(color_scheme=scheme, viewport=size, bypass_csp=axe is not None)
                page = context.new_page()
                # A refused form is an answer that Chromium also notes in its console.
                page.on("console", lambda m: None if "422" in m.text else problems["console"].append(m.text))
                page.on("pageerror", lambda error: problems["console"].append(str(error)))
                page.on("request", lambda r: None if r.url.startswith(inside) else problems["requests"].append(r.url))

                def seen(name: str, page=page, width=width, scheme=scheme) -> None:
                    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    if over > 0:
                        problems["sideways"].append(f"{name}: {over} px at {width}")
                    if name in ("drawn", "measured", "mixed"):
                        lost = page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.alt)")
                        problems["broken"] += [f"{name}: {alt}" for alt in lost]
                    if given.shots is not None:
                        given.shots.mkdir(parents=True, exist_ok=True)
                        page.screenshot(path=given.shots / f"{name}-{width}-{scheme}.png", full_page=True)
                    if axe is not None:
                        page.evaluate(axe)
                        rules = {"runOnly": {"type": "tag", "values": TAGS}}
                        for rule in page.evaluate("options => axe.run(document, options)", rules)["violations"]:
                            nodes = [" ".join(map(str, node["target"])) for node in rule["nodes"][:3]]
                            problems["accessibility"].append(f"{name} {scheme} {width}: {rule['id']}: {nodes}")

                drive(page, given.address, seen)
                context.close()
        browser.close()
    print(json.dumps(problems, indent=1))
    return int(any(problems.values()))


if __name__ == "__main__":
    raise SystemExit(main())
