"""TAB: what the shell is answered, and that the answer needs no torch."""

import functools
import io
import subprocess
import sys

import argcomplete
import pytest
from argcomplete.finders import CompletionFinder

from fedfast import example_files
from fedfast.cli import COMMANDS, completion, flag_table, main, shells
from fedfast.config import fields, yaml_reader

EXAMPLES = [
    f"papers/{path.name}/" for path in (example_files.root() / "papers").iterdir() if path.is_dir()
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        flag_table.write()
        yield


def tab(line, monkeypatch):
    """The words that the shell is given for `line`, whose end is where the cursor is."""
    for name, value in {
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    given = io.StringIO()
    stays = functools.partial(
        argcomplete.autocomplete, exit_method=lambda status: None, output_stream=given
    )
    monkeypatch.setattr(argcomplete, "autocomplete", stays)
    # it would take file descriptor 9, which is pytest's here
    monkeypatch.setattr(CompletionFinder, "_init_debug_stream", lambda self: None)
    completion.answer()
    return given.getvalue().split("\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fedfast ", list(COMMANDS)),
        ("fedfast par", ["partition"]),
        ("fedfast --install-completion f", ["fish"]),
        (
            "fedfast run ",
            ["folder/", "swept/", "mine.yaml", "fashion-mnist", "papers/", "quickstart"],
        ),
        ("fedfast run papers/pa", ["papers/pa4/"]),
        ("fedfast run quickstart --partition.al", ["--partition.alpha"]),
        ("fedfast run mine.yaml --algorithms.sharp.r", ["--algorithms.sharp.rho"]),
        ("fedfast run quickstart --partition.name path", ["pathological"]),
        ("fedfast run quickstart --sampling=", ["--sampling=exact", "--sampling=bernoulli"]),
        ("fedfast reproduce papers --se", ["--seeds", "--seed", "--server_lr"]),
        ("fedfast reproduce papers/pa", ["papers/pa4/"]),
        ("fedfast resume swept --j", ["--jobs"]),
        ("fedfast sweep quickstart --grid partition.al", ["partition.alpha="]),
        ("fedfast sweep quickstart --search lr_decay", ["lr_decay=", "lr_decay_per="]),
        ("fedfast compare folder --format la", ["latex"]),
        ("fedfast report folder --format p", ["png", "pdf"]),
        ("fedfast bench a", ["algorithms"]),
        ("fedfast bench algorithms --model m", ["mlp"]),
        ("fedfast examples ", ["copy", "flower_digits/", "papers/", "tutorials/"]),
        ("fedfast examples papers/", EXAMPLES),
        ("fedfast resume folder --algorithms.sharp.r", ["--algorithms.sharp.rho"]),
        ("fedfast examples copy split", ["split_difficulty.py"]),
    ],
)
def test_tab(line, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("algorithms: {sharp: {name: fedsam}}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.yaml").write_text("algorithms: {sharp: {name: fedsam}}")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "config.yaml").write_text("sweep: {seeds: [0, 1]}")
    assert sorted(tab(line, monkeypatch)) == sorted(expected)


@pytest.mark.parametrize(
    "name", ["quickstart", "fashion-mnist", "papers/fedfsa/table1-tiny-dirichlet"]
)
def test_the_flags_of_a_config_are_those_that_run_takes(name):
    raw, _ = yaml_reader.read(example_files.named(name))
    taken = {".".join(leaf.loc) for leaf in fields.leaves(fields.expand(raw))}
    offered = set(completion.config_flags(name))
    inner = {flag for flag in taken if flag.count(".") > 2}  # of parts of an algorithm
    assert taken - inner <= offered
    assert {flag for flag in offered - taken if not flag.startswith("algorithms.")} == set()


def test_without_a_table_there_are_the_file_s_own_flags(monkeypatch, tmp_path):
    started = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    found = completion.config_flags("quickstart")
    assert {"partition.alpha", "algorithms.fedsam.rho", "rounds"} <= set(found)
    assert started[0][1:] == ["-m", "fedfast.cli.flag_table"]


def test_an_answer_needs_no_torch():
    program = (
        "import sys; from fedfast.cli import completion;"
        "completion.parser(['run', 'quickstart']);"
        "print(sorted({'torch', 'pandas', 'pydantic', 'tyro', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("shell", shells.SCRIPTS)
def test_installing_twice_changes_nothing(shell, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("alias x=y")  # without its last line's end
    assert main(["--install-completion", shell]) == 0
    once = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert once[tmp_path / shells.SCRIPTS[shell]] == shells.script(shell)
    assert once[tmp_path / ".bashrc"].splitlines()[0] == "alias x=y"
    assert main(["--install-completion", shell]) == 0
    assert {p: p.read_text() for p in tmp_path.rglob("*") if p.is_file()} == once


def test_bash_completes_with_the_installed_script(tmp_path):
    (tmp_path / "fedfast").write_text(f'#!/bin/sh\nexec {sys.executable} -m fedfast "$@"\n')
    (tmp_path / "fedfast").chmod(0o755)
    program = (
        f"PATH={tmp_path}:$PATH\n{shells.script('bash')}\n"
        'COMP_LINE="fedfast exa"; COMP_POINT=11; COMP_WORDS=(fedfast exa); COMP_CWORD=1\n'
        '_python_argcomplete fedfast; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["examples"], done.stderr


@pytest.mark.parametrize("flag", ["--install-completion", "--show-completion"])
def test_an_unknown_shell_is_refused(flag, capsys):
    assert main([flag, "csh"]) == 2
    assert capsys.readouterr().err == f"fedfast: {flag}: expected bash, zsh, fish; found 'csh'\n"
