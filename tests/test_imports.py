"""Imports point one way: fedfast -> kernels -> (Triton | the compiled module), without a cycle.

Every import statement counts, those inside functions and under `TYPE_CHECKING` too: an annotation
that needs a module is knowledge of it as much as a call.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"fedfast": ROOT / "fedfast", "fedfast.kernels": ROOT / "kernels"}
COMPILED = "fedfast._fedfast"


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of fedfast and of fedfast.kernels."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if package == "fedfast" and parts[0] == "kernels":
                continue  # a link to kernels/ in a checkout that is installed in place
            name = ".".join([package, *parts])
            found[name.removesuffix(".__init__")] = path
    return found


def imported(name: str, path: Path) -> Iterator[str]:
    """The modules that `name` imports, by their absolute names."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in modules() or whole == COMPILED else base


def loaded(name: str, target: str) -> Iterator[str]:
    """`target`, and the packages whose `__init__` runs when `name` imports it."""
    yield target
    parts = target.split(".")
    above = (".".join(parts[:i]) for i in range(1, len(parts)))
    yield from (package for package in above if not f"{name}.".startswith(f"{package}."))


@cache
def graph() -> dict[str, set[str]]:
    """Module -> everything that it imports, modules of other libraries too."""
    return {
        name: {module for to in imported(name, path) for module in loaded(name, to)}
        for name, path in modules().items()
    }


def a_cycle(edges: dict[str, set[str]]) -> list[str]:
    """One cycle of these edges, [] where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_a_cycle_is_found():
    assert set(a_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
    assert not a_cycle({"a": {"b", "c"}, "b": {"c"}})


def test_no_import_cycles():
    ours = {name: {to for to in targets if to in modules()} for name, targets in graph().items()}
    assert not a_cycle(ours)


def test_kernels_know_nothing_of_clients():
    for name, targets in graph().items():
        if name.startswith("fedfast.kernels"):
            upward = {to for to in targets if to.split(".")[0] == "fedfast"} - {COMPILED}
            assert all(to.startswith("fedfast.kernels") for to in upward), (name, upward)


def test_only_kernels_know_triton_and_the_compiled_module():
    for name, targets in graph().items():
        if not name.startswith("fedfast.kernels"):
            below = {to for to in targets if to.split(".")[0] == "triton" or to == COMPILED}
            assert not below, (name, below)


@pytest.mark.parametrize("folder", ["bench", "tests"])
def test_nothing_imports_bench_or_tests(folder):
    theirs = {folder, *(path.stem for path in (ROOT / folder).glob("*.py"))}
    for name, targets in graph().items():
        assert not {to for to in targets if to.split(".")[0] in theirs}, name


def test_any_is_for_what_has_no_type():
    """JSON, foreign code without annotations, values that are checked by name: 30 mentions."""
    found = [
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    assert len(found) <= 30, found
