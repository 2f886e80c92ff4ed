"""Documents name what exists: links, anchors, paths in backticks, names in `file: name`."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = ("fedfast", "kernels", "csrc", "bench", "tests", "examples", "docs")
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _prose(page):
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


@pages
def test_links_resolve(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pages
def test_named_files_exist(page):
    for text in re.findall(r"`([^`\n]+)`", _prose(page)):
        path, _, name = text.partition(": ")
        if path.split("/")[0] not in TOP or "/" not in path or not re.fullmatch(r"[\w./-]+", path):
            continue
        target = ROOT / path
        assert target.exists(), text
        if re.fullmatch(r"\w+", name):
            assert re.search(rf"\b{name}\b", target.read_text()), text
