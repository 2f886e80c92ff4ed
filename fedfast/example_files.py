"""The configs and scripts of `examples/`: part of the package once it is installed."""

from __future__ import annotations

import ast
import re
import shutil
from difflib import get_close_matches
from pathlib import Path

from ._messages import format_value, path_of

KINDS = (".yaml", ".py")


def root() -> Path:
    """The folder of the examples: in the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    installed = here / "examples"
    return installed if installed.is_dir() else here.parent / "examples"


def names() -> dict[str, Path]:
    """Name -> file. A config's name has no ending: `quickstart`, `papers/pa4/tables5-8-mild`."""
    top = root()
    found = {path.relative_to(top): path for path in sorted(top.rglob("*")) if _listed(path)}
    return {
        str((name.with_suffix("") if name.suffix == ".yaml" else name).as_posix()): path
        for name, path in found.items()
    }


def named(name: str) -> Path:
    """The file of an example. Raises ValueError naming the nearest where none has that name."""
    known = names()
    if (plain := name.removesuffix(".yaml")) not in known:
        near = get_close_matches(plain.lower(), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"example: unknown name {format_value(name)}{hint} (fedfast examples lists)"
        )
    return known[plain]


def config_file(path: Path) -> Path:
    """`path` if there is such a file, else the example config of that name, else `path`."""
    if path.is_file() or path.suffix == ".py":
        return path
    return names().get(path.as_posix(), path)


def stem(given: str) -> str:
    """The name of a config's file without its ending; what an example's name ends in is kept.

    >>> stem("papers/fedgloss/table3-cnn-cifar10-alpha0.05")
    'table3-cnn-cifar10-alpha0.05'
    """
    return config_file(Path(given)).stem


def config_folder(path: Path) -> Path:
    """`path` if it exists, else the folder of examples of that name, else `path`."""
    folder = root() / path
    return folder if not path.exists() and not path.is_absolute() and folder.is_dir() else path


def nearest(path: Path) -> str:
    """The example that a missing config may have meant, "" for none."""
    configs = [name for name, file in names().items() if file.suffix == ".yaml"]
    stem = path.name.lower().removesuffix(".yaml").removesuffix(".yml")
    by_stem = {name.rpartition("/")[2]: name for name in configs}
    found = get_close_matches(stem, by_stem, n=1)
    return by_stem[found[0]] if found else ""


def nearest_folder(path: Path) -> str:
    """The folder of example configs that a missing one may have meant, "" for none."""
    folders = {name.rpartition("/")[0] for name, file in names().items() if file.suffix == ".yaml"}
    by_stem = {name.rpartition("/")[2]: name for name in folders if name}
    found = get_close_matches(path.name.lower(), by_stem, n=1)
    return by_stem[found[0]] if found else ""


def about(path: Path) -> str:
    """A script's docstring (first line) or title, or a config's comment (first sentence)."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        title = re.search(r"^# # (.*)$", text, re.MULTILINE)  # of a tutorial's first cell
        first = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
        return first or (title[1] if title else "")
    lines = text.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.strip("# ")), len(lines))
    head = " ".join(line.strip("# ") for line in lines[:end] if line.startswith("#"))
    return re.split(r"\. (?=[A-Z])", head)[0].rstrip(".")


def copy(name: str, folder: str | Path = ".") -> Path:
    """Copies an example into `folder`, made if need be; the path of the copy.

    Raises ValueError for an unknown name, FileExistsError where a file of its name is there.
    """
    source = named(name)
    target = path_of("folder", folder) / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as original, target.open("xb") as new:  # x: never over a file
        shutil.copyfileobj(original, new)
    return target


def _listed(path: Path) -> bool:
    return path.suffix in KINDS and not path.name.startswith("_")
