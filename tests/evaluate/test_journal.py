"""The journal: nothing is lost, nothing is mixed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from full_disk import NO_ROOM, full_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.errors import InputError
from avsr.evaluate.conditions import CLEAN, Condition
from avsr.evaluate.journal import JOURNAL_FILE, SETTINGS_FILE, Journal, Mix, Result

SETTINGS = {"seed": 0, "noise": {"rain": "1"}, "systems": {"av@320": {"model": "a"}}}
RAIN = Condition("rain", -5.0)


def result(text: str) -> Result:
    return Result(text, 0.25, 0.1, None, 0.123456, None, 0.5, 3.0)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    mix = Mix(("r.wav@3", "s.wav@0"), "ff", -20.125, None)
    with Journal(tmp_path, SETTINGS) as journal:
        journal.add_mix("a", RAIN, mix)
        journal.add_mix("a", RAIN, mix)
        journal.add_result("a", RAIN, "av@320", result("caf\udce9 \u00e9"))
        journal.add_result("a", CLEAN, "av@320", result("bin"))
    with Journal(tmp_path, SETTINGS) as again:
        assert again.mixes == journal.mixes == {("a", RAIN): mix}
        assert again.results == journal.results
    assert len((tmp_path / JOURNAL_FILE).read_bytes().splitlines()) == 3


@settings(deadline=None, max_examples=20)
@given(num_bytes=st.integers(1, 150))
def test_a_run_killed_while_writing_loses_only_that_line(
    num_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("killed")
    with Journal(directory, SETTINGS) as journal:
        for clip in "ab":
            journal.add_result(clip, CLEAN, "av@320", result("bin blue"))
    path = directory / JOURNAL_FILE
    path.write_bytes(path.read_bytes()[:-num_bytes])
    with Journal(directory, SETTINGS) as journal:
        assert set(journal.results) == {("a", CLEAN, "av@320")}
        journal.add_result("b", CLEAN, "av@320", result("bin blue"))
    with Journal(directory, SETTINGS) as journal:
        assert len(journal.results) == 2


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    no_room = pytest.raises(InputError, match=rf"journal\.jsonl: cannot be written \({NO_ROOM}\)")
    with full_disk(1000), no_room, Journal(tmp_path, SETTINGS) as journal:
        journal.add_result("a", CLEAN, "av@320", result("bin blue"))
        journal.add_result("b", CLEAN, "av@320", result(1000 * "x"))
    with Journal(tmp_path, SETTINGS) as again:
        assert set(again.results) == {("a", CLEAN, "av@320")}


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"noise": {"rain": "2"}}, {"systems": {"av@320": {"model": "b"}}}], ids=str
)
def test_another_configuration_is_refused_and_changes_nothing(other: dict[str, object], tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        journal.add_result("a", CLEAN, "av@320", result("bin"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"another configuration.*choose another -o"):
        Journal(tmp_path, {**SETTINGS, **other})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_may_be_widened(tmp_path: Path) -> None:
    more = {"seed": 0, "noise": {"cafe": "3"}, "systems": {"audio@320": {"model": "a"}}}
    for some in (SETTINGS, more):
        with Journal(tmp_path, some) as journal:
            journal.add_result(str(some), CLEAN, "av@320", result("bin"))
    with pytest.raises(InputError, match="noise rain"):
        Journal(tmp_path, {"noise": {"rain": "4"}})


def test_a_clip_that_was_measured_must_be_the_same(tmp_path: Path) -> None:
    with Journal(tmp_path, {"clips": {"a": "1", "b": None}}) as journal:
        journal.add_result("a", CLEAN, "av@320", result("bin"))
    with Journal(tmp_path, {"clips": {"b": "2", "c": "3"}}) as journal:
        journal.add_mix("b", RAIN, Mix((), "ff", None, None))
        journal.add_defect("c", "its end")
    for clip in "abc":
        with pytest.raises(InputError, match=rf"clips {clip} was '.' and is '4' now"):
            Journal(tmp_path, {"clips": {clip: "4"}})
    Journal(tmp_path, {"clips": {"a": "1", "b": "2", "c": "3", "d": "4"}}).__exit__(None, None, None)


def test_results_of_clips_without_a_known_hash_are_refused(tmp_path: Path) -> None:
    with Journal(tmp_path, {"corpus_sha256": "1"}) as journal:
        journal.add_result("a", CLEAN, "av@320", result("bin"))
    with pytest.raises(InputError, match="clips a was None and is '1' now"):
        Journal(tmp_path, {"clips": {"a": "1"}})


def test_settings_without_results_may_be_replaced(tmp_path: Path) -> None:
    other = {**SETTINGS, "seed": 1}
    Journal(tmp_path, SETTINGS).__exit__(None, None, None)
    with Journal(tmp_path, other) as journal:
        journal.add_result("a", CLEAN, "av@320", result("bin"))
    with pytest.raises(InputError, match="seed was 1 and is 0 now"):
        Journal(tmp_path, SETTINGS)


def test_two_runs_do_not_write_to_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS), pytest.raises(InputError, match="another process"):
        Journal(tmp_path, SETTINGS)
    Journal(tmp_path, SETTINGS).__exit__(None, None, None)


def line_of(**values: object) -> str:
    return json.dumps({"clip": "a", **asdict(RAIN), **values})


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "5",
        "nonsense",
        '{"clip": "a", "lack": null}',
        line_of(mix={"x": 1}),
        line_of(mix=asdict(Mix((5,), "ff", None, None))),  # type: ignore[arg-type]
        line_of(mix=asdict(Mix((), "ff", "loud", None))),  # type: ignore[arg-type]
        line_of(system="av@320", result=asdict(result(5))),  # type: ignore[arg-type]
        line_of(system="av@320", result={**asdict(result("bin")), "audio_weight": "0.5"}),
        line_of(system="av@320", result={**asdict(result("bin")), "work_s": None}),
    ],
)
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_text(f"{line}\n")
    with pytest.raises(InputError, match=rf"{JOURNAL_FILE}:1: damaged"):
        Journal(tmp_path, SETTINGS)


@pytest.mark.parametrize("content", ["5", "[]", '{"clips": 5}', "nonsense"])
def test_damaged_settings_are_named(content: str, tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        journal.add_result("a", CLEAN, "av@320", result("bin"))
    (tmp_path / SETTINGS_FILE).write_text(content)
    with pytest.raises(InputError, match=rf"{SETTINGS_FILE}: damaged"):
        Journal(tmp_path, SETTINGS)
