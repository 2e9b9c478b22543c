"""What is written is whole or as it was, by one process at a time, and a disk without room is an error that says so."""

from __future__ import annotations

import errno
import fcntl
import threading
from pathlib import Path

import pytest
from full_disk import NO_ROOM, full_disk

from avsr.disk import lock, prepare_directory, whole_file, write_whole
from avsr.errors import InputError


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
    with full_disk(100), pytest.raises(OSError, match=NO_ROOM):
        write_whole(path, bytes(101))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]  # where there is no room, the half of it takes none
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


def test_a_disk_without_locks_is_not_reported_as_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(No locks available\)"):
        lock(tmp_path)


def test_a_directory_is_tried_before_the_work_and_left_empty(tmp_path: Path) -> None:
    prepare_directory(tmp_path / "new" / "dir")
    assert list((tmp_path / "new" / "dir").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another directory for -o"):
        prepare_directory(tmp_path / "file" / "dir")
