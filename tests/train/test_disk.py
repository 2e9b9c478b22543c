"""What is written is whole or as it was, by one process at a time, and a disk without room is an error that says so."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from full_disk import NO_ROOM, full_disk
from toy_clips import encoded, make_clip
from toy_training import MakeTrainer, epochs

from avsr.errors import InputError
from avsr.train.disk import lock, whole_file
from avsr.train.loop import WEIGHTS
from avsr.train.packs.pack import PackWriter
from avsr.train.tracking import LOG_FILE, Report, StageProgress


def test_a_file_has_its_old_content_or_all_of_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    no_room = pytest.raises(InputError, match=rf"a\.txt: cannot be written \({NO_ROOM}\); make room")
    with full_disk(100), no_room, whole_file(path) as file:
        file.write(bytes(101))
    assert path.read_bytes() == b"old"
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_lock_is_waited_for_as_long_as_was_said(tmp_path: Path) -> None:
    held = lock(tmp_path / "new")
    with pytest.raises(InputError, match="another process is writing it"):
        lock(tmp_path / "new")
    threading.Timer(0.2, held.close).start()
    lock(tmp_path / "new", patience_s=60.0).close()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: cannot be written \(.*another directory"):
        lock(tmp_path / "file")


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
