"""What people and scripts are told of a rehearsal."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestra.rehearsal.result import Result, line_rate
from orchestra.rehearsal.telling import lines, result_fields
from tests.rehearsals import result


def told(made: Result) -> dict[str, str]:
    """The lines by their names, which are a column of their own."""
    rows = [line.split("  ", 1) for line in lines(made) if not line.startswith(" ")]
    return {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}


def test_it_says_when_half_and_the_last_have_it_beside_the_bound() -> None:
    said = told(result("--members", "500", "--size", "5G", "--seed-up", "1G", name="a.bin"))
    assert said["a.bin"] == "5.37 GB in 10,240 parts, rehearsed as 512"
    assert said["500 machines"] == "100 Mbit/s up, 1 Gbit/s down"
    assert said["the sharer"] == "1 Gbit/s up"
    assert said["the bound T*"] == "7 min 20 s, set by what all upload together"
    assert said["half have it"] == "7 min 47 s, 1.06 T*"
    assert said["the last has it"] == "8 min 4 s, 1.10 T*"
    assert said["the sharer sends"].startswith("1.07 copies, 5.74 GB; one is out whole after")
    assert said["without a swarm"].startswith("6 h 14 min")


def test_it_says_within_what_time_they_start_where_that_is_not_usual() -> None:
    said = told(result("--start-within", "30s", "--churn", "leave"))
    assert said["10 machines"].endswith(" down, start within 30 s, each leaves when it is complete")
    assert told(result("--start-within", "10ms"))["10 machines"].endswith(" down, start within 10 ms")
    assert told(result("--start-within", "0.2s"))["10 machines"].endswith(" down")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--seed-up", "1M"], "the sharer's upload"),
        (["--down", "10M"], "each one's download"),
        (["--join-later", "50%:1h"], "who joins last"),
        (["--seed-up", "1G"], "what all upload together"),
    ],
)
def test_it_says_what_sets_the_bound(words: list[str], cause: str) -> None:
    assert result(*words).bound_by == cause


def test_habits_are_told_with_how_many_have_them() -> None:
    made = result("--slow", "50%:10M", "--free-riders", "20%", "--churn", "leave,die:10%,sharer:1.1")
    text = "\n".join(lines(made))
    assert "10 machines       " not in text
    assert "each leaves when it is complete" in text
    assert "of these 5     only 10 Mbit/s up" in text
    assert "of these 2     upload nothing" in text
    assert "of these 1     are cut off half-way" in text
    assert "leaves after 1.10 copies" in text


def test_a_few_groups_are_told_one_by_one_and_many_together() -> None:
    few = "\n".join(lines(result("--slow", "50%:10M")))
    assert ": only 10 Mbit/s up" in few
    assert ": the rest" in few
    many = lines(result("--slow", "50%:10M", "--free-riders", "40%", "--join-later", "50%:9s"))
    assert not [line for line in many if line.startswith("  of")]


def test_who_never_has_it_is_counted() -> None:
    made = result("--churn", "die:20%", finishing=0.5)
    assert (made.finished, made.cut_off) == (4, 2)
    assert told(made)["complete are"] == "4 of 10 machines, 2 are cut off half-way, 4 never get all"


def test_when_nobody_finishes_it_says_never() -> None:
    made = result(finishing=0.0)
    assert told(made)["half have it"] == told(made)["the last has it"] == "never"
    fields = result_fields(made)
    assert (fields["median_s"], fields["last_ratio"], fields["finished"]) == (None, None, 0)


def test_a_copy_that_is_never_out_is_said_to_be_so() -> None:
    made = result()
    without = Result(made.scenario, replace(made.outcome, copies_out_s=None))
    assert told(without)["the sharer sends"].endswith("never a whole one")
    assert result_fields(without)["copy_out_s"] is None


def test_the_event_is_json_in_real_sizes_whatever_was_rehearsed() -> None:
    made = result("--size", "5G", "--members", "500", name="a.bin")
    fields = json.loads(json.dumps(result_fields(made), allow_nan=False))
    assert fields["name"] == "a.bin"
    assert (fields["size_bytes"], fields["parts"], fields["rehearsed_parts"]) == (5 << 30, 10240, 512)
    assert fields["rehearsed_bytes"] == 128 << 20
    assert (fields["members"], fields["finished"]) == (500, 500)
    assert fields["sharer_bytes"] == pytest.approx(1.07 * (5 << 30), rel=1e-3)
    assert fields["last_ratio"] == pytest.approx(fields["last_s"] / fields["bound_s"], abs=1e-3)


def test_a_hostile_name_does_not_reach_the_terminal_as_it_is() -> None:
    assert "\x1b" not in "".join(lines(result(name="\x1b[31mx\n\u202e.bin")))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("1K", "1 kbit/s"),
        ("999K", "999 kbit/s"),
        ("2.5G", "2.5 Gbit/s"),
        ("1000G", "1000 Gbit/s"),
        ("10M", "10 Mbit/s"),
    ],
)
def test_links_are_told_as_they_were_typed(words: str, text: str) -> None:
    assert line_rate(result("--up", words).scenario.plan.groups[1].up_bytes_s) == text


def test_one_machine_is_not_machines() -> None:
    assert "1 machine" in told(result("--members", "1"))
