"""Caption files: what each format holds, and that none is ever half-written."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from avsr.captions.files import FORMATS, caption_paths, render, write_transcript
from avsr.errors import InputError
from avsr.types import Caption, Transcript, Word

WORDS = (Word("bin", 0.48, 0.72, 0.98), Word("blue", 0.72, 1.0, 0.5))
SEGMENT = Caption(0, 3, True, WORDS, 8, 0.48, 1.0, audio_weight=0.75, face_visible=1.0)
SILENCE = Caption(1, 0, True, (), 0, 1.0, 1.0, audio_weight=0.5, face_visible=0.0)
TRANSCRIPT = Transcript((SEGMENT, SILENCE), 3.0, "tiny", "0.1", rtf=0.25, source="a.mp4", warnings=("no face",))
NOTHING = Transcript((), 0.0, "tiny", "0.1")


def test_txt_has_one_segment_a_line() -> None:
    assert render(TRANSCRIPT, "txt") == "bin blue\n"


def test_srt_and_vtt_show_the_cue() -> None:
    assert render(TRANSCRIPT, "srt") == "1\n00:00:00,480 --> 00:00:01,280\nbin blue\n\n"
    assert render(TRANSCRIPT, "vtt") == "WEBVTT\n\n1\n00:00:00.480 --> 00:00:01.280\nbin blue\n\n"


def test_json_holds_words_weights_and_the_model() -> None:
    document = json.loads(render(TRANSCRIPT, "json"))
    assert document["segments"][0] == {
        "text": "bin blue",
        "start": 0.48,
        "end": 1.0,
        "audio_weight": 0.75,
        "face_visible": 1.0,
        "words": [
            {"text": "bin", "start": 0.48, "end": 0.72, "confidence": 0.98},
            {"text": "blue", "start": 0.72, "end": 1.0, "confidence": 0.5},
        ],
    }
    del document["segments"]
    assert document == {
        "source": "a.mp4",
        "model": "tiny",
        "version": "0.1",
        "modality": "av",
        "duration": 3.0,
        "rtf": 0.25,
        "warnings": ["no face"],
        "text": "bin blue",
    }


def test_nothing_said_is_an_honest_empty_file() -> None:
    assert render(NOTHING, "txt") == "" == render(NOTHING, "srt")
    assert render(NOTHING, "vtt") == "WEBVTT\n\n"
    assert json.loads(render(NOTHING, "json"))["segments"] == []


def test_markup_in_words_is_shown_not_obeyed() -> None:
    words = (Word("{b}", 0.0, 0.5, 1.0), Word("<i>&co", 0.5, 1.0, 1.0))
    transcript = Transcript((Caption(0, 0, True, words, 0, 0.0, 1.0, 1.0, 1.0),), 1.0, "m", "1")
    assert "{b} <i>&co\n" in render(transcript, "srt")
    assert "{b} &lt;i&gt;&amp;co\n" in render(transcript, "vtt")


def test_every_format_is_written_under_its_name(tmp_path: Path) -> None:
    paths = write_transcript(TRANSCRIPT, tmp_path / "new" / "dir", "talk.part1", FORMATS)
    assert [path.name for path in paths] == [f"talk.part1.{name}" for name in FORMATS]
    assert sorted(tmp_path.rglob("*.*")) == sorted(paths)
    for path, name in zip(paths, FORMATS, strict=True):
        assert path.read_text(encoding="utf-8") == render(TRANSCRIPT, name)


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = write_transcript(TRANSCRIPT, tmp_path, "talk", ["txt"])

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_transcript(NOTHING, tmp_path, "talk", ["txt"])
    assert path.read_text() == "bin blue\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_format_that_cannot_be_written_is_named_and_keeps_no_other_back(tmp_path: Path) -> None:
    (tmp_path / "talk.srt").mkdir()
    with pytest.raises(InputError, match=r"talk\.srt: cannot be written to: Is a directory"):
        write_transcript(TRANSCRIPT, tmp_path, "talk", ["srt", "txt"])
    assert (tmp_path / "talk.txt").read_text() == "bin blue\n"


def test_a_name_that_is_too_long_says_what_cures_it(tmp_path: Path) -> None:
    assert caption_paths(tmp_path, "x" * 250, ["json"])
    with pytest.raises(InputError, match="name is too long; rename the source"):
        caption_paths(tmp_path, "x" * 251, ["txt", "json"])


def test_a_file_in_the_directorys_place_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="choose another -o DIR"):
        write_transcript(TRANSCRIPT, tmp_path / "out", "talk", ["txt"])


def test_a_source_whose_name_is_not_utf_8_is_written_in_a_printable_form(tmp_path: Path) -> None:
    transcript = replace(TRANSCRIPT, source=os.fsdecode(b"caf\xe9.mp4"))
    (path,) = write_transcript(transcript, tmp_path, "talk", ["json"])
    assert json.loads(path.read_text(encoding="utf-8"))["source"] == "caf?.mp4"


def test_an_unknown_format_names_the_known() -> None:
    with pytest.raises(InputError, match="txt, srt, vtt, json"):
        render(TRANSCRIPT, "ass")
