"""A disk that fills up is an error that says so, and what was done by then is gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_disk import NO_ROOM, full_disk
from toy_clips import encoded, make_clip
from toy_training import MakeTrainer, epochs

from avsr.errors import InputError
from avsr.train.loop import WEIGHTS
from avsr.train.packs.writer import PackWriter
from avsr.train.tracking import LOG_FILE, Report, StageProgress


def test_a_pack_that_finds_no_room_keeps_what_it_has(tmp_path: Path) -> None:
    clips = [make_clip(["bin"], index) for index in range(2)]
    with PackWriter(tmp_path) as pack:
        pack.add([clips[0][0]], encoded(clips[0][1]))
        size = (tmp_path / "shard-00000.bin").stat().st_size
        with full_disk(size + 100), pytest.raises(InputError, match=rf"shard-00000\.bin: .*\({NO_ROOM}\)"):
            pack.add([clips[1][0]], encoded(clips[1][1]))
    with PackWriter(tmp_path, must_be_whole=True) as pack:
        assert [clip for clip, _ in pack.entries] == [clips[0][0]]
        pack.add([clips[1][0]], encoded(clips[1][1]))
        assert len(pack.entries) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's
def test_training_that_finds_no_room_for_its_log_goes_on_when_there_is_some(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    def fill_the_disk(report: Report) -> None:
        if isinstance(report, StageProgress) and report.epoch == 2:
            filled.__enter__()

    filled = full_disk(10)
    try:
        with pytest.raises(InputError, match=rf"{LOG_FILE}: cannot be written \({NO_ROOM}\)"):
            make_trainer(tmp_path, "audio", None, fill_the_disk, epochs=3, validate_every=1).run()
    finally:
        filled.__exit__(None, None, None)
    make_trainer(tmp_path, "audio", epochs=3, validate_every=1).run()
    assert (tmp_path / WEIGHTS).exists()
    assert [record["epoch"] for record in epochs(tmp_path)] == [1, 2, 3]
