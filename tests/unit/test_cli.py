"""From a command line to an exit code: a toy program in a process of its own, as a script sees it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestra import cli
from orchestra.console import Console
from orchestra.errors import BusyError, ExitCode, NetworkError, ScoreError, StorageError, UsageError
from tests.swarms import wait_until

ROOT = Path(__file__).resolve().parents[2]
TOY = """
import os, queue, signal, sys, threading
sys.path.insert(0, sys.argv.pop(1))
from orchestra import cli, errors, signals
parser = cli.make_parser("toy.py", "Plays.", "  toy.py say")
parser.add_argument("what")
ended = threading.Event()
def body(arguments, console):
    what = arguments.what
    if what == "say":
        console.say("said")
        console.event("said", what=what)
    elif what == "say-much":
        for _ in range(100_000):
            console.say("said")
    elif what == "fail":
        raise errors.StorageError("x.orch: no\\nsuch file")
    elif what == "bug":
        raise KeyError("surprise")
    elif what == "seven":
        return errors.ExitCode.INCOMPLETE
    elif what == "pipe":
        raise BrokenPipeError(32, "a socket's, not stdout's")
    elif what in ("wait", "hang"):
        try:
            console.note("waiting")
            ended.wait()
        finally:
            console.note("cleaned up")
            if what == "hang":
                ended.wait()
    elif what == "messages":
        inbox = queue.SimpleQueue()
        with signals.as_messages(inbox.put):
            console.note("waiting")
            message = inbox.get()
            console.note(f"got {message.signum}")
            ended.wait()
    elif what == "descriptors":
        console.note(" ".join(os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)))
    return 0
sys.exit(cli.run(parser, body, usage_if_empty=True))
"""


def toy(*arguments: str, folder: Path, **options: Any) -> subprocess.Popen[str]:
    """Start the toy. stderr is a pipe; stdout too unless told."""
    wanted: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    common = ["--log-dir", str(folder / "logs")] if arguments else []
    return subprocess.Popen(
        [sys.executable, "-c", TOY, str(ROOT), *arguments, *common],
        stdin=subprocess.DEVNULL,
        text=True,
        **wanted,
    )


def ended(*arguments: str, folder: Path, **options: Any) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the toy."""
    with toy(*arguments, folder=folder, **options) as process:
        out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_a_body_that_returns_gives_the_exit_code(tmp_path: Path) -> None:
    assert ended("say", folder=tmp_path) == (0, "said\n", "")
    assert ended("seven", folder=tmp_path) == (7, "", "")


def test_with_json_the_same_run_gives_events(tmp_path: Path) -> None:
    code, out, err = ended("say", "--json", folder=tmp_path)
    assert (code, json.loads(out), err) == (0, {"event": "said", "what": "say"}, "")


def test_an_error_of_ours_is_one_line_and_its_exit_code(tmp_path: Path) -> None:
    assert ended("fail", folder=tmp_path) == (4, "", "toy: error: x.orch: no\\x0asuch file\n")


def test_an_error_with_json_is_an_event_too(tmp_path: Path) -> None:
    code, out, err = ended("fail", "--json", folder=tmp_path)
    assert json.loads(out) == {"event": "error", "message": "x.orch: no\\x0asuch file", "exit_code": 4}
    assert (code, err.count("\n")) == (4, 1)


def test_a_bug_is_one_line_and_exit_code_1_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    code, out, err = ended("bug", folder=tmp_path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "unexpected failure: KeyError: 'surprise'" in err
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in err
    assert "Traceback" in log.read_text()


def test_a_broken_pipe_that_is_not_stdout_is_not_taken_for_it(tmp_path: Path) -> None:
    code, _, err = ended("pipe", folder=tmp_path)
    assert code == 1
    assert "a socket's, not stdout's" in err


@pytest.mark.parametrize(
    "arguments", [["--frobnicate", "say"], ["say", "extra"], ["--json=1", "say"], ["--verb", "say"], ["-x"]]
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    code, out, err = ended(*arguments, folder=tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("toy: error: ")
    assert "--help" in err


def test_a_wrong_command_line_with_json_is_an_event_too(tmp_path: Path) -> None:
    code, out, _ = ended("--json", "--frobnicate", folder=tmp_path)
    event = json.loads(out)
    assert (code, event["event"], event["exit_code"]) == (2, "error", 2)


def test_a_hostile_argument_is_escaped_in_the_error(tmp_path: Path) -> None:
    _, _, err = ended("say", "\x1b[31m\nforged", folder=tmp_path)
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


def test_no_argument_is_answered_by_usage_and_examples(tmp_path: Path) -> None:
    code, out, err = ended(folder=tmp_path)
    assert (code, out) == (2, "")
    assert "usage: toy.py" in err
    assert "toy.py say" in err


def test_help_and_version_go_to_stdout(tmp_path: Path) -> None:
    code, out, err = ended("--help", folder=tmp_path)
    assert (code, err) == (0, "")
    for option in ("--version", "-v", "-q", "--json", "--no-color", "--log-dir"):
        assert option in out
    code, out, err = ended("--version", folder=tmp_path)
    assert (code, out, err) == (0, "toy.py (Orchestra) 0.1.0\n", "")


@pytest.mark.parametrize(
    "settings",
    [
        {"COLUMNS": "0"},
        {"COLUMNS": "1"},
        {"TERM": "dumb"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    ],
)
@pytest.mark.parametrize("what", ["say", "fail", "--help"])
def test_odd_settings_change_nothing_that_matters(
    settings: dict[str, str], what: str, tmp_path: Path
) -> None:
    code, out, err = ended(what, folder=tmp_path, env={**os.environ, **settings})
    assert code == {"say": 0, "fail": 4, "--help": 0}[what]
    assert "Traceback" not in err
    assert "\x1b" not in out + err


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("arguments", [["say-much"], ["--help"]])
def test_a_reader_that_leaves_ends_the_program_without_a_word(arguments: list[str], tmp_path: Path) -> None:
    read, write = os.pipe()
    with toy(*arguments, folder=tmp_path, stdout=write) as process:
        os.close(write)
        os.close(read)
        _, err = process.communicate(timeout=30)
    assert err == ""
    assert process.returncode in (-signal.SIGPIPE, 0)
    assert process.returncode or arguments == ["--help"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["say"], 4, "standard output"),
        (["say", "--json"], 4, "standard output"),
        (["fail"], 4, "such file"),
        (["fail", "--json"], 4, "such file"),
        (["bug", "--json"], 1, "surprise"),
        (["--json"], 2, "required"),
    ],
)
def test_a_stdout_that_is_full_is_one_line(
    arguments: list[str], code: int, reason: str, tmp_path: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        found, _, err = ended(*arguments, folder=tmp_path, stdout=full)
    assert (found, err.count("\n")) == (code, 1)
    assert reason in err


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_error_keeps_its_exit_code_when_the_reader_of_events_has_left(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with toy("fail", "--json", folder=tmp_path, stdout=write) as process:
        os.close(write)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("\n")) == (4, 1)


@pytest.mark.skipif(os.name == "nt", reason="descriptors are POSIX")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("what", ["say", "fail", "--json bug", "--help"])
def test_closed_standard_streams_are_survived(closed: str, what: str, tmp_path: Path) -> None:
    command = f'exec "$@" {what} --log-dir "$LOGS" {closed}'
    result = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-c", TOY, str(ROOT)],
        env={**os.environ, "LOGS": str(tmp_path / "logs")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == {"say": 0, "fail": 4, "--json bug": 1, "--help": 0}[what]
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_a_closed_stream_does_not_lend_its_number_to_a_file_of_ours(tmp_path: Path) -> None:
    command = f'exec "$@" descriptors --log-dir "{tmp_path}/logs" <&- >&-'
    result = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-c", TOY, str(ROOT)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert result.stderr.split()[:2] == ["/dev/null", "/dev/null"]


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
class TestSignals:
    @pytest.mark.parametrize("signum", ["SIGINT", "SIGTERM", "SIGHUP"])
    def test_a_signal_lets_the_body_clean_up_and_then_kills(self, signum: str, tmp_path: Path) -> None:
        with toy("wait", folder=tmp_path) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "waiting\n"
            process.send_signal(getattr(signal, signum))
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (-getattr(signal, signum), "", "cleaned up\n")

    @pytest.mark.parametrize(
        ("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM")]
    )
    def test_a_second_signal_ends_at_once(self, first: str, second: str, tmp_path: Path) -> None:
        with toy("hang", folder=tmp_path) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "waiting\n"
            process.send_signal(getattr(signal, first))
            assert process.stderr.readline() == "cleaned up\n"
            process.send_signal(getattr(signal, second))
            assert process.wait(30) == -getattr(signal, second)

    def test_a_signal_ends_a_program_whose_reader_does_not_read(self, tmp_path: Path) -> None:
        read, write = os.pipe()
        with toy("say-much", folder=tmp_path, stdout=write) as process:
            wait_until(lambda: not select.select([], [write], [], 0)[1], "a full pipe")
            os.close(write)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
            os.close(read)
        assert (process.returncode, err) == (-signal.SIGTERM, "")

    def test_a_signal_can_be_had_as_a_message_and_the_second_one_still_ends(self, tmp_path: Path) -> None:
        with toy("messages", folder=tmp_path) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "waiting\n"
            process.send_signal(signal.SIGTERM)
            assert process.stderr.readline() == f"got {int(signal.SIGTERM)}\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == -signal.SIGINT

    def test_an_ignored_signal_stays_ignored(self, tmp_path: Path) -> None:
        command = 'trap "" HUP INT; exec "$@"'
        with subprocess.Popen(
            [
                "sh",
                "-c",
                command,
                "sh",
                sys.executable,
                "-c",
                TOY,
                str(ROOT),
                "wait",
                "--log-dir",
                str(tmp_path),
            ],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "waiting\n"
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (-signal.SIGTERM, "cleaned up\n")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("x.mp4", ("x.mp4", None, None)),
        ("x.mp4 --json 10.0.0.1:9999 16K -v", ("x.mp4", "10.0.0.1:9999", "16K")),
        ("-q x.mp4 -v 10.0.0.1:9999 -v 16K", ("x.mp4", "10.0.0.1:9999", "16K")),
        ("--json -- -x 10.0.0.1:9999", ("-x", "10.0.0.1:9999", None)),
    ],
)
def test_options_may_stand_anywhere_before_two_dashes(line: str, found: tuple[str | None, ...]) -> None:
    parser = cli.make_parser("toy", "", "")
    parser.add_argument("file")
    parser.add_argument("conductor", nargs="?")
    parser.add_argument("part_size", nargs="?")
    arguments = parser.parse(line.split())
    assert (arguments.file, arguments.conductor, arguments.part_size) == found


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError, 2), (ScoreError, 3), (StorageError, 4), (NetworkError, 5), (BusyError, 6)],
)
def test_each_error_has_its_exit_code(
    error: type[Exception], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(_arguments: object, _console: Console) -> int:
        raise error("this line")

    assert cli.run(cli.make_parser("toy", "", ""), body, ["--log-dir", str(tmp_path)]) == code
    assert capsys.readouterr().err == "toy: error: this line\n"


def test_a_log_folder_that_cannot_be_written_costs_one_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    parser = cli.make_parser("toy", "", "")
    assert cli.run(parser, lambda _a, _c: 0, ["--log-dir", str(tmp_path / "file")]) == 0
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(parser, lambda _a, _c: 0, ["-q", "--log-dir", str(tmp_path / "file")]) == 0
    assert capsys.readouterr().err == ""


def test_run_gives_the_signals_back(tmp_path: Path) -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    cli.run(cli.make_parser("toy", "", ""), lambda _a, _c: ExitCode.DONE, ["--log-dir", str(tmp_path)])
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


def test_run_works_outside_the_main_thread(tmp_path: Path) -> None:
    codes: list[int] = []
    parser = cli.make_parser("toy", "", "")
    thread = threading.Thread(
        target=lambda: codes.append(cli.run(parser, lambda _a, _c: 7, ["--log-dir", str(tmp_path)]))
    )
    thread.start()
    thread.join()
    assert codes == [7]
