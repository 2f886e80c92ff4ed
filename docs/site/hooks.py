"""Makes the site's pages that are no files of docs/, its links and its navigation.

Documents link to each other, and to sources, as they lie in the repository. In the site every
linked file is a page: `PAGES` says which one, sources are pages below `files/`.
"""

from __future__ import annotations

import posixpath
import re
from importlib import import_module
from inspect import isclass, isfunction, ismodule
from pathlib import Path
from types import ModuleType

import tutorials
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import fedfast

ROOT = Path(__file__).parents[2]
PAGES = {  # path in the repository -> path in the site
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "bench/README.md": "bench.md",
    "examples/papers/README.md": "papers.md",
}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
FENCES = {".py": "python", ".yaml": "yaml", ".cpp": "cpp", ".h": "cpp"}
# The order of reading; a page that is named nowhere comes at the end of its part.
USING = (
    "install",
    "runs",
    "sweeps",
    "many-processes",
    "scaling/index",
    "scaling/results",
    "comparing",
    "figures",
    "gallery/README",
    "agreement",
    "hessian",
    "landscape",
    "explanations",
    "loggers",
    "flower",
    "own-parts",
    "large-populations",
    "cohort",
    "torch-ops",
    "flower-strategies",
    "pfl",
    "migration",
    "forks",
    "from-fl-simulator",
    "algorithms",
)
INSIDE = (
    "architecture",
    "engine",
    "gpu",
    "client-rows",
    "writing-algorithms",
    "writing-kernels",
    "ops",
    "facts",
)
LAST = ("benchmarks", "contributing", "changelog")
MODULES = ("fedfast.callbacks", "fedfast.config")  # public besides those the package names itself
origins: dict[str, str] = {}  # page -> the file of the repository that its links start from


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The version in the site's name: pages say what they describe."""
    config.site_name = f"fedfast {fedfast.__version__}"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made, then the sources that any page links to."""
    made = {site: (ROOT / source).read_text() for source, site in PAGES.items()}
    origins.update({site: source for source, site in PAGES.items()})
    for script in sorted((ROOT / "examples" / "tutorials").glob("*.py")):
        made[f"tutorials/{script.stem}.md"] = tutorials.page(script)
        origins[f"tutorials/{script.stem}.md"] = f"examples/tutorials/{script.name}"
    made.update(reference())
    texts = dict(made)
    for file in files.documentation_pages():
        origins[file.src_uri] = f"docs/{file.src_uri}"
        texts[file.src_uri] = file.content_string
    for target in sorted({t for uri, text in texts.items() for t in _sources(uri, text)}):
        made[f"files/{target}.md"] = _source(target)
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    shim = (Path(__file__).parent / "iframe-worker.js").read_text()
    files.append(File.generated(config, "assets/javascripts/iframe-worker.js", content=shim))
    config.nav = navigation([file.src_uri for file in files.documentation_pages()])
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links as the site has them."""
    here = page.file.src_uri
    return LINK.sub(lambda m: m[1] + _link(m[2], here) + m[3], markdown)


def navigation(uris: list[str]) -> list[object]:
    """The parts of the site, of the pages there are."""
    top = [uri for uri in uris if "/" not in uri]
    named = [f"{name}.md" for name in (*USING, *INSIDE, *LAST)]
    rest = [uri for uri in top if uri not in (*named, "index.md", "papers.md", "bench.md")]
    parts: dict[str, list[object]] = {
        "Tutorials": sorted(_below("tutorials", uris), key=lambda u: u != "tutorials/first_run.md"),
        "Using fedfast": [*_there(USING, uris), *rest],
        "API": sorted(_below("reference", uris), key=lambda u: u.removesuffix(".md")),
        "Reproductions": ["papers.md", *sorted(_below("reproduction", uris))],
        "Inside": _there(INSIDE, top),
        "Project": [*_there(LAST, top), {"Running the benchmarks": "bench.md"}],
    }
    return [{"fedfast": "index.md"}, *({title: pages} for title, pages in parts.items() if pages)]


def reference() -> dict[str, str]:
    """A page per public module, and one of the names of the package itself."""
    public = [getattr(fedfast, name) for name in fedfast.__all__]
    modules = [fedfast, *filter(ismodule, public), *map(import_module, MODULES)]
    made = {}
    for module in modules:
        about = (module.__doc__ or "").strip().split("\n")[0]
        paths = dict.fromkeys(f"{x.__module__}.{x.__qualname__}" for x in _public(module))
        entries = "\n".join(f"::: {path}\n" for path in paths)
        if entries:
            made[f"reference/{module.__name__}.md"] = f"# {module.__name__}\n\n{about}\n\n{entries}"
    return made


def _public(module: ModuleType) -> list[type]:
    """The classes and functions that a module offers; operations have a document of their own."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
    found = [x for x in (getattr(module, name) for name in names) if isclass(x) or isfunction(x)]
    ours = "fedfast." if hasattr(module, "__all__") else module.__name__
    return [x for x in found if x.__module__.startswith(ours) and ".kernels" not in x.__module__]


def _below(folder: str, uris: list[str]) -> list[str]:
    return [uri for uri in uris if uri.startswith(f"{folder}/")]


def _there(names: tuple[str, ...], uris: list[str]) -> list[str]:
    return [f"{name}.md" for name in names if f"{name}.md" in uris]


def _target(link: str, here: str) -> str:
    """The file of the repository that a link of a page leads to, "" for none."""
    path = link.partition("#")[0]
    if "://" in link or link.startswith("mailto:") or not path or here not in origins:
        return ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origins[here]), path))


def _sources(here: str, text: str) -> list[str]:
    """The linked files that are neither documents nor below docs/."""
    targets = [_target(link, here) for _, link, _ in LINK.findall(text)]
    return [t for t in targets if t not in PAGES and t[:5] != "docs/" and (ROOT / t).is_file()]


def _source(target: str) -> str:
    fence, text = "`" * 8, (ROOT / target).read_text()
    return f"# {target}\n\n{fence}{FENCES.get(Path(target).suffix, 'text')}\n{text}\n{fence}\n"


def _link(link: str, here: str) -> str:
    target, (_, mark, anchor) = _target(link, here), link.partition("#")
    if not target:
        return link
    if (ROOT / target).is_dir():  # no page: the list of all examples, or of results
        return _relative("papers.md" if target.startswith("examples") else "bench.md", here)
    site = PAGES.get(target, target[5:] if target.startswith("docs/") else f"files/{target}.md")
    return _relative(site, here) + mark + anchor


def _relative(site: str, here: str) -> str:
    return posixpath.relpath(site, posixpath.dirname(here) or ".")
