"""Pages of tutorials: scripts of cells, `# %% [markdown]` and `# %%`, as notebooks have them."""

from __future__ import annotations

import re
from pathlib import Path

CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)


def page(script: Path) -> str:
    """The script as a document: text cells as they are, code cells in fences."""
    _, *parts = CELL.split(script.read_text())  # what comes before the first cell is for readers
    cells = zip(parts[::2], parts[1::2], strict=True)  # of the script
    made = [_text(body) if "[markdown]" in kind else _code(body) for kind, body in cells]
    end = f"\n---\nThis page is a script: [`{script.name}`]({script.name}).\n"
    return "\n\n".join(filter(None, made)) + end


def _text(body: str) -> str:
    return "\n".join(re.sub(r"^# ?", "", line) for line in body.strip().splitlines())


def _code(body: str) -> str:
    return f"```python\n{body.strip()}\n```" if body.strip() else ""
