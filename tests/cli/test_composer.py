"""composer.py as a process: what it writes, says and returns."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from pathlib import Path

import pytest

from orchestra.errors import ExitCode
from orchestra.score import format_score, read_score
from tests.programs import Program, Programs

lt = pytest.importorskip("libtorrent", reason="the independent check of the info hash")

KIB, MIB, GIB = 1024, 1024**2, 1024**3
CONDUCTOR = "192.168.1.1:9999"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files of the test lie, apart from the logs."""
    path = tmp_path / "files"
    path.mkdir()
    return path


def make_file(folder: Path, name: str, size_bytes: int) -> Path:
    path = folder / name
    path.write_bytes(random.Random(size_bytes).randbytes(size_bytes))
    return path


def make_hole(folder: Path, size_bytes: int) -> Path:
    """A file that takes no room on the disk, but as long to hash as any."""
    path = folder / "hole"
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def plain_orch(content: bytes, *, conductor: str, name: str, part_size_bytes: int) -> bytes:
    """The .orch, the slow and obvious way."""
    starts = range(0, len(content), part_size_bytes)
    hashes = [hashlib.sha1(content[start : start + part_size_bytes]).hexdigest() for start in starts]
    header = [conductor, name, hashlib.sha1(content).hexdigest(), len(content), part_size_bytes, len(hashes)]
    return "".join(f"{line}\n" for line in [*header, *hashes]).encode()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_one_line_of_error(program: Program, code: ExitCode) -> str:
    """It ended with that code and one line on stderr, which is returned."""
    assert program.wait() == code, program.story()
    lines = program.stderr.splitlines()
    assert len(lines) == 1, program.story()
    assert lines[0].startswith("composer: error: ")
    assert lines[0].isprintable()
    return lines[0]


# What it writes


def test_a_file_is_composed_beside_itself_with_a_hint_about_the_conductor(
    programs: Programs, folder: Path
) -> None:
    file = make_file(folder, "maxresdefault.jpg", 142044)
    code, program = programs.run("composer", file, json=False)
    assert code == ExitCode.DONE
    assert program.noise == [f"{file}.orch\n"]
    assert "localhost:9999: line 1 can be edited later" in program.stderr
    assert names_in(folder) == ["maxresdefault.jpg", "maxresdefault.jpg.orch"]
    assert Path(f"{file}.orch").read_bytes() == plain_orch(
        file.read_bytes(), conductor="localhost:9999", name="maxresdefault.jpg", part_size_bytes=16384
    )


def test_with_a_conductor_there_is_nothing_on_stderr(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "x", 1)
    code, program = programs.run("composer", file, CONDUCTOR, json=False)
    assert (code, program.noise, program.stderr) == (ExitCode.DONE, [f"{file}.orch\n"], "")


def test_the_event_tells_what_was_composed(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "x.bin", 40001)
    code, program = programs.run("composer", file, CONDUCTOR, "20000")
    assert code == ExitCode.DONE
    score = read_score(Path(f"{file}.orch"))
    assert program.events == [
        {
            "event": "composed",
            "path": f"{file}.orch",
            "name": "x.bin",
            "size_bytes": 40001,
            "part_size_bytes": 20000,
            "parts": 3,
            "sha1": hashlib.sha1(file.read_bytes()).hexdigest(),
            "info_hash": score.info_hash.hex(),
        }
    ]


@pytest.mark.parametrize(
    ("part_size", "part_size_bytes"),
    [("1", 1), ("1000", 1000), ("16K", 16384), ("16384", 16384), ("20000", 20000), ("1M", MIB)],
)
def test_every_part_size_gives_the_right_orch_and_a_torrent_with_the_same_info_hash(
    programs: Programs, folder: Path, part_size: str, part_size_bytes: int
) -> None:
    started = []
    for size_bytes in (1, 20_000, 32_768, 40_001, 2 * MIB + (part_size_bytes == MIB)):
        if size_bytes // part_size_bytes > 50_000:
            continue
        file = make_file(folder, f"f{size_bytes}", size_bytes)
        started.append((file, programs.start("composer", file, CONDUCTOR, part_size, "--torrent")))
    for file, program in started:
        event = program.wait_for_event("composed")
        assert program.wait() == ExitCode.DONE
        content = file.read_bytes()
        orch = Path(f"{file}.orch").read_bytes()
        assert orch == plain_orch(
            content, conductor=CONDUCTOR, name=file.name, part_size_bytes=part_size_bytes
        )
        assert format_score(read_score(Path(f"{file}.orch"))) == orch
        params = lt.load_torrent_file(f"{file}.torrent")
        assert params.ti.info_hashes().v1.to_bytes().hex() == event["info_hash"]
        assert params.ti.total_size() == len(content)
        assert params.trackers == [f"http://{CONDUCTOR}/announce"]


@pytest.mark.fault("O3")
def test_an_empty_file_has_no_parts(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "empty", 0)
    code, program = programs.run("composer", file, CONDUCTOR)
    assert code == ExitCode.DONE
    assert program.events[0]["parts"] == 0
    assert Path(f"{file}.orch").read_bytes() == (
        b"192.168.1.1:9999\nempty\nda39a3ee5e6b4b0d3255bfef95601890afd80709\n0\n16384\n0\n"
    )


def test_several_conductors_are_kept_in_order_in_both_files(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "x", 10)
    code, _ = programs.run("composer", file, "b.example:1, [2001:db8::1]:2", "--torrent")
    assert code == ExitCode.DONE
    assert Path(f"{file}.orch").read_bytes().startswith(b"b.example:1,[2001:db8::1]:2\nx\n")
    assert lt.load_torrent_file(f"{file}.torrent").trackers == [
        "http://b.example:1/announce",
        "http://[2001:db8::1]:2/announce",
    ]


def test_a_large_file_gets_larger_parts_and_all_of_it_is_hashed(programs: Programs, folder: Path) -> None:
    file = make_hole(folder, 257 * MIB)
    code, program = programs.run("composer", file, CONDUCTOR)
    assert code == ExitCode.DONE
    assert (program.events[0]["part_size_bytes"], program.events[0]["parts"]) == (32 * KIB, 257 * 32)
    # truncate -s 257M hole; sha1sum hole
    assert program.events[0]["sha1"] == "29715ab466caeb7a8a8ebe940b5ca9070317c0fb"


def test_the_output_goes_where_it_is_asked_for(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "x", 10)
    (folder / "out").mkdir()
    code, program = programs.run("composer", file, "-o", folder / "out" / "y.orch", "--torrent", json=False)
    assert code == ExitCode.DONE
    assert program.noise == [f"{folder}/out/y.orch\n", f"{folder}/out/y.torrent\n"]
    assert names_in(folder) == ["out", "x"]
    assert names_in(folder / "out") == ["y.orch", "y.torrent"]
    assert read_score(folder / "out" / "y.orch").name == "x"


@pytest.mark.fault("O3")
def test_the_same_file_makes_the_same_bytes_again(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "x", 100_000)
    outputs = []
    for name in ("1.orch", "2.orch"):
        programs.run("composer", file, CONDUCTOR, "-o", folder / name, "--torrent")
        outputs.append(
            ((folder / name).read_bytes(), (folder / name.replace("orch", "torrent")).read_bytes())
        )
    assert outputs[0] == outputs[1]


def test_the_name_is_only_the_last_component_of_the_path(programs: Programs, folder: Path) -> None:
    make_file(folder, "x", 10)
    for path in ("./x", "../files/x", folder / "x"):
        code, _ = programs.run("composer", path, CONDUCTOR, "-o", "out.orch", "--force", cwd=folder)
        assert code == ExitCode.DONE
        assert read_score(folder / "out.orch").name == "x"


def test_a_name_in_decomposed_unicode_is_written_composed(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "cafe\u0301", 10)
    code, program = programs.run("composer", file, CONDUCTOR)
    assert code == ExitCode.DONE
    assert program.events[0]["name"] == "caf\u00e9"
    assert "composed Unicode (NFC)" in program.stderr


def test_a_file_that_looks_like_an_option_is_composed_after_two_dashes(
    programs: Programs, folder: Path
) -> None:
    make_file(folder, "-q", 10)
    code, _ = programs.run("composer", "-o", "out.orch", "--log-dir", "logs", "./-q", cwd=folder)
    assert code == ExitCode.DONE
    assert read_score(folder / "out.orch").name == "-q"


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are always text there")
def test_a_folder_whose_name_is_not_text_is_no_obstacle(programs: Programs, folder: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))
    odd.mkdir()
    file = make_file(odd, "x", 10)
    code, program = programs.run("composer", file, CONDUCTOR, json=False)
    assert code == ExitCode.DONE
    assert program.noise == [f"{folder}/caf\\xe9/x.orch\n"]
    code, program = programs.run("composer", file, CONDUCTOR, "--force")
    assert code == ExitCode.DONE
    assert read_score(Path(program.events[0]["path"])).name == "x"


def test_metadata_that_torrent_clients_refuse_is_warned_of(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "x", 510_000)
    code, program = programs.run("composer", file, CONDUCTOR, "1")
    assert code == ExitCode.DONE
    assert "choose a larger part size" in program.stderr
    assert read_score(Path(f"{file}.orch")).parts == 510_000


# What is in the way


@pytest.mark.fault("O3")
def test_what_exists_is_replaced_only_by_force(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "x", 10)
    for in_the_way in ("x.orch", "x.torrent"):
        (folder / in_the_way).write_bytes(b"precious")
        _, program = programs.run("composer", file, CONDUCTOR, "--torrent", json=False)
        line = assert_one_line_of_error(program, ExitCode.STORAGE)
        assert f"{in_the_way} exists already: use --force" in line
        assert (folder / in_the_way).read_bytes() == b"precious"
        assert names_in(folder) == ["x", in_the_way]
        (folder / in_the_way).unlink()
    (folder / "x.orch").write_bytes(b"old")
    (folder / "x.torrent").write_bytes(b"old")
    assert programs.run("composer", file, CONDUCTOR, "--torrent", "--force")[0] == ExitCode.DONE
    assert read_score(folder / "x.orch").size_bytes == 10
    assert names_in(folder) == ["x", "x.orch", "x.torrent"]


@pytest.mark.fault("O3")
def test_the_place_is_checked_before_the_file_is_read(programs: Programs, folder: Path) -> None:
    file = make_hole(folder, 4096 * GIB)  # to read it would take longer than this test may
    (folder / "hole.orch").touch()
    _, program = programs.run("composer", file, CONDUCTOR, "1G", json=False)
    assert "exists already" in assert_one_line_of_error(program, ExitCode.STORAGE)
    _, program = programs.run("composer", file, CONDUCTOR, "1G", "-o", folder / "no" / "x.orch", json=False)
    assert "cannot write" in assert_one_line_of_error(program, ExitCode.STORAGE)
    _, program = programs.run("composer", file, CONDUCTOR, "1", json=False)
    assert "more than 64 MiB: use" in assert_one_line_of_error(program, ExitCode.USAGE)


@pytest.mark.fault("O3")
def test_the_composition_itself_is_never_the_output(programs: Programs, folder: Path) -> None:
    file = make_file(folder, "x.torrent", 10)
    before = file.read_bytes()
    (folder / "link.orch").symlink_to("x.torrent")
    outputs: list[list[str | Path]] = [
        ["-o", file],
        ["-o", folder / "x.orch", "--torrent"],
        ["-o", folder / "link.orch"],
    ]
    for arguments in outputs:
        _, program = programs.run("composer", file, CONDUCTOR, "--force", *arguments, json=False)
        assert "is the file to be composed" in assert_one_line_of_error(program, ExitCode.USAGE)
    assert file.read_bytes() == before
    assert names_in(folder) == ["link.orch", "x.torrent"]


# What is wrong


@pytest.mark.fault("O3")
@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["x", "localhost"], ExitCode.USAGE, "no port"),
        (["x", ""], ExitCode.USAGE, "a conductor is missing"),
        (["x", "a:0"], ExitCode.USAGE, "port must be a number from 1 to 65535"),
        (["x", "http://localhost:9999/announce"], ExitCode.USAGE, "without http://"),
        (["x", "a:1\nb"], ExitCode.USAGE, "port must be"),
        (["x", "\x1b[31m:1"], ExitCode.USAGE, "not a host name"),
        (["x", "16K"], ExitCode.USAGE, "composer.py FILE CONDUCTOR PART_SIZE"),
        (["x", CONDUCTOR, "0"], ExitCode.USAGE, "part size in bytes must be from 1"),
        (["x", CONDUCTOR, "12x"], ExitCode.USAGE, "write bytes as 16384, 16K or 1M"),
        (["x", CONDUCTOR, ""], ExitCode.USAGE, "write bytes as"),
        (["x", CONDUCTOR, "1_000"], ExitCode.USAGE, "write bytes as"),
        (["x", CONDUCTOR, "\uff11"], ExitCode.USAGE, "write bytes as"),
        (["x", CONDUCTOR, "9007199254740993"], ExitCode.USAGE, "part size in bytes must be from 1"),
        (["x", CONDUCTOR, "9999999999999999G"], ExitCode.USAGE, "part size in bytes must be from 1"),
        (["x", CONDUCTOR, "1", "2"], ExitCode.USAGE, "unrecognized arguments"),
        (["--no-such-option", "x"], ExitCode.USAGE, "unrecognized arguments"),
        (["empty", CONDUCTOR, "--torrent"], ExitCode.USAGE, "leave out --torrent"),
        (["missing", CONDUCTOR], ExitCode.STORAGE, "missing: no such file"),
        (["x/y", CONDUCTOR], ExitCode.STORAGE, "Not a directory"),
        (["pipe", CONDUCTOR], ExitCode.STORAGE, "is a named pipe, not a file"),
        (["/dev/zero", CONDUCTOR], ExitCode.STORAGE, "is a device, not a file"),
        ([".", CONDUCTOR], ExitCode.STORAGE, "composing folders is not possible yet"),
        (["..", CONDUCTOR], ExitCode.STORAGE, "composing folders is not possible yet"),
        (["", CONDUCTOR], ExitCode.STORAGE, "composing folders is not possible yet"),
        (["x", CONDUCTOR, "-o", "."], ExitCode.STORAGE, "is a folder"),
        (["x", CONDUCTOR, "-o", "pipe", "--force"], ExitCode.STORAGE, "not a regular file"),
        (["x", CONDUCTOR, "-o", "missing/y"], ExitCode.STORAGE, "No such file or directory"),
        (["x", CONDUCTOR, "-o", "y" * 256], ExitCode.STORAGE, "name too long"),
    ],
)
def test_each_error_is_one_line_with_its_exit_code_and_leaves_no_file(
    programs: Programs, folder: Path, arguments: list[str], code: ExitCode, reason: str
) -> None:
    make_file(folder, "x", 10)
    make_file(folder, "empty", 0)
    os.mkfifo(folder / "pipe")
    program = programs.start("composer", *arguments, cwd=folder, json=False)
    assert reason in assert_one_line_of_error(program, code)
    assert not program.noise
    assert names_in(folder) == ["empty", "pipe", "x"]


def test_with_json_an_error_is_an_event_too(programs: Programs, folder: Path) -> None:
    program = programs.start("composer", "missing", CONDUCTOR, cwd=folder)
    line = assert_one_line_of_error(program, ExitCode.STORAGE)
    assert program.events == [
        {"event": "error", "message": line.removeprefix("composer: error: "), "exit_code": 4}
    ]


@pytest.mark.skipif(os.name == "nt", reason="such files cannot exist there")
@pytest.mark.parametrize(
    "name",
    [
        b"a\nb",
        b"\x1b[31mred",
        b"a\x7f",
        b"a\\b",
        b"..\\x",
        "a\x85b".encode(),
        "a\u2028b".encode(),
        "\u202egpj.exe".encode(),
        b"CON",
        b"nul.txt",
        b"dot.",
        b"blank ",
        b"x" * 241,
        pytest.param(
            b"caf\xe9", marks=pytest.mark.skipif("sys.platform == 'darwin'", reason="UTF-8 names only")
        ),
    ],
)
def test_a_name_that_the_format_cannot_hold_is_a_usage_error(
    programs: Programs, folder: Path, name: bytes
) -> None:
    file = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
    file.touch()
    program = programs.start("composer", file, CONDUCTOR, json=False)
    assert "; rename the file" in assert_one_line_of_error(program, ExitCode.USAGE)
    assert names_in(folder) == [file.name]


def test_without_arguments_it_shows_how_to_use_it(programs: Programs, folder: Path) -> None:
    import subprocess
    import sys

    from tests.programs import ROOT

    done = subprocess.run(
        [sys.executable, str(ROOT / "composer.py")], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    assert "usage: composer.py" in done.stderr
    assert "192.168.1.1:9999 --torrent" in done.stderr


# What happens meanwhile


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize(("size_bytes", "part_size"), [(1024 * GIB, "1G"), (32 * GIB, "32K")])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", None)])
def test_a_signal_in_the_middle_ends_it_and_who_helps_at_once_and_leaves_no_file(
    programs: Programs, folder: Path, signum: int, size_bytes: int, part_size: str
) -> None:
    make_hole(folder, size_bytes)
    program = programs.start(
        "composer", "hole", CONDUCTOR, part_size, "--torrent", "-v", json=False, cwd=folder
    )
    program.wait_for_stderr("hashing hole: ")
    program.signal(signum)
    assert program.wait() == -signum
    assert "Traceback" not in program.stderr
    assert names_in(folder) == ["hole"]


@pytest.mark.fault("O3")
def test_a_file_that_changes_meanwhile_is_an_error_and_leaves_no_file(
    programs: Programs, folder: Path
) -> None:
    make_hole(folder, 256 * GIB)  # cut short, it takes no time
    program = programs.start("composer", "hole", CONDUCTOR, "-v", json=False, cwd=folder)
    program.wait_for_stderr("hashing hole: ")
    os.truncate(folder / "hole", 1000)
    assert program.wait() == ExitCode.STORAGE
    assert "composer: error: hole: changed while it was read" in program.stderr
    assert names_in(folder) == ["hole"]


def test_progress_is_said_on_stderr_only_and_not_when_quiet(programs: Programs, folder: Path) -> None:
    make_hole(folder, 300 * MIB)
    code, program = programs.run("composer", "hole", CONDUCTOR, "-q", json=False, cwd=folder)
    assert (code, program.noise, program.stderr) == (ExitCode.DONE, [], "")
    assert (folder / "hole.orch").exists()
