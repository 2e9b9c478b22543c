"""GRID, LRS2 and LRS3 as they are published become utterances."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.corpora import AlignedWord, read_corpus, read_table
from avsr.errors import InputError


def put(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


ALIGNED = """0 23750 sil
23750 29500 bin
29500 34000 blue
34000 35500 at
35500 41000 f
41000 47250 two
47250 53000 now
53000 74500 sil
"""
TIMED = """Text:  WHEN YOU'RE {LG} THERE
Conf:  4

WORD START END ASDSCORE
WHEN 0.1 0.3 5.0
YOU'RE 0.3 0.5 4.1
THERE 0.6 1.0 2
"""


@pytest.mark.parametrize(
    ("video", "alignment"),
    [
        ("s3/bbaf2n.mpg", "s3/align/bbaf2n.align"),
        ("video/s3/video/mpg_6000/bbaf2n.mpg", "align/s3/align/bbaf2n.align"),
        ("s3_processed/bbaf2n.mpg", "s3_processed/align/bbaf2n.align"),
        ("s3.mpg_vcd/s3/bbaf2n.mpg", "alignments/s3/bbaf2n.align"),
    ],
)
def test_grid_is_found_in_any_nesting(tmp_path: Path, video: str, alignment: str) -> None:
    path = put(tmp_path / video)
    put(tmp_path / alignment, ALIGNED)
    put(tmp_path / "s3" / "readme.mpg")
    (utterance,) = read_corpus(tmp_path)
    assert (utterance.path, utterance.speaker, utterance.text) == (path, "s3", "bin blue at f two now")
    assert utterance.words[0] == AlignedWord("bin", 0.95, 1.18)
    assert len(utterance.words) == 6


def test_a_byte_order_mark_is_no_part_of_an_alignment(tmp_path: Path) -> None:
    put(tmp_path / "s3" / "bbaf2n.mpg")
    put(tmp_path / "s3" / "bbaf2n.align", f"\ufeff{ALIGNED}")
    (utterance,) = read_corpus(tmp_path)
    assert (utterance.problem, len(utterance.words)) == (None, 6)


def test_grid_names_say_what_is_said_and_speakers_decide_the_split(tmp_path: Path) -> None:
    for speaker in ("s2", "s4"):
        for letter in "abcdefghijklmnopqrstuvxyz":
            put(tmp_path / speaker / f"lwi{letter}zp.mpg")
            put(tmp_path / "again" / speaker / f"lwi{letter}zp.mpg")
    utterances = read_corpus(tmp_path)
    assert len(utterances) == 50
    assert utterances[0].text == "lay white in a zero please"
    assert utterances[0].words == ()
    assert {u.split for u in utterances if u.speaker == "s2"} == {"unseen"}
    assert {u.split for u in utterances if u.speaker == "s4"} <= {"train", "dev", "test"}
    assert [u.split for u in read_corpus(tmp_path)] == [u.split for u in utterances]


@pytest.mark.parametrize("content", [b"0 x sil\n", b"0 1\n", b"10 5 bin\n", b"0 1 sil\n", b"", b"\xff\xfe"])
def test_a_malformed_alignment_leaves_only_its_own_clip_without_a_transcript(tmp_path: Path, content: bytes) -> None:
    for name in ("bbaf2n", "lrwz1s"):
        put(tmp_path / "s1" / f"{name}.mpg")
        put(tmp_path / "s1" / f"{name}.align", ALIGNED).write_bytes(content if name == "bbaf2n" else ALIGNED.encode())
    broken, whole = read_corpus(tmp_path)
    assert (broken.path.name, broken.text, broken.words) == ("bbaf2n.mpg", "", ())
    assert broken.problem is not None
    assert str(tmp_path / "s1" / "bbaf2n.align") in broken.problem
    assert (whole.text, len(whole.words), whole.problem) == ("bin blue at f two now", 6, None)


@settings(deadline=None, max_examples=40)
@given(
    st.binary(max_size=200) | st.text().map(str.encode) | st.sampled_from([ALIGNED[:80], TIMED[:50]]).map(str.encode)
)
def test_any_bytes_are_a_transcript_or_the_problem_of_their_clip(content: bytes) -> None:
    with TemporaryDirectory() as name:
        grid, lrs3 = Path(name) / "grid", Path(name) / "lrs3"
        put(grid / "s1" / "bbaf2n.mpg")
        put(grid / "s1" / "bbaf2n.align").write_bytes(content)
        put(lrs3 / "test" / "abc" / "00001.mp4")
        put(lrs3 / "test" / "abc" / "00001.txt").write_bytes(content)
        for source in (grid, lrs3):
            (utterance,) = read_corpus(source)
            if utterance.problem is not None:
                assert (utterance.text, utterance.words) == ("", ())
            assert all(0 <= word.start_s <= word.end_s < float("inf") for word in utterance.words)


def test_lrs2_follows_its_lists(tmp_path: Path) -> None:
    for name, split in (("1/00001", "train"), ("1/00002", "val"), ("2/00001", "test")):
        put(tmp_path / "main" / f"{name}.txt", "Text:  HELLO THERE\nConf: 5\n")
        put(tmp_path / f"{split}.txt", f"{name}{' NF' if split == 'test' else ''}\n")
    put(tmp_path / "pretrain" / "3" / "00001.txt", TIMED)
    put(tmp_path / "pretrain.txt", "3/00001\n")
    utterances = {u.split: u for u in read_corpus(tmp_path)}
    assert {split: u.path.relative_to(tmp_path).as_posix() for split, u in utterances.items()} == {
        "train": "main/1/00001.mp4",
        "dev": "main/1/00002.mp4",
        "test": "main/2/00001.mp4",
        "pretrain": "pretrain/3/00001.mp4",
    }
    assert (utterances["dev"].speaker, utterances["dev"].text, utterances["dev"].words) == ("1", "hello there", ())
    assert utterances["pretrain"].text == "when you're there"
    assert utterances["pretrain"].words[1] == AlignedWord("you're", 0.3, 0.5)


def test_lrs2_without_its_lists_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "main" / "1" / "00001.txt", "Text: A\n")
    with pytest.raises(InputError, match=r"train\.txt"):
        read_corpus(tmp_path)


def test_lrs3_is_split_by_its_directories(tmp_path: Path) -> None:
    for part in ("pretrain", "trainval", "test"):
        put(tmp_path / part / "abc" / "00001.mp4")
        put(tmp_path / part / "abc" / "00001.txt", TIMED)
    assert sorted(u.split for u in read_corpus(tmp_path)) == ["pretrain", "test", "train"]


def test_some_lrs3_speakers_are_set_aside_for_dev_whole(tmp_path: Path) -> None:
    for speaker in range(60):
        for number in (1, 2):
            put(tmp_path / "trainval" / f"id{speaker:02}" / f"0000{number}.mp4")
            put(tmp_path / "trainval" / f"id{speaker:02}" / f"0000{number}.txt", TIMED)
    speakers: dict[str, set[str]] = {"train": set(), "dev": set()}
    for utterance in read_corpus(tmp_path):
        speakers[utterance.split].add(utterance.speaker)
    assert 0 < len(speakers["dev"]) <= 6
    assert not speakers["dev"] & speakers["train"]


@pytest.mark.parametrize("content", ["Conf: 5\n", "Text: A\nText: B\n", "Text: A\nWORD START END\nA 1\n", None])
def test_malformed_or_missing_notes_leave_only_their_own_clip_without_a_transcript(
    tmp_path: Path, content: str | None
) -> None:
    for name in ("00001", "00002"):
        put(tmp_path / "test" / "abc" / f"{name}.mp4")
        put(tmp_path / "main" / "abc" / f"{name}.mp4")
    for part in ("test", "main"):
        if content is not None:
            put(tmp_path / part / "abc" / "00001.txt", content)
        put(tmp_path / part / "abc" / "00002.txt", TIMED)
    (tmp_path / "lrs3").mkdir()
    lrs3 = read_corpus((tmp_path / "test").rename(tmp_path / "lrs3" / "test").parent)
    put(tmp_path / "test.txt", "abc/00001\nabc/00002\n")
    for broken, whole in (lrs3, read_corpus(tmp_path)):
        assert (broken.path.name, broken.text, broken.words) == ("00001.mp4", "", ())
        assert broken.problem is not None
        assert "00001.txt" in broken.problem
        assert (whole.text, len(whole.words), whole.problem) == ("when you're there", 3, None)


def test_times_of_other_words_than_the_text_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "test" / "abc" / "00001.mp4")
    put(tmp_path / "test" / "abc" / "00001.txt", TIMED.replace("THERE 0.6 1.0 2\n", ""))
    (utterance,) = read_corpus(tmp_path)
    assert (utterance.text, utterance.words) == ("when you're there", ())


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "holiday.mp4")
    with pytest.raises(InputError, match=r"give a table"):
        read_corpus(tmp_path)


def test_a_table_is_a_corpus(tmp_path: Path) -> None:
    table = put(tmp_path / "t.tsv", "path\tspeaker\tsplit\tseconds\ttext\twords\na.mp4\ts\tdev\t1\thi\t\n")
    assert read_corpus(table) == read_table(table)
