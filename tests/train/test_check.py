"""The report on a pack: lengths, missing faces, lips that do not fit, what failed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.lips.sync import MAX_LAG_TICKS
from avsr.train.packs.check import check_pack
from avsr.train.packs.prepare import FAILED_FILE
from avsr.train.packs.reader import Clip, Spans, shard_path
from avsr.train.packs.writer import EncodedClip, PackWriter


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Where a pack goes that is finished."""
    (tmp_path / FAILED_FILE).touch()
    return tmp_path


def curve(lag_ticks: int) -> tuple[int, ...]:
    lags = np.arange(-MAX_LAG_TICKS, MAX_LAG_TICKS + 1)
    return tuple(int(value) for value in np.round(60 * np.exp(-((lags - lag_ticks) ** 2) / 4)))


def add(pack: PackWriter, name: str, *, split: str = "train", ticks: int = 75, **fields: object) -> None:
    whole: Spans = ((0, ticks),)
    values: dict[str, object] = {"heard": whole, "visible": whole, "is_filmed": True, "sync_percent": None} | fields
    clip = Clip(name, name.split("/")[0], split, "", (), ticks)
    pack.add([clip], EncodedClip(ticks, b"a", b"l", **values))  # type: ignore[arg-type]


def test_splits_are_summed_up(finished: Path) -> None:
    with PackWriter(finished) as pack:
        for ticks in (25, 50, 150):
            add(pack, f"s{ticks}/a", ticks=ticks)
        add(pack, "s1/b", split="dev", ticks=100, visible=((0, 80),))
    report = check_pack(finished)
    dev, train = report.splits
    assert (dev.split, dev.num_clips, dev.visible_share) == ("dev", 1, pytest.approx(0.8))
    assert (train.num_speakers, train.total_s, train.shortest_s, train.median_s, train.longest_s) == pytest.approx(
        (3, 9.0, 1.0, 2.0, 6.0)
    )
    assert report.num_bytes > 4
    assert report.findings == report.failed == ()


def test_missing_faces_and_sounds_are_named_but_not_of_sound_recordings(finished: Path) -> None:
    with PackWriter(finished) as pack:
        add(pack, "s/none", visible=())
        add(pack, "s/some", visible=((0, 30),))
        add(pack, "s/radio", visible=(), is_filmed=False)
        add(pack, "s/mute", heard=())
    assert check_pack(finished).findings == (
        ("s/none", "no face"),
        ("s/some", "a face for 40 % of the time only"),
        ("s/mute", "no sound"),
    )


def test_a_clip_out_of_sync_is_named_and_so_is_a_speaker(finished: Path) -> None:
    with PackWriter(finished) as pack:
        for index in range(9):
            add(pack, f"fits/{index}", sync_percent=curve(0))
            add(pack, f"late/{index}", sync_percent=curve(5))
        add(pack, "fits/odd", sync_percent=curve(-6))
        add(pack, "few/1", sync_percent=curve(8))
    assert check_pack(finished).findings == (
        ("few/1", "lips perhaps 320 ms late"),
        ("fits/odd", "lips perhaps 240 ms early"),
        ("speaker late", "lips 200 ms late in all 9 clips together"),
    )


def test_a_shard_that_is_cut_or_damaged_or_gone_is_named(finished: Path) -> None:
    with PackWriter(finished, shard_bytes=6) as pack:
        for name in "abcdefg":
            add(pack, name)
    assert check_pack(finished).findings == ()
    shard_path(finished, 0).write_bytes(b"alalxl")
    shard_path(finished, 1).write_bytes(b"ala")
    shard_path(finished, 2).unlink()
    again = "copy the pack again, or remove it and prepare it anew"
    assert check_pack(finished).findings == (
        ("shard-00000.bin", f"1 of the 3 clips in it are damaged or cut off (first: c); {again}"),
        ("shard-00001.bin", f"2 of the 3 clips in it are damaged or cut off (first: e); {again}"),
        ("shard-00002.bin", f"cannot be read (No such file or directory), with 1 clips in it; {again}"),
    )


def test_an_unfinished_pack_is_reported(tmp_path: Path) -> None:
    with PackWriter(tmp_path) as pack:
        add(pack, "s/a")
    ((what, problem),) = check_pack(tmp_path).findings
    assert what == str(tmp_path)
    assert problem.startswith("is not finished")


def test_what_failed_is_reported_again(tmp_path: Path) -> None:
    with PackWriter(tmp_path) as pack:
        add(pack, "s/a")
    (tmp_path / "failed.tsv").write_text("path\treason\nb.mp4\tempty\n")
    assert check_pack(tmp_path).failed == (("b.mp4", "empty"),)


def test_no_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a pack"):
        check_pack(tmp_path)
