"""Imports run one way only. A new module has to be given its place in LAYERS, or the test fails."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS: dict[str, str] = {
    # No thread, no clock, no socket: values in, values out. (regular only opens what score reads.)
    "pure": """
        addressbook addresses announce announcereply bencode bitfield census choker conversation
        crowds decoder digestfeed diskmessages doorway downloads errors extension fast flight flights gauge
        geometry humans kinds memory messages metainfo names news pace patience peer pex picker priority rate
        registry regular riders roster schedule score scorelines service sharer shipment swarm text
        throttle uploads wholefile wire
        """,
    # Files, sockets, and what threads are made of.
    "input and output": """
        atomic buffers checking descriptors hashhelper hashing httpreply landing ledger line logs mailbox
        parthash positioned resume socketflow source storage tracker trackerapp trackerclient underway wakeful
        worker
        """,
    "threads": "announcer connection digest listener pen reader receiver webserver writer",
    "orchestrator": "orchestrator",
    # The real orchestrators on a virtual clock: a package, all of it in one layer.
    "rehearsal": "rehearsal",
    # What talks to the person: arguments, terminal, signals.
    "shell": "cli console signals start",
    # What the programs are wired from.
    "wiring": "company demo rehearse session",
}
PROGRAMS = {"composer", "conductor", "member"}
ALONE = {"netutils", "kbhit", "run"}
"""Import nothing of ours."""
PACKAGES = {"rehearsal"}
"""Folders of modules that have a layer together."""
FOR_PROGRAMS = {"kbhit", "orchestra.cli", "orchestra.console", "orchestra.signals", "orchestra.start"}
"""Not for the engine: it says what it has to say in messages, in exceptions and in the log."""
UNKNOWN_TO_PURE = {"asyncio", "progressbar", "queue", "select", "selectors", "subprocess"} | {
    "http.client", "threading", "time", "waitress"
}  # fmt: skip

SOURCES = sorted([*ROOT.glob("*.py"), *(ROOT / "orchestra").rglob("*.py")])
ORDER = list(LAYERS)


def imports_of(source: str) -> set[str]:
    """Every module that the text imports, wherever. `from orchestra import x` is orchestra.x.

    But not what is imported for type checkers only: it never runs.
    """
    found = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full: from orchestra.x import y"
            assert node.module is not None
            if node.module == "orchestra":
                found |= {
                    f"orchestra.{alias.name}" for alias in node.names if not alias.name.startswith("__")
                }
            else:
                found.add(node.module)
    return found


def layer_of(module: str) -> int:
    """The position of orchestra.MODULE in ORDER."""
    for name, modules in LAYERS.items():
        if module in modules.split():
            return ORDER.index(name)
    raise AssertionError(f"orchestra/{module}.py has no place in LAYERS: give it the lowest that it fits")


def problems_of(path: Path) -> list[str]:
    """What this file imports that it must not, in words."""
    name = path.stem
    imported = imports_of(path.read_text(encoding="utf-8"))
    ours = {module for module in imported if module.split(".")[0] in {"orchestra", *PROGRAMS, *ALONE}}
    if path.parent == ROOT:
        assert name in PROGRAMS | ALONE, f"{path.name}: nothing else belongs at the top"
        return [
            f"{name} imports {module}" for module in ours if name in ALONE or module in PROGRAMS | {"run"}
        ]
    if name == "__init__":
        return [f"{path.parent.name} imports {module}" for module in ours]
    package = path.parent.name
    layer = layer_of(package if package in PACKAGES else name)
    problems = [f"{name} imports {module}" for module in ours if module in PROGRAMS | {"run"}]
    for module in sorted(ours):
        if module in FOR_PROGRAMS and layer < ORDER.index("shell"):
            problems.append(f"{name} imports {module}, which is for the programs")
        elif module.startswith("orchestra.") and layer_of(module.split(".")[1]) > layer:
            problems.append(f"{name} ({ORDER[layer]}) imports {module}, which lies above it")
    if ORDER[layer] == "pure":
        problems += [f"{name} is pure, but imports {module}" for module in sorted(imported & UNKNOWN_TO_PURE)]
    return problems


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_imports_run_one_way(path: Path) -> None:
    assert problems_of(path) == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("picker", "from orchestra.storage import Storage", "picker (pure) imports orchestra.storage"),
        ("picker", "from orchestra import storage", "picker (pure) imports orchestra.storage"),
        ("picker", "def f():\n    import time", "picker is pure, but imports time"),
        ("reader", "import orchestra.cli", "reader imports orchestra.cli, which is for the programs"),
        ("writer", "import kbhit", "writer imports kbhit, which is for the programs"),
        ("session", "import member", "session imports member"),
    ],
)
def test_an_import_that_runs_upward_is_found(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    assert [found for found in problems_of(path) if found.startswith(problem)]


def test_an_import_for_types_only_does_not_count() -> None:
    assert imports_of("if TYPE_CHECKING:\n    from orchestra.storage import Storage") == set()


def test_a_module_without_a_place_is_found(tmp_path: Path) -> None:
    path = tmp_path / "newcomer.py"
    path.write_text("")
    with pytest.raises(AssertionError, match="no place in LAYERS"):
        problems_of(path)


def test_no_module_is_longer_than_400_lines() -> None:
    long = {path.name: n for path in SOURCES if (n := path.read_text(encoding="utf-8").count("\n")) > 400}
    assert not long, "split them where state, protocol and I/O meet"


THREAD_NAMES = set(
    """
    _after_fork _args _bootstrap _bootstrap_inner _context _daemonic _delete _handle _ident _initialized
    _invoke_excepthook _is_stopped _kwargs _name _native_id _os_thread_handle _reset_internal_locks _set_ident
    _set_native_id _set_tstate_lock _started _stderr _stop _target _tstate_lock _wait_for_tstate_lock
    """.split()
)
"""What threading.Thread of any Python from 3.10 to 3.14 keeps in itself."""


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_no_thread_of_ours_has_an_attribute_of_its_base_class(path: Path) -> None:
    taken = [
        f"{thread.name}.{name}"
        for thread in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(thread, ast.ClassDef) and {"Worker", "Thread"} & names_in(thread.bases)
        for node in ast.walk(thread)
        if (name := defined_by(node)) in THREAD_NAMES
    ]
    assert not taken, "threading.Thread has these for itself, if not in this Python then in another"


def names_in(bases: list[ast.expr]) -> set[str]:
    """The last part of each base class: Thread, threading.Thread."""
    return {ast.unparse(base).rpartition(".")[2] for base in bases}


def defined_by(node: ast.AST) -> str:
    """The method or the attribute of self that it defines, or ""."""
    if isinstance(node, ast.FunctionDef):
        return node.name
    return node.attr if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) else ""
