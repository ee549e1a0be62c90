"""Power cuts in a model: whatever the disk has kept of what was not synced, nothing wrong is believed.

A real writer downloads into a folder, and each of its writes, syncs and renamings is noted in order.
Then, for every prefix of that list, the folder is made as a disk may have it after the power was cut
there: what was synced is there; of what was written since, each piece is there, torn, or not there, by
chance. A writer that starts on it must find each part that had been synced, and believe none that is wrong.
"""

from __future__ import annotations

import os
import queue
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestra import ledger as ledger_module
from orchestra import resume as resume_module
from orchestra import writer as writer_module
from orchestra.messages import Checked, Notice, PartsWritten, Stop, Write
from orchestra.resume import HEADER, ResumeFile
from orchestra.storage import Storage
from orchestra.writer import Writer
from tests import figures
from tests.fakes import PATIENCE_S, CountingBuffer, Reports, blocks_message, content, score_of

PART_BYTES = 24_000
PARTS = 40
DATA = content(PARTS * PART_BYTES - 321)
SCORE = score_of(DATA, PART_BYTES)
NAME = "piece.bin"
CUTS = 500
"""So many at least, each with other luck: each prefix is tried as often as that takes."""


@dataclass
class Journal:
    """What was asked of the disk, in order: ("write", offset, data), ("sync", how many entries it covers),
    ("torn", bytes) and ("state", bytes) before and after the temporary file is durable, ("renamed",).
    """

    entries: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass
class Disk:
    """What a power cut may have left."""

    data: bytearray
    resume: bytes | None
    synced: set[int]
    """Parts that had been written whole before the last sync of the data."""


def run_writer(folder: Path, orders: Sequence[int], *, stop: bool) -> tuple[Checked, list[str]]:
    """A writer's life: what it found, and what it told the user. `orders`: parts that arrive."""
    reports, notices = Reports(), []
    storage = Storage(folder, NAME, SCORE.size_bytes)

    def report(message: Any) -> None:
        if isinstance(message, Notice):
            notices.append(message.text)
        else:
            reports(message)

    writer = Writer(storage, SCORE, queue.SimpleQueue(), report)
    writer.start()
    checked = reports.skip_to(Checked)
    for index in orders:
        run = blocks_message(DATA, index * PART_BYTES, SCORE.part_length(index))
        writer.inbox.put(Write(CountingBuffer(), [run]))
        assert reports.next(PartsWritten) == PartsWritten([index], [])
    assert stop
    writer.inbox.put(Stop())
    writer.join(PATIENCE_S)
    storage.close()
    return checked, notices


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Of one download, which is stopped cleanly with a few parts missing."""
    monkeypatch.setattr(ledger_module, "LEAST_BYTES", 0)
    monkeypatch.setattr(writer_module, "HASHED_BYTES", 0)
    noted = Journal()
    write, sync = Storage.write, Storage.sync

    def noted_write(storage: Storage, views: Sequence[memoryview], offset: int) -> None:
        write(storage, views, offset)
        noted.entries.append(("write", offset, b"".join(views)))

    def noted_sync(storage: Storage) -> None:
        # What is written while it runs may be missed by it: only what came before counts.
        before = len(noted.entries)
        sync(storage)
        noted.entries.append(("sync", before))

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "LONGEST_INTERVAL_S", 0.0)
        patch.setattr(Storage, "write", noted_write)
        patch.setattr(Storage, "sync", noted_sync)
        replace, anew = Path.replace, resume_module._write_anew

        def noted_anew(path: Path, data: bytes) -> None:
            noted.entries.append(("torn", data))
            anew(path, data)
            noted.entries.append(("state", data))

        def noted_replace(path: Path, target: Path) -> Path:
            result = replace(path, target)
            noted.entries.append(("renamed",))
            return result

        patch.setattr(resume_module, "_write_anew", noted_anew)
        patch.setattr(Path, "replace", noted_replace)
        order = list(range(PARTS))
        random.Random(5).shuffle(order)
        (tmp_path / "first").mkdir()
        run_writer(tmp_path / "first", order[: PARTS - 3], stop=True)
    return noted


def after_a_cut(entries: list[tuple[Any, ...]], rng: random.Random) -> Disk:
    """The disk when the power is cut after `entries`."""
    synced_to = max((entry[1] for entry in entries if entry[0] == "sync"), default=0)
    data = bytearray(len(DATA))
    synced: set[int] = set()
    resume: bytes | None = None
    written: bytes | None = None
    for number, entry in enumerate(entries):
        match entry:
            case ("write", offset, block):
                if number < synced_to:
                    data[offset : offset + len(block)] = block
                    synced.add(offset // PART_BYTES)
                    continue
                # Sectors of it, by chance: all, none or some.
                luck = rng.choice((0.0, 0.5, 1.0))
                for at in range(0, len(block), 512):
                    if rng.random() < luck:
                        data[offset + at : offset + at + len(block[at : at + 512])] = block[at : at + 512]
            case ("state", content_):
                written = content_
            case ("renamed",):
                # Durable once the folder was synced, before the next entry; the last one may be lost.
                if number + 1 < len(entries) or rng.random() < 0.5:
                    resume = written
    return Disk(data, resume, synced)


def put(disk: Disk, folder: Path) -> Path:
    """Make it so, in the worst manner: the file has the size, time and number that the resume file has."""
    path = folder / f"{NAME}.part"
    path.write_bytes(disk.data)
    state = folder / f".{NAME}.resume"
    state.unlink(missing_ok=True)
    if disk.resume is not None:
        fields = list(HEADER.unpack_from(disk.resume))
        mtime_ns = fields[6]
        fields[5], fields[7] = len(DATA), path.stat().st_ino
        body = HEADER.pack(*fields) + disk.resume[HEADER.size : -20]
        state.write_bytes(body + resume_module._checksum(body))
        os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def right_parts(data: bytes) -> bytearray:
    parts = range(PARTS)
    places = [slice(index * PART_BYTES, (index + 1) * PART_BYTES) for index in parts]
    return bytearray(data[place] == DATA[place] for place in places)


@pytest.mark.fault("D5")
def test_after_every_power_cut_no_wrong_part_is_believed_and_no_synced_one_is_lost(
    journal: Journal, tmp_path: Path
) -> None:
    folder = tmp_path / "after"
    folder.mkdir()
    rng = random.Random(7)
    cuts = lost_unsynced = believed = 0
    # How many entries there are is luck: who saves slowly has less to save.
    ends = range(len(journal.entries) + 1)
    for end in ends:
        for _ in range(-(-CUTS // len(ends))):
            entries = journal.entries[:end]
            disk = after_a_cut(entries, rng)
            path = put(disk, folder)
            checked, _ = run_writer(folder, [], stop=True)
            right = right_parts(bytes(disk.data))
            assert (
                checked.right == right
                if not checked.doubtful
                else not any(said and not true for said, true in zip(checked.right, right, strict=True))
            ), f"cut after {end} of {len(journal.entries)}"
            assert all(checked.right[index] for index in disk.synced)
            path.unlink()
            cuts += 1
            believed += checked.doubtful
            written = {entry[1] // PART_BYTES for entry in entries if entry[0] == "write"}
            lost_unsynced = max(lost_unsynced, len(written - disk.synced))
    assert cuts >= CUTS
    assert believed, "a cut after the clean end leaves a resume file that may be believed"
    figures.note("D5", "power cuts, wrong parts believed, synced parts lost", f"{cuts}, 0, 0")
    figures.note("D5", "parts that were not synced, at most", lost_unsynced)


@pytest.mark.fault("D5")
def test_after_a_power_cut_the_download_goes_on_to_its_end(journal: Journal, tmp_path: Path) -> None:
    rng = random.Random(11)
    folder = tmp_path / "after"
    folder.mkdir()
    for end in range(0, len(journal.entries) + 1, 7):
        disk = after_a_cut(journal.entries[:end], rng)
        path = put(disk, folder)
        found, _ = run_writer(folder, [], stop=True)
        missing = [index for index in range(PARTS) if not found.right[index]]
        run_writer(folder, missing, stop=True)
        assert path.read_bytes() == DATA
        path.unlink()


@pytest.mark.fault("D5")
def test_what_came_longer_ago_than_the_interval_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when more arrives: a download that stands still is synced as well."""
    monkeypatch.setattr(ledger_module, "LEAST_BYTES", 0)
    monkeypatch.setattr(writer_module, "HASHED_BYTES", 0)
    monkeypatch.setattr(ledger_module, "LONGEST_INTERVAL_S", 0.5)
    saved: queue.SimpleQueue[float] = queue.SimpleQueue()
    save = ResumeFile.save

    def noted(file: ResumeFile, *arguments: Any, **options: Any) -> None:
        save(file, *arguments, **options)
        saved.put(time.monotonic())

    monkeypatch.setattr(ResumeFile, "save", noted)
    reports = Reports()
    storage = Storage(tmp_path, NAME, SCORE.size_bytes)
    writer = Writer(storage, SCORE, queue.SimpleQueue(), reports)
    writer.start()
    reports.skip_to(Checked)
    writer.inbox.put(Write(CountingBuffer(), [blocks_message(DATA, 0, PART_BYTES)]))
    reports.next(PartsWritten)
    came_s = time.monotonic()
    took_s = saved.get(timeout=PATIENCE_S) - came_s
    writer.inbox.put(Stop())
    writer.join(PATIENCE_S)
    storage.close()
    figures.note("D5", "until a part is synced at an interval of 0.5 s, s", f"{took_s:.2f}")
    assert took_s < 0.5 + 2.0
