"""Word error rate of what poor cameras see, by lips alone, and of what poor microphones hear, with and without lips.

python benchmarks/poor_devices.py ../shared/data/grid.tsv --split test --json devices.json

Pictures are dropped, made smaller, grainy or compressed, and sound is band-limited, clipped or loses packets.
Timestamps stay the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from _weakened import chosen, finish
from rich.console import Console
from rich.progress import track
from rich.table import Table

from avsr import Recognizer, load_model
from avsr.corpora import Utterance, read_sound
from avsr.evaluate.wer import NO_ERRORS, Errors
from avsr.media import AudioPacket, open_media
from avsr.train.augment.microphone import Microphone, record
from avsr.types import SAMPLE_RATE, TICK_S, TICK_SAMPLES, ByteArray, FloatArray, Modality, VideoFrame

SEED = 1


@dataclass(frozen=True)
class Camera:
    """A camera: pictures a second (0: all), how much of width and height is left, grain, JPEG quality (0: as it is)."""

    rate_fps: float = 0.0
    scale: float = 1.0
    grain: float = 0.0
    quality: int = 0


CAMERAS = {
    "as filmed": Camera(),
    "15 pictures a second": Camera(rate_fps=15),
    "10 pictures a second": Camera(rate_fps=10),
    "a third of the size": Camera(scale=1 / 3),
    "grain of 20 levels": Camera(grain=20),
    "JPEG of quality 8": Camera(quality=8),
    "12 a second, half the size, grain of 10, JPEG 30": Camera(rate_fps=12, scale=0.5, grain=10, quality=30),
}
MICROPHONES = {
    "as recorded": Microphone(),
    "telephone, 300 to 3400 Hz": Microphone(low_hz=300, high_hz=3400),
    "peaks 12 dB over full scale cut off": Microphone(clipped_db=12),
    "peaks 24 dB over full scale cut off": Microphone(clipped_db=24),
    "a tenth of the packets lost, 20 ms each": Microphone(lost_share=0.1),
    "telephone, 6 dB cut off, 5 % lost": Microphone(300, 3400, clipped_db=6, lost_share=0.05),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a name or a directory")
    options, clips = chosen(parser)
    if not clips:
        return
    model, figures = load_model(options.model), {}
    table = Table("device", "lips alone", "sound alone", "both", title=f"words wrong, {len(clips)} clips")
    for name, device in (CAMERAS | MICROPHONES).items():
        modalities: tuple[Modality, ...] = ("video",) if isinstance(device, Camera) else ("audio", "av")
        errors = dict.fromkeys(modalities, NO_ERRORS)
        for clip in track(clips, name, console=Console(stderr=True), transient=True):
            for modality in modalities:
                errors[modality] += read(model, clip, device, modality)
        figures[name] = {modality: wrong.total / wrong.num_reference for modality, wrong in errors.items()}
        shown = (figures[name].get(modality) for modality in ("video", "audio", "av"))
        table.add_row(name, *("" if rate is None else f"{100 * rate:.1f} %" for rate in shown))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def read(model: Recognizer, clip: Utterance, device: Camera | Microphone, modality: Modality) -> Errors:
    """Count what is wrong of ``clip`` when one of its senses went through ``device``."""
    camera, microphone = (device, Microphone()) if isinstance(device, Camera) else (Camera(), device)
    with model.stream(modality=modality) as stream:
        sound = _heard(clip, microphone) if modality != "video" else iter(())
        pictures = _seen(clip, camera) if modality != "audio" else iter(())
        for packet in sorted([*sound, *pictures], key=lambda item: item[0]):
            stream.accept(packet[1])
        return finish(stream, clip.text)


def _heard(clip: Utterance, microphone: Microphone) -> Iterator[tuple[float, AudioPacket]]:
    sound = through(read_sound(clip.path, lambda _: None)[0], microphone)
    for start in range(0, len(sound), TICK_SAMPLES):
        yield start / SAMPLE_RATE, AudioPacket(sound[start : start + TICK_SAMPLES], SAMPLE_RATE, start / SAMPLE_RATE)


def _seen(clip: Utterance, camera: Camera) -> Iterator[tuple[float, VideoFrame]]:
    rng, next_s = np.random.default_rng(SEED), 0.0
    with open_media(clip.path, "video") as media:
        for frame in media:
            if isinstance(frame, VideoFrame) and frame.pts_us >= 1e6 * next_s - 1:
                yield frame.pts_us / 1e6, VideoFrame(degraded(frame.rgb, camera, rng), frame.pts_us)
                next_s += 1 / camera.rate_fps if camera.rate_fps else TICK_S / 2


def through(sound: FloatArray, microphone: Microphone) -> FloatArray:
    """Return ``sound`` as recorded; where its peaks are cut off, they are at full scale."""
    recorded = record(sound, microphone, np.random.default_rng(SEED))
    peak = np.max(np.abs(recorded), initial=0.0)
    return recorded / peak if microphone.clipped_db and peak else recorded


def degraded(rgb: ByteArray, camera: Camera, rng: np.random.Generator) -> ByteArray:
    """Return what ``camera`` makes of a picture, as large as it."""
    size = rgb.shape[1::-1]
    if camera.scale != 1:
        rgb = cv2.resize(rgb, None, fx=camera.scale, fy=camera.scale, interpolation=cv2.INTER_AREA)
    if camera.grain:
        noisy = rgb + rng.standard_normal(rgb.shape, np.float32) * np.float32(camera.grain)
        rgb = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if camera.quality:
        _, packet = cv2.imencode(".jpg", rgb, (cv2.IMWRITE_JPEG_QUALITY, camera.quality))
        rgb = cv2.imdecode(packet, cv2.IMREAD_COLOR)
    return cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR) if camera.scale != 1 else rgb


if __name__ == "__main__":
    main()
