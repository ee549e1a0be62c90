"""The documents tell the truth: their commands run, their tables and names are those of the programs."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

import orchestra
from benchmarks.__main__ import make_parser as make_bench_parser
from orchestra.errors import ExitCode
from tests.compositions import compose
from tests.documents import Document, code_in
from tests.foreign import needs_aria2
from tests.programs import ROOT, Programs
from tests.swarms import Orchestra
from tests.unit.test_layers import LAYERS

README = Document(ROOT / "README.md")
DOCUMENTS = [README, Document(ROOT / "CHANGELOG.md"), *map(Document, sorted((ROOT / "docs").glob("*.md")))]
NAME = "holiday.mp4"
ARCHITECTURE = Document(ROOT / "docs" / "architecture.md")
REHEARSALS = Document(ROOT / "docs" / "rehearsal.md")
ONE_PAGE_EACH = ["README.md", *(f"docs/{name}.md" for name in ("architecture", "threads", "CONTRIBUTING"))]
WORDS_IN_SEVEN_MINUTES = 7 * 240
FOREIGN_WORDS = {NAME, "nul.txt", "rehearsal.html"}
"""Code words that look like names of ours."""

ELSEWHERE = {
    "python3 run.py demo": "tests/cli/test_demo.py",
    "python3 run.py demo FILE": "tests/cli/test_demo.py",
    "python3 run.py test": ".ci/run",
    # An hour; what it runs is in tests/faults, which `test` runs, and in tests/soak.
    "python3 run.py soak": "tests/unit/test_run.py",
    "python3 run.py fuzz": "tests/unit/test_run.py",
    "python3 run.py fuzz 600": "tests/unit/test_run.py",
    "python3 run.py test tests/unit/test_picker.py -x": "tests/unit/test_run.py",
    # run.py makes an environment by these, and its own tests count on it.
    ". .venv/bin/activate": "run.py",
    "python3 -m venv ../orchestra-env": "run.py",
    ". ../orchestra-env/bin/activate": "run.py",
    "pip install -r requirements.txt": "run.py",
    # test_the_picture_can_be_recorded
    ".venv/bin/python docs/record.py": "docs/record.py",
}
"""Commands that are run by something else than this file, and what runs them."""


def commands(program: str) -> list[str]:
    """Every command line of that program, in all documents."""
    found = [command for document in DOCUMENTS for command in document.commands()]
    return list(dict.fromkeys(command for command in found if command.startswith(program)))


def words_after(program: str, command: str) -> list[str]:
    return shlex.split(command.removeprefix(program))


@pytest.mark.parametrize("command", commands("python3 composer.py"))
def test_each_command_of_the_composer_composes(programs: Programs, command: str) -> None:
    (programs.folder / NAME).write_bytes(bytes(100_000))
    words = words_after("python3 composer.py", command)
    code, composer = programs.run("composer", *words)
    assert code == 0, composer.story()
    assert (programs.folder / f"{NAME}.orch").read_text().splitlines()[0] == words[1]
    assert (programs.folder / f"{NAME}.torrent").exists() == ("--torrent" in words)


REHEARSING = [command for command in commands("python3 conductor.py") if "--rehearse" in command]


@pytest.mark.parametrize(
    "command", [command for command in commands("python3 conductor.py") if command not in REHEARSING]
)
def test_each_command_of_the_conductor_conducts(programs: Programs, command: str) -> None:
    # Another port than 9999, which may be taken: the last --port counts.
    conductor = programs.start("conductor", *words_after("python3 conductor.py", command), "--port", "0")
    conductor.wait_for_event("listening")


@pytest.mark.parametrize("command", REHEARSING)
def test_each_rehearsal_says_when_all_would_have_it(programs: Programs, command: str) -> None:
    compose(programs.folder, 100_000, 16384, name=NAME).write_orch(programs.folder)
    # Fewer machines than told, so that it takes no time, and less to fetch: the last one counts.
    words = [*words_after("python3 conductor.py", command), "--members", "3"]
    if "--size" in words:
        words += ["--size", "1M"]
    code, conductor = programs.run("conductor", *words)
    assert code == 0, conductor.story()
    assert conductor.events[-1]["finished"] == 3
    for report in programs.folder.glob("*.html"):
        assert ET.parse(report).getroot().tag == "html"
    assert ("--report" in words) == any(programs.folder.glob("*.html"))


@pytest.mark.parametrize("command", commands("python3 member.py"))
def test_each_command_of_a_member_shares_and_fetches(
    programs: Programs, tmp_path: Path, command: str
) -> None:
    swarm = Orchestra(programs, compose(tmp_path / "here", 100_000, 16384, name=NAME))
    words = [*words_after("python3 member.py", command), "--port", "0"]
    folder = Path(words[words.index("--dir") + 1]) if "--dir" in words else Path()
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / folder).mkdir(exist_ok=True)
    for place in ("here", "there"):
        shutil.copy(swarm.orch, tmp_path / place)
    if folder != Path():
        shutil.copy(swarm.composition.path, tmp_path / "here" / folder)
    seeder = programs.start("member", *words, cwd=tmp_path / "here")
    seeder.wait_for_event("complete")
    if "--no-seed" in words:
        assert seeder.wait() == 0
        seeder = swarm.seed()
    swarm.wait_for_members(complete=1)
    member = programs.start("member", *words, cwd=tmp_path / "there")
    complete = member.wait_for_event("complete")
    assert complete["downloaded_bytes"] == 100_000
    assert swarm.composition.is_at(tmp_path / "there" / complete["path"])
    if "--no-seed" in words:
        assert member.wait() == 0


@needs_aria2
@pytest.mark.interop
@pytest.mark.parametrize("command", commands("aria2c"))
def test_each_command_of_aria2_fetches(programs: Programs, tmp_path: Path, command: str) -> None:
    # 1M parts, as the README has it for torrent clients.
    swarm = Orchestra(programs, compose(tmp_path / "here", 3_000_000, 1 << 20, name=NAME))
    swarm.seed()
    (tmp_path / "there").mkdir()
    shutil.copy(swarm.torrent, tmp_path / "there")
    alone = ["--no-conf", "--enable-dht=false", "--enable-dht6=false", "--listen-port=20000-60000"]
    client = programs.start_other([*shlex.split(command), *alone], cwd=tmp_path / "there")
    assert client.wait() == 0, client.story()
    assert swarm.composition.is_at(tmp_path / "there" / NAME)


@pytest.mark.parametrize("command", commands("python3 run.py bench"))
def test_each_command_of_bench_is_one_that_it_takes(command: str) -> None:
    make_bench_parser().parse_args(words_after("python3 run.py bench", command))


def test_no_other_command_is_in_the_documents_than_those_that_are_run() -> None:
    run_here = (
        "python3 composer.py",
        "python3 conductor.py",
        "python3 member.py",
        "aria2c",
        "python3 run.py bench",
    )
    assert [command for command in commands("") if not command.startswith(run_here)] == list(
        dict.fromkeys(command for command in commands("") if command in ELSEWHERE)
    )
    assert set(ELSEWHERE) <= set(commands("")), "a command that no document has any more"
    for place in ELSEWHERE.values():
        assert (ROOT / place).is_file()


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are POSIX")
def test_the_picture_can_be_recorded(programs: Programs, tmp_path: Path) -> None:
    picture = tmp_path / "terminal.svg"
    script = str(ROOT / "docs" / "record.py")
    recorder = programs.start_other([sys.executable, script, str(picture), "--size", "4", "--port", "0"])
    assert recorder.wait() == 0, recorder.story()
    for path, last in ((picture, "complete and verified"), (ROOT / "docs" / "terminal.svg", " ETA ")):
        shown = "\n".join(ET.parse(path).getroot().itertext())
        for text in ("python3 composer.py", "listening on", "sharing on port", last):
            assert text in shown, path


# Options, events, exit codes


def option_of(cell: str) -> tuple[list[str], str]:
    """`-o OUT`, `--output OUT` as (["-o", "--output"], "OUT")."""
    words = [word.partition(" ") for word in code_in(cell)]
    return [name for name, _, _ in words], words[-1][2]


@pytest.mark.parametrize("program", ["composer", "conductor", "member"])
def test_the_option_tables_have_the_options_of_the_help(programs: Programs, program: str) -> None:
    code, shown = programs.run(program, "--help", json=False, env={"COLUMNS": "300"})
    assert code == 0
    text = "".join(shown.noise)
    told = {}
    for line in re.findall(r"^  (-.*)$", text, re.MULTILINE):
        invocations, _, meaning = line.partition("  ")
        words = [invocation.partition(" ") for invocation in invocations.split(", ")]
        # Before 3.13 the help has the value behind each spelling of an option.
        told[" ".join(name for name, _, _ in words)] = (words[-1][2], meaning)
    usage = " ".join(text.split("\n\n")[0].removeprefix("usage:").split())
    usage = re.sub(r"\[-(\[[^]]*\]|[^][])*\] ?", "", usage).strip()
    rows = README.table_after(usage) + README.table_after("all three")
    if program == "conductor":
        rows += REHEARSALS.table_after("conductor.py --rehearse")
    documented = {" ".join(names): (value, row[1]) for row in rows for names, value in [option_of(row[0])]}
    assert {name: value for name, (value, _) in documented.items()} == {
        name: value for name, (value, _) in told.items()
    }
    for name, (_, meaning) in told.items():
        for default in re.findall(r"\(default: ([0-9]+)\)", meaning):
            assert default in documented[name][1], name


def test_the_exit_codes_are_those_of_the_programs() -> None:
    assert [int(code) for code, _ in README.table_headed("exit code", "meaning")] == list(ExitCode)


def test_the_events_and_their_fields_are_those_that_the_programs_print(
    programs: Programs, tmp_path: Path
) -> None:
    swarm = Orchestra(programs, compose(tmp_path / "here", 100_000, 16384, name=NAME))
    swarm.seed()
    speakers = [
        programs.start("composer", swarm.composition.path, "-o", tmp_path / "again.orch"),
        swarm.conductor,
        swarm.fetch("there", "--no-seed"),
        *(programs.start(program, "--nonsense") for program in ("composer", "conductor", "member")),
    ]
    for speaker in speakers:
        if speaker is not swarm.conductor:
            speaker.wait()
    printed = {
        ("all" if event["event"] == "error" else speaker.name, event["event"]): [*event][1:]
        for speaker in speakers
        for event in speaker.events
    }
    table = README.table_headed("program", "event", "fields")
    assert {(program, *code_in(event)): code_in(fields) for program, event, fields in table} == printed
    for line in README.blocks("json")[0].splitlines():
        event = json.loads(line)
        assert [*event][1:] == printed["member", event["event"]]


def test_the_events_of_a_rehearsal_have_the_fields_that_it_prints(programs: Programs) -> None:
    _, conductor = programs.run("conductor", "--rehearse", "--size", "1M", "--members", "2", "--up", "100M")
    printed = {event["event"]: [*event][1:] for event in conductor.events}
    table = REHEARSALS.table_headed("event", "fields")
    documented = {code_in(event)[0]: code_in(fields) for event, fields in table}
    assert documented.pop("stopped") == ["reason", "q"]
    assert documented == printed


# Names


@cache
def modules() -> dict[str, ModuleType]:
    found = pkgutil.walk_packages(orchestra.__path__, "orchestra.")
    names = [module.name for module in found]
    return {name.removeprefix("orchestra."): importlib.import_module(name) for name in names}


def exists_in_code(word: str) -> bool:
    """`module.NAME`, `Class.method`, `Class`: whether there is one."""
    if word in modules():
        return True
    first, _, rest = word.partition(".")
    owners = [modules()[first]] if first in modules() else []
    owners += [vars(module)[first] for module in modules().values() if first in vars(module)]
    return any(not rest or hasattr(owner, rest) for owner in owners)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_files_links_and_names_in_a_document_exist(document: Document) -> None:
    for link in document.links():
        path, _, anchor = link.partition("#")
        target = document.path.parent / path if path else document.path
        assert target.exists(), link
        assert not anchor or anchor in Document(target).anchors(), link
    for word in set(document.code_words()) - FOREIGN_WORDS:
        if re.fullmatch(r"[\w./-]+\.(py|md|toml|txt|svg)", word):
            places = (ROOT, ROOT / "orchestra", document.path.parent)
            assert any((place / word).is_file() for place in places), word
        elif re.fullmatch(r"[A-Z]\w*[a-z]\w*(\.\w+)?|[a-z]+\.[A-Za-z_]+", word):
            assert exists_in_code(word), word


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_figures_that_name_their_constant_have_its_value(document: Document) -> None:
    for figure, module, constant in re.findall(r"([\d.,]+)\s\(`([\w.]+)\.([A-Z_]+)`\)", document.prose):
        assert float(figure.replace(",", "")) == getattr(modules()[module], constant), constant


def test_the_module_map_has_each_module_in_its_layer() -> None:
    sections = re.split(r"^### (.+)$", ARCHITECTURE.text, flags=re.MULTILINE)[1:]
    mapped = {
        layer: sorted({*code_in(text)} & {*modules()})
        for layer, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert mapped == {layer: sorted({*names.split()} & {*modules()}) for layer, names in LAYERS.items()}


@pytest.mark.parametrize("name", ONE_PAGE_EACH)
def test_a_document_can_be_read_in_seven_minutes(name: str) -> None:
    document = Document(ROOT / name)
    assert len(document.prose.split()) <= WORDS_IN_SEVEN_MINUTES
    assert inspect.cleandoc(document.text).startswith("# ")
