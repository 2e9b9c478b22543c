"""``avsr demo``: one talking head, captioned by each sense and by both, in quiet and in babble."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from avsr.cli.options import ModelOption, ThreadsOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from avsr.recognizer import Recognizer
    from avsr.types import FloatArray, Modality, VideoFrame

CLIPS = Path(__file__).parents[1] / "talker" / "demo"
BABBLE_SNR_DB = 0.0
SENSES: dict[str, Modality] = {"audio only": "audio", "lips only": "video", "audio + lips": "av"}
PACKET_US = 200_000


def run(
    model: ModelOption = None,
    threads: ThreadsOption = 1,
) -> None:
    """Caption a sample clip by audio, by lips and by both.

    Each runs in quiet and in babble.
    """
    from rich.console import Console
    from rich.live import Live

    from avsr.corpora import read_clip
    from avsr.media.noise import mix_at_snr
    from avsr.recognizer import load_model

    samples, frames = read_clip(CLIPS / "bin_blue.mp4")
    said = json.loads((CLIPS / "bin_blue.json").read_text(encoding="utf-8"))["text"]
    babble, _ = read_clip(CLIPS / "babble.ogg")
    sounds = {
        "in quiet": samples,
        f"in babble at {BABBLE_SNR_DB:.0f} dB": mix_at_snr(samples, babble, BABBLE_SNR_DB),
    }

    console = Console()
    recognizer = load_model(model, threads=threads)
    start_s = time.perf_counter()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for picture in caption_side_by_side(recognizer, sounds, frames, said):
            if sys.stdout.isatty():
                live.update(picture, refresh=True)
    console.print(picture)
    console.print(
        f"{len(sounds) * len(SENSES)} streams in {time.perf_counter() - start_s:.1f} s", style="dim", highlight=False
    )


def caption_side_by_side(
    recognizer: Recognizer, sounds: dict[str, FloatArray], frames: list[VideoFrame], said: str
) -> Iterator[RenderableType]:
    """Stream the clip to every sense under every sound, all in step; yield a picture after each packet.

    ``sounds`` are 16 kHz mono f32 (n,), by the name of their column; the last picture has the word error rates.
    """
    from avsr.captions.terminal import Cell, comparison
    from avsr.evaluate.wer import word_errors
    from avsr.types import SAMPLE_RATE

    def picture() -> RenderableType:
        return comparison(
            list(sounds), [(sense, [cells[sense, t] for t in sounds]) for sense in SENSES], reference=said
        )

    with ExitStack() as closing:
        streams = {
            (sense, title): closing.enter_context(recognizer.stream(modality=modality))
            for sense, modality in SENSES.items()
            for title in sounds
        }
        cells = {key: Cell() for key in streams}
        last_us = max(
            [len(samples) * 1_000_000 // SAMPLE_RATE for samples in sounds.values()] + [f.pts_us for f in frames]
        )
        for start_us in range(0, last_us + 1, PACKET_US):
            now = slice(start_us * SAMPLE_RATE // 1_000_000, (start_us + PACKET_US) * SAMPLE_RATE // 1_000_000)
            seen = [frame for frame in frames if start_us <= frame.pts_us < start_us + PACKET_US]
            for (sense, title), stream in streams.items():
                stream.accept_audio(sounds[title][now], SAMPLE_RATE, t=start_us / 1e6)
                for frame in seen:
                    stream.accept_video(frame.rgb, t=frame.pts_us / 1e6)
                cell = cells[sense, title]
                cells[sense, title] = replace(cell, board=cell.board.take(stream.captions()))
            yield picture()
        for key, stream in streams.items():
            stream.finish()
            board = cells[key].board.take(stream.captions())
            cells[key] = Cell(board, word_errors(said, board.text).rate)
        yield picture()
