"""When sound is heard whose sample rate changes in the middle of the file: without breaks, and with its pictures."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from media_clips import align, even_times_s, write_clip

from avsr.media import AudioPacket, open_media

RATES_HZ = [(48000, 24000), (24000, 48000)]


def _breaks(media) -> list[float]:
    """Return the stream times at which sound does not begin where the sound before it ends."""
    sound = [(item.t_s, len(item.samples) / item.sample_rate) for item in media if isinstance(item, AudioPacket)]
    return [later for (time, length), (later, _) in pairwise(sound) if abs(time + length - later) > 0.002]


@pytest.mark.parametrize("rates_hz", RATES_HZ)
def test_sound_that_states_some_times_keeps_to_them(tmp_path, rates_hz):
    path, parts = tmp_path / "joined.ts", [tmp_path / "first.ts", tmp_path / "second.ts"]
    for index, (part, rate_hz) in enumerate(zip(parts, rates_hz, strict=True)):
        write_clip(
            part,
            frame_times_s=[2 * index + time for time in even_times_s(25, 2.0)],
            audio_rate=rate_hz,
            channels=1,
            audio_start_s=2.0 * index,
            flash_s=3.5,
            options={"max_delay": "700000"},  # so that each time that is stated is that of several frames
        )
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_media(path) as media:
        aligned = align(media)
    assert abs(aligned.skew_s()) <= 0.022
    with open_media(path) as media:
        # Where the parts were joined, at most.
        assert all(abs(time_s - 2.0) < 0.1 for time_s in _breaks(media))


@pytest.mark.parametrize("rates_hz", [*RATES_HZ, (48000, 24000, 48000)])
def test_sound_that_states_no_times_has_no_breaks(tmp_path, rates_hz):
    path, data, num_s = tmp_path / "joined.aac", b"", Fraction(0)
    for rate_hz in rates_hz:
        part = tmp_path / "part.aac"
        write_clip(part, audio_rate=rate_hz)
        data += part.read_bytes()
        with open_media(part) as media:
            num_s += sum(Fraction(len(packet.samples), packet.sample_rate) for packet in media)
    path.write_bytes(data)
    with open_media(path) as media:
        assert _breaks(media) == []
        assert media.position_s == pytest.approx(float(num_s))
