"""Fails where a page of the site fetches from elsewhere, or links to what is not there.

    python docs/site/check.py build/site

Links of the text to other sites are for readers to follow; images, scripts, styles and fonts have
to be the site's own.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
STYLE = re.compile(r"url\(\s*[\"']?(https?:|//)|@import\s+[\"'](https?:|//)")


class Page(HTMLParser):
    """What one page fetches, and the pages of the site it links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each opening tag."""
        values = dict(attrs)
        relation = values.get("rel") or ""
        if (name := FETCHED.get(tag)) and values.get(name) and relation not in ("canonical",):
            self.fetched.append(str(values[name]))
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))


def problems(site: Path) -> list[str]:
    """One line per address that is outside, or missing."""
    found = []
    for path in sorted(site.rglob("*.html")):
        page, here = Page(path), path.relative_to(site)
        found += [f"{here}: fetches {url}" for url in page.fetched if _outside(url)]
        inside = [url for url in (*page.fetched, *page.links) if not _outside(url)]
        found += [f"{here}: no such file: {url}" for url in inside if not _exists(path, url)]
    for path in sorted(site.rglob("*.css")):
        if STYLE.search(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(site)}: fetches from elsewhere")
    return found


def _outside(url: str) -> bool:
    return bool(urlparse(url).netloc) or urlparse(url).scheme in ("mailto", "data")


def _exists(page: Path, url: str) -> bool:
    path = unquote(urlparse(url).path)
    return not path or path.startswith("/") or (page.parent / path).exists()


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong) or "the site fetches nothing from elsewhere")
    sys.exit(bool(wrong))
