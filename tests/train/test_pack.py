"""Packs: what was written is what is read, and a kill at any moment leaves a whole pack."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_clips import encoded, make_clip, write_pack

from avsr.corpora import AlignedWord
from avsr.errors import InputError
from avsr.train.packs.reader import (
    HEADER,
    INDEX_FILE,
    Clip,
    ClipData,
    Media,
    MemoryBudget,
    PreparedCorpus,
    fingerprint,
    index_line,
    read_index,
    shard_path,
    spans_of,
)
from avsr.train.packs.writer import PackWriter
from avsr.types import LIP_SIZE, TICK_SAMPLES

MADE = [make_clip(words, index) for index, words in enumerate((["bin"], ["red", "lay"], ["blue"], ["lay"]))]
ENCODED = [encoded(data) for _, data in MADE]


def bare(num_ticks: int, *, heard: bool, visible: bool) -> ClipData:
    """A clip in which a sense may be missing."""
    return ClipData(
        np.full(num_ticks * TICK_SAMPLES, 0.1, np.float32),
        np.full((num_ticks, LIP_SIZE, LIP_SIZE), 99, np.uint8),
        np.full(num_ticks, heard),
        np.full(num_ticks, visible),
    )


def test_clips_and_their_data_come_back(tmp_path: Path) -> None:
    words = (AlignedWord("né", 0.1, 0.2), AlignedWord("'s", 0.2, 0.3))
    odd = Clip("a/\udce9.mp4", "s\t1", "dev", "né 's", words, MADE[0][0].num_ticks)
    made = [*MADE[1:], (odd, MADE[0][1])]
    write_pack(tmp_path / "new", made)
    corpus = PreparedCorpus(tmp_path / "new")
    assert sorted(corpus.clips, key=lambda clip: clip.path) == sorted([c for c, _ in made], key=lambda clip: clip.path)
    assert corpus.select("dev") == [odd]
    for clip, data in made:
        for _ in range(2):  # the second comes out of memory
            read = corpus.load(clip)
            assert np.abs(read.audio - data.audio).mean() < 0.02
            assert np.abs(read.lips.astype(int) - data.lips).mean() < 2
            assert np.array_equal(read.heard, data.heard)
            assert np.array_equal(read.visible, data.visible)
            read.lips[:], read.audio[:] = 0, 0  # belongs to the caller


@pytest.mark.parametrize(
    "times",
    [
        pytest.param([("bin", 0.1, 0.2)], id="of a part of the text"),
        pytest.param([("bin", 0.1, 0.2), ("blue", 0.2, 0.3)], id="of another text"),
        pytest.param([("bin", 0.1, 0.2), ("red", 0.3, 99.0)], id="after the end"),
        pytest.param([("bin", 0.3, 0.4), ("red", 0.1, 0.2)], id="out of order"),
    ],
)
def test_times_that_do_not_fit_are_as_good_as_none(times: list[tuple[str, float, float]], tmp_path: Path) -> None:
    """Trained from, they would say that words are never spoken, or leave nothing of the clip."""
    (clip, data), fitting = MADE[0], (AlignedWord("Bin,", 0.1, 0.2), AlignedWord("red", 0.2, 0.3))
    told = replace(clip, text="bin: red", words=tuple(AlignedWord(*time) for time in times))
    write_pack(tmp_path, [(told, data), (replace(told, path="fitting", words=fitting), data)])
    assert {c.path: c.words for c in PreparedCorpus(tmp_path).clips} == {clip.path: (), "fitting": fitting}


def test_an_absent_sense_is_read_back_as_absent(tmp_path: Path) -> None:
    made = [
        (Clip(f"{heard}-{visible}", "s", "train", "", (), 5), bare(5, heard=heard, visible=visible))
        for heard, visible in ((True, False), (False, True))
    ]
    write_pack(tmp_path, made)
    corpus = PreparedCorpus(tmp_path)
    for clip, data in made:
        read = corpus.load(clip)
        assert np.array_equal(read.heard, data.heard)
        assert read.audio.any() == data.heard.any()
        assert read.lips.any() == data.visible.any()


def test_lips_are_black_where_nobody_is_seen(tmp_path: Path) -> None:
    data = replace(bare(9, heard=True, visible=True), visible=np.arange(9) % 3 > 0)
    clip = Clip("a", "s", "train", "", (), 9)
    write_pack(tmp_path, [(clip, data)])
    lips = PreparedCorpus(tmp_path).load(clip).lips
    assert [bool(lip.any()) for lip in lips] == data.visible.tolist()


def test_memory_gives_what_the_pack_gives_and_holds_no_black_lips(tmp_path: Path) -> None:
    blinking = replace(bare(9, heard=True, visible=True), visible=np.arange(9) % 3 > 0)
    made = [*MADE, (Clip("blinking", "s", "train", "", (), 9), blinking)]
    write_pack(tmp_path, made)
    remembering, forgetful = PreparedCorpus(tmp_path), PreparedCorpus(tmp_path, MemoryBudget(0))
    for clip in remembering.clips:
        first = remembering.load(clip)
        first.audio[:] = first.lips[:] = 0  # what is returned belongs to the caller
        again, decoded = remembering.load(clip), forgetful.load(clip)
        for ours, theirs in zip(astuple(again), astuple(decoded), strict=True):
            assert np.array_equal(ours, theirs)
    assert set(remembering._memory) == set(remembering.clips)
    for data in remembering._memory.values():
        assert len(data.lips) == data.visible.sum()


def test_memory_is_bounded(tmp_path: Path) -> None:
    write_pack(tmp_path, MADE)
    num_bytes = MADE[0][1].num_bytes + MADE[1][1].num_bytes
    corpus = PreparedCorpus(tmp_path, MemoryBudget(num_bytes))
    for clip in corpus.clips:
        corpus.load(clip)
    assert sum(data.num_bytes for data in corpus._memory.values()) <= num_bytes
    assert 0 < len(corpus._memory) < len(MADE)


def test_the_order_of_writing_does_not_matter(tmp_path: Path) -> None:
    write_pack(tmp_path / "a", MADE)
    write_pack(tmp_path / "b", MADE[::-1])
    assert PreparedCorpus(tmp_path / "a").clips == PreparedCorpus(tmp_path / "b").clips


def test_shards_stay_small(tmp_path: Path) -> None:
    sizes = [len(clip.audio) + len(clip.lips) for clip in ENCODED]
    with PackWriter(tmp_path, shard_bytes=max(sizes) + 1) as pack:
        for (clip, _), bytes_of_clip in zip(MADE, ENCODED, strict=True):
            pack.add([clip], bytes_of_clip)
    assert [shard_path(tmp_path, i).stat().st_size for i in range(len(MADE))] == sizes
    corpus = PreparedCorpus(tmp_path)
    assert all(corpus.load(clip).num_ticks == clip.num_ticks for clip in corpus.clips)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole")
    write_pack(directory, MADE)
    return directory


@settings(deadline=None, max_examples=40)
@given(num_whole=st.integers(0, 3), share=st.floats(0, 1), is_in_index=st.booleans())
def test_a_kill_at_any_moment_leaves_whole_clips_and_the_next_run_ends_with_the_same_pack(
    whole: Path, num_whole: int, share: float, is_in_index: bool
) -> None:
    entries = read_index(whole)
    lines = (whole / INDEX_FILE).read_bytes().splitlines(keepends=True)
    index = b"".join(lines[: 1 + num_whole])
    media = entries[num_whole][1]
    shard_bytes = media.offset_bytes + round(share * (media.end_bytes - media.offset_bytes))
    if is_in_index:  # killed while the line was written: the shard is whole by then
        line = lines[1 + num_whole]
        index, shard_bytes = index + line[: round(share * (len(line) - 1))], media.end_bytes
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / INDEX_FILE).write_bytes(index)
        shard_path(directory, 0).write_bytes(shard_path(whole, 0).read_bytes()[:shard_bytes])
        assert [clip for clip, _ in read_index(directory)] == [clip for clip, _ in MADE[:num_whole]]
        with PackWriter(directory) as pack:
            assert pack.entries == entries[:num_whole]
            for (clip, _), bytes_of_clip in list(zip(MADE, ENCODED, strict=True))[num_whole:]:
                pack.add([clip], bytes_of_clip)
        assert (directory / INDEX_FILE).read_bytes() == (whole / INDEX_FILE).read_bytes()
        assert shard_path(directory, 0).read_bytes() == shard_path(whole, 0).read_bytes()


def test_clips_whose_bytes_were_lost_are_forgotten_by_the_writer(whole: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(whole, tmp_path / "copy")
    with shard_path(directory, 0).open("r+b") as shard:
        shard.truncate(read_index(directory)[1][1].end_bytes - 1)
    with PackWriter(directory) as pack:
        assert [clip for clip, _ in pack.entries] == [MADE[0][0]]
    assert len(read_index(directory)) == 1


def test_damaged_bytes_are_noticed(whole: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(whole, tmp_path / "copy")
    shard = bytearray(shard_path(directory, 0).read_bytes())
    shard[len(shard) // 2] ^= 1
    shard_path(directory, 0).write_bytes(shard)
    corpus = PreparedCorpus(directory)
    with pytest.raises(InputError, match="damaged"):
        for clip in corpus.clips:
            corpus.load(clip)


def test_only_one_writes(tmp_path: Path) -> None:
    with PackWriter(tmp_path), pytest.raises(InputError, match="another process"):
        PackWriter(tmp_path)
    PackWriter(tmp_path).close()


@pytest.mark.parametrize("content", [None, b"", b"{}\n", b"[1]\n", b"\xff\n", b'{"avsr_pack": 1}\n{"path": 3}\n'])
def test_a_directory_that_is_no_pack_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / INDEX_FILE).write_bytes(content)
    with pytest.raises(InputError, match=r"avsr prepare|prepare it anew"):
        PreparedCorpus(tmp_path)


@given(st.lists(st.booleans()))
def test_spans_cover_exactly_what_is_true(mask: list[bool]) -> None:
    covered = [
        any(first <= tick < last for first, last in spans_of(np.array(mask, np.bool_))) for tick in range(len(mask))
    ]
    assert covered == mask


def test_the_fingerprint_of_a_pack_depends_on_nothing_but_its_clips(tmp_path: Path) -> None:
    """Written down, so that no change of the program makes a run that has begun one of other clips."""
    clip = Clip("a.mp4", "s1", "train", "bin", (AlignedWord("bin", 0.2, 0.4),), 20)
    media = Media(0, 0, 3, 4, 5, ((0, 20),), (), is_filmed=True, sync_percent=None)
    lines = [json.dumps(HEADER) + "\n", index_line(clip, media), index_line(replace(clip, split="dev"), media)]
    (tmp_path / INDEX_FILE).write_text("".join(lines))
    assert fingerprint(tmp_path, ["train"]) == "0f2e53ca7f8d0c3d"
