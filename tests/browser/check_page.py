"""Open pages in headless Chromium: no console message, no request, no sideways scrolling, no accessibility violation.

See README.md beside this file. Prints one JSON object a page; exit code 1 where anything was found.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

WIDTHS = (360, 375, 768, 1280)
SHOTS = (375, 1280)
SCHEMES = ("light", "dark")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def chromium() -> str | None:
    """The browser: $CHROMIUM, or one on the path, or None: Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)


def look(context, page_file: Path, problems: dict, width: int):
    """A page that is open, with everything noted that it said or asked for."""
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.on("console", lambda message: problems["console"].append(message.text))
    page.on("pageerror", lambda error: problems["console"].append(str(error)))
    # data: is no request; the page itself is the first.
    page.on("request", lambda r: None if r.url.startswith("data:") else problems["requests"].append(r.url))
    page.goto(page_file.resolve().as_uri())
    page.wait_for_load_state("networkidle")
    problems["requests"] = [url for url in problems["requests"] if url != page_file.resolve().as_uri()]
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        problems["sideways"].append(f"{overflow} px at {width}")
    broken = page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)")
    problems["broken images"] += broken
    if page.evaluate("window.__executed === true || document.scripts.length"):
        problems["scripts"].append(f"at {width}")
    return page


def check(browser, page_file: Path, axe: str | None, shots: Path | None) -> dict:
    """What was found on one page, by kind; every list is empty where all is well."""
    problems: dict = {
        "console": [],
        "requests": [],
        "sideways": [],
        "broken images": [],
        "scripts": [],
        "accessibility": [],
    }
    for scheme in SCHEMES:
        context = browser.new_context(color_scheme=scheme, device_scale_factor=1)
        for width in WIDTHS:
            page = look(context, page_file, problems, width)
            if shots is not None and width in SHOTS:
                page.screenshot(path=shots / f"{page_file.stem}-{width}-{scheme}.png", full_page=True)
            page.close()
        context.close()
        if axe is not None:
            # The page's own policy forbids scripts, and the check is one.
            context = browser.new_context(color_scheme=scheme, bypass_csp=True)
            for width in SHOTS:
                page = look(context, page_file, {key: [] for key in problems}, width)
                page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
                page.evaluate(axe)
                options = {"runOnly": {"type": "tag", "values": TAGS}}
                result = page.evaluate("options => axe.run(document, options)", options)
                for rule in result["violations"]:
                    nodes = [" ".join(map(str, node["target"])) for node in rule["nodes"][:3]]
                    problems["accessibility"].append(f"{scheme} {width}: {rule['id']}: {rule['help']}: {nodes}")
                problems.setdefault("accessibility rules passed", len(result["passes"]))
                page.close()
            context.close()
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--axe", type=Path, help="axe.min.js of the npm package axe-core")
    parser.add_argument("--shots", type=Path, help="folder for screenshots")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    axe = None if args.axe is None else args.axe.read_text("utf-8")
    if args.shots is not None:
        args.shots.mkdir(parents=True, exist_ok=True)
    bad = False
    with sync_playwright() as play:
        # Root in a container has no sandbox.
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = play.chromium.launch(executable_path=chromium(), args=flags)
        for page_file in args.pages:
            problems = check(browser, page_file, axe, args.shots)
            bad = bad or any(value for value in problems.values() if isinstance(value, list))
            print(json.dumps({"page": page_file.name, "browser": browser.version, **problems}, indent=1))
        browser.close()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
