"""Tables of utterances: read strictly, with the place of every mistake; and media read through the front end."""

from __future__ import annotations

import re
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import avsr
from avsr.corpora import (
    AlignedWord,
    Utterance,
    noise_files,
    noise_seen_in_training,
    read_clip,
    read_corpus,
    read_senses,
    read_table,
)
from avsr.corpora.tables import parse_alignment
from avsr.errors import InputError, MediaError
from avsr.evaluate.clips import ClipUnderTest
from avsr.types import TICK_SAMPLES, VideoFrame

DEMO_CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"
HEADER = "path\tspeaker\tsplit\tseconds\ttext\twords\n"

spoken = st.text(st.characters(categories=["Ll", "Lu", "Nd", "Po"]), min_size=1)
times_s = st.integers(0, 100_000).map(lambda ms: ms / 1000)
words = st.builds(
    lambda text, first_s, second_s: AlignedWord(text, min(first_s, second_s), max(first_s, second_s)),
    spoken,
    times_s,
    times_s,
)


@given(st.lists(words))
def test_what_is_written_as_an_alignment_is_read_back(items: list[AlignedWord]) -> None:
    written = " ".join(f"{word.text}:{word.start_s:.3f}-{word.end_s:.3f}" for word in items)
    assert parse_alignment(written, "here") == tuple(items)


@given(st.text())
def test_any_text_is_an_alignment_or_an_input_error(text: str) -> None:
    try:
        items = parse_alignment(text, "here")
    except InputError as error:
        assert str(error).startswith("here: ")
    else:
        assert all(word.text and 0 <= word.start_s <= word.end_s < float("inf") for word in items)


@pytest.mark.parametrize(
    "text", ["bin", "bin:1", "bin:-1-2", "bin:2-1", ":1-2", "bin:a-b", "bin:0-inf", "bin:nan-nan", "a:0-1 b", "a:1-"]
)
def test_a_malformed_alignment_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"table\.tsv:7: "):
        parse_alignment(text, "table.tsv:7")


def test_a_table_is_read_with_its_paths_beside_it(tmp_path: Path) -> None:
    table = tmp_path / "some.tsv"
    table.write_text(HEADER + 'a/1.mp4\ts1\ttrain\t1.0\tbin "blue\tbin:0.1-0.2 "blue:0.2-0.5\nb.wav\ts2\tdev\t2\t\t\n')
    first, second = read_table(table)
    assert (first.path, first.speaker, first.split, first.text) == (tmp_path / "a/1.mp4", "s1", "train", 'bin "blue')
    assert first.words == (AlignedWord("bin", 0.1, 0.2), AlignedWord('"blue', 0.2, 0.5))
    assert (second.path, second.text, second.words) == (tmp_path / "b.wav", "", ())
    assert (first.seconds, second.seconds) == (1.0, 2.0)


def test_a_file_much_shorter_than_its_table_says_is_reported(tmp_path: Path) -> None:
    table = tmp_path / "some.tsv"
    table.write_text(HEADER + "a.mp4\ts1\ttrain\t3.0\nb.mp4\ts1\ttrain\t \nc.mp4\ts1\ttrain\nd.mp4\ts1\ttrain\t3\n")
    stated, empty, left_out, rounded = read_table(table)
    assert stated.shortfall(2.7) == f"{tmp_path}/a.mp4 ends after 2.7 s of the 3.0 s that its table states"
    assert [stated.shortfall(duration_s) for duration_s in (2.85, 3.0, 9.0)] == [None] * 3
    assert (empty.shortfall(0.0), left_out.shortfall(0.0)) == (None, None)
    assert (rounded.shortfall(2.1), rounded.shortfall(1.9) is None) == (None, False)


@pytest.mark.parametrize("content", ["", HEADER + "\n"], ids=["empty", "no rows"])
def test_a_corpus_without_a_clip_is_refused(tmp_path: Path, content: str) -> None:
    """As a list of noises it may be empty."""
    table = tmp_path / "some.tsv"
    table.write_text(content)
    assert read_table(table) == []
    with pytest.raises(InputError, match=r"some\.tsv: lists no clip"):
        read_corpus(table)


def test_a_byte_order_mark_is_no_part_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "some.tsv"
    table.write_text(HEADER + "a.mp4\ts1\ttrain\t1\tbin\t\n", encoding="utf-8-sig")
    assert [utterance.path for utterance in read_table(table)] == [tmp_path / "a.mp4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path\tspeaker\ttext\twords\nx\ts\tt\t\n", "split"),
        (HEADER.encode() + b"x.mp4\ts1\ttrain\t1\tbin\tbin:0-1\ny.mp4\ts1\ttrain\t1\tbin\tbin\n", r"some\.tsv:3"),
        (HEADER.encode() + b"x.mp4\ts1\ttrain\ny.mp4\ts1\n", r"some\.tsv:3: .*fewer cells"),
        (HEADER.encode() + b"\ts1\ttrain\t1\tbin\t\n", r"some\.tsv:2: lacks a path"),
        (HEADER.encode() + b"x.mp4\ts1\ttrain\t3,0\tbin\t\n", r"some\.tsv:2: '3,0' is no length"),
        (HEADER.encode() + b"x.mp4\ts1\ttrain\tinf\tbin\t\n", r"some\.tsv:2: 'inf' is no length"),
        (HEADER.encode() + b"x.mp4\ts1\ttrain\n\n\ny.mp4\ts1\n", r"some\.tsv:5: .*fewer cells"),
        (b"\xff\xfe\x00", "cannot be read"),
        (HEADER.encode() + b"x" * 200_000, "cannot be read"),
    ],
    ids=[
        "no column",
        "bad alignment",
        "cut row",
        "no path",
        "no number",
        "no end",
        "blank lines",
        "not text",
        "endless field",
    ],
)
def test_a_wrong_table_is_refused_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    table = tmp_path / "some.tsv"
    table.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(table)
    assert str(table) in str(caught.value)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "none.tsv"))):
        read_table(tmp_path / "none.tsv")


def test_neither_a_file_nor_a_voice_nor_a_recording_both_trains_and_tests(tmp_path: Path) -> None:
    speakers = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "b3": "b", "c": "c", "d": ""}  # every other one trains
    rows = [f"{name}.ogg\t{speaker}\tbabble\t1\t\t\n" for name, speaker in speakers.items()]
    (tmp_path / "speech.tsv").write_text(HEADER + "".join([*rows, "0.ogg\te\ttest\t1\t\t\n"]))
    names = ("1-5-A-3", "1-5-B-3", "1-6-A-3", "1-7-A-3", "1-7-B-3", "1-7-C-3", "rain-B", "rain-C", "x", "y")
    (tmp_path / "noise.tsv").write_text(HEADER + "".join(f"{name}.ogg\t\t\t1\t\t\n" for name in names))
    assert [[path.stem for path in files] for files in noise_files(tmp_path)] == [
        ["a1", "b1", "b3", "d"],
        ["1-5-A-3", "1-6-A-3", "1-7-B-3", "rain-B", "x"],
    ]
    unfit = {path.stem for path in noise_seen_in_training(tmp_path)}
    assert unfit == {*speakers, *names} - {"c", "rain-C", "y"}


def test_a_training_file_with_a_second_name_is_not_used_for_testing(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.ogg").touch()
    (tmp_path / "d.ogg").symlink_to("c.ogg")
    listed = {"a.ogg": "ab", "b.ogg": "c", "c.ogg": "d", "d.ogg": "e"}  # the first, the third and the fifth train
    rows = [f"{name}\t{speaker}\tbabble\t1\t\t\n" for name, speakers in listed.items() for speaker in speakers]
    (tmp_path / "speech.tsv").write_text(HEADER + "".join(rows))
    (tmp_path / "noise.tsv").write_text(HEADER)
    voices, _ = noise_files(tmp_path)
    assert [path.name for path in voices] == ["a.ogg", "b.ogg", "d.ogg"]
    assert noise_seen_in_training(tmp_path) == {(tmp_path / name).resolve() for name in ("a.ogg", "b.ogg", "c.ogg")}


def test_the_corpora_keep_their_halves_apart(shared_data: Path) -> None:
    train_voices, train_noises = noise_files(shared_data)
    voices = [row.path for row in read_table(shared_data / "speech.tsv") if row.split == "babble"]
    noises = [row.path for row in read_table(shared_data / "noise.tsv")]
    unfit = noise_seen_in_training(shared_data)
    test_voices, test_noises = ([path for path in some if path.resolve() not in unfit] for some in (voices, noises))
    assert train_voices
    assert train_noises
    assert not {*train_voices, *train_noises} & {*test_voices, *test_noises}
    assert not {path.parent.name for path in train_voices} & {path.parent.name for path in test_voices}  # speakers
    train_recordings, test_recordings = (
        {path.stem[:-2] for path in noises if path.parent.parent.name == "esc10"}
        for noises in (train_noises, test_noises)
    )
    assert not train_recordings & test_recordings
    assert len(test_voices) > 100
    assert len(test_noises) > 100


def test_the_corpus_has_its_clips_and_their_words_are_aligned(shared_data: Path) -> None:
    for utterance in read_table(shared_data / "grid.tsv")[::50]:
        assert utterance.path.exists()
        if utterance.words:
            assert utterance.text.split() == [word.text for word in utterance.words]


def test_a_clip_is_read_whole_and_as_its_senses() -> None:
    samples, frames = read_clip(DEMO_CLIP)
    senses = read_senses(DEMO_CLIP, "audio")
    assert len(frames) == 100
    assert all(isinstance(frame, VideoFrame) for frame in frames)
    assert np.array_equal(samples, senses.samples[: len(samples)])
    assert senses.start_tick == 0
    assert len(senses.samples) == TICK_SAMPLES * senses.num_ticks
    assert senses.num_ticks == pytest.approx(100, abs=2)
    assert not senses.visible.any()


def test_a_clip_that_must_be_whole_is_refused_where_it_is_damaged(tmp_path: Path) -> None:
    path, content = tmp_path / "lost.mp4", DEMO_CLIP.read_bytes()
    path.write_bytes(content[:20_000] + bytes(9000) + content[29_000:])
    assert read_senses(path, "audio").num_ticks == pytest.approx(100, abs=2)
    with pytest.raises(MediaError, match=r"lost\.mp4: .*damaged"):
        read_senses(path, "audio", must_be_whole=True)
    assert read_senses(DEMO_CLIP, "audio", must_be_whole=True).num_ticks == pytest.approx(100, abs=2)


def test_sound_alone_is_read_without_looking_for_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avsr.lips.landmarks.FaceMesh", None)
    senses = read_senses(DEMO_CLIP.with_name("babble.ogg"), "av")
    assert senses.heard.all()
    assert not senses.visible.any()


def test_what_cannot_be_used_in_a_file_is_said_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "slow.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(2000)
        file.writeframes(bytes(4000))
    for read in (
        lambda path: read_senses(path, "audio"),
        read_clip,
        lambda path: ClipUnderTest(Utterance(path, "", "", "", ())),
    ):
        with pytest.raises(MediaError, match=r"slow\.wav: .*2000 Hz"):
            read(path)
