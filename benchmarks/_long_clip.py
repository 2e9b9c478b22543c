"""Long inputs made by repeating one short clip, for soak tests and timings."""

from __future__ import annotations

from pathlib import Path

import av
import cv2

import avsr

DEMO_CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"


def repeat_clip(clip: Path, path: Path, seconds: float) -> None:
    """Repeat ``clip`` for at least ``seconds`` in the Matroska file ``path``, without re-encoding."""
    with av.open(str(clip)) as source, av.open(str(path), "w", format="matroska") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        packets = [packet for packet in source.demux() if packet.pts is not None]
        length_s = float(source.duration) / av.time_base
        rounds = int(seconds / length_s) + 1
        for turn in range(rounds):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                shift = round(turn * length_s / packet.time_base)
                copy.pts, copy.dts = packet.pts + shift, packet.dts + shift
                copy.time_base, copy.duration = packet.time_base, packet.duration
                copy.is_keyframe = packet.is_keyframe
                copy.stream = streams[packet.stream.index]
                target.mux(copy)


def write_long_clip(clip: Path, path: Path, seconds: float, size: tuple[int, int]) -> None:
    """Repeat ``clip``, scaled to ``size`` (W, H) as H.264, for at least ``seconds`` in the Matroska file ``path``."""
    scaled = path.with_suffix(".once.mkv")
    with av.open(str(clip)) as source, av.open(str(scaled), "w") as target:
        picture, sound = source.streams.video[0], source.streams.audio[0]
        video = target.add_stream("libx264", rate=25, options={"preset": "fast", "bf": "0"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = target.add_stream_from_template(sound)
        for packet in source.demux(picture, sound):
            if packet.stream is sound and packet.pts is not None:
                packet.stream = audio
                target.mux(packet)
            elif packet.stream is picture:
                for frame in packet.decode():
                    rgb = cv2.resize(frame.to_ndarray(format="rgb24"), size, interpolation=cv2.INTER_CUBIC)
                    target.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        target.mux(video.encode(None))
    repeat_clip(scaled, path, seconds)
