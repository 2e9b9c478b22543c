"""What sources are called."""

from __future__ import annotations

import pytest

from avsr.errors import MediaError
from avsr.media import open_media
from avsr.media.naming import name_of, reason_of


def test_a_password_is_no_part_of_a_name() -> None:
    assert name_of("rtsp://bob:hunter2@host:1/x?at=@home") == "rtsp://host:1/x?at=@home"
    with pytest.raises(MediaError) as refused:
        open_media("rtsp://bob:hunter2@127.0.0.1:1/x")
    assert "rtsp://127.0.0.1:1/x" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_password_is_no_part_of_a_reason() -> None:
    assert reason_of(ValueError("cannot open http://bob:hunter2@host/x.")) == "cannot open http://host/x"
    assert reason_of(OSError(2, "No such file", "rtsp://bob:hunter2@host")) == "No such file"
