"""A transcript as a file: plain text, SubRip, WebVTT or JSON. A file is written whole or not at all."""

from __future__ import annotations

import errno
import html
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from avsr.captions.cues import Cue, lay_out
from avsr.disk import write_whole
from avsr.errors import InputError
from avsr.types import Caption, Transcript, Word

VTT_HEAD = "WEBVTT\n\n"


def write_transcript(transcript: Transcript, directory: str | Path, stem: str, formats: Iterable[str]) -> list[Path]:
    """Write ``directory/stem.FORMAT`` for each format; return the paths.

    Raises:
        InputError: a format is unknown, which is noticed before anything is written, or a file cannot be written; the
            others are.
    """
    texts = {name: render(transcript, name) for name in formats}
    paths = caption_paths(directory, stem, texts)
    written, problems = [], []
    for path, text in zip(paths, texts.values(), strict=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
            written.append(path)
        except OSError as error:
            problems.append(f"{path}: cannot be written to: {error.strerror}")
    if problems:
        rest = f" ({', '.join(map(str, written))}: written)" if written else ""
        raise InputError(f"{'; '.join(problems)}; choose another -o DIR{rest}")
    return written


def caption_paths(directory: str | Path, stem: str, formats: Iterable[str]) -> list[Path]:
    """Return where `write_transcript` writes.

    Raises:
        InputError: a name is too long for the file system.
    """
    paths = [Path(directory) / f"{stem}.{name}" for name in formats]
    for path in paths:
        try:
            path.lstat()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise InputError(f"{path}: the name is too long; rename the source, or leave -o out") from error
    return paths


def render(transcript: Transcript, name: str) -> str:
    """Return the whole file of format ``name``, one of :data:`FORMATS`.

    Raises:
        InputError: the format is unknown.
    """
    if name not in FORMATS:
        raise InputError(f"caption format {name!r} is unknown; choose from {', '.join(FORMATS)}")
    # The source may be a file whose name is not UTF-8; what is written must be.
    return FORMATS[name](transcript).encode("utf-8", "replace").decode("utf-8")


def _txt(transcript: Transcript) -> str:
    return f"{transcript.text}\n" if transcript.words else ""


def _srt(transcript: Transcript) -> str:
    return subtitles(lay_out(transcript.segments), "srt")


def _vtt(transcript: Transcript) -> str:
    return VTT_HEAD + subtitles(lay_out(transcript.segments), "vtt")


def _json(transcript: Transcript) -> str:
    document = {
        "source": transcript.source,
        "model": transcript.model,
        "version": transcript.version,
        "modality": transcript.modality,
        "duration": _seconds(transcript.duration_s),
        "rtf": None if transcript.rtf is None else round(transcript.rtf, 4),
        "warnings": list(transcript.warnings),
        "text": transcript.text,
        "segments": [segment_values(segment) for segment in transcript.segments],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Transcript], str]] = {"txt": _txt, "srt": _srt, "vtt": _vtt, "json": _json}
"""Every caption format by name; the name is also the file's suffix."""


def subtitles(cues: Iterable[Cue], name: str, first_number: int = 1) -> str:
    """Return ``cues`` as they stand in a file of format ``name``, "srt" or "vtt"."""
    point, escape = (",", str) if name == "srt" else (".", partial(html.escape, quote=False))
    return "".join(
        f"{number}\n{_clock(cue.start_s, point)} --> {_clock(cue.end_s, point)}\n{escape(cue.text)}\n\n"
        for number, cue in enumerate(cues, first_number)
    )


def segment_values(segment: Caption) -> dict[str, Any]:
    """Return a final as plain values."""
    return {
        "text": segment.text,
        "start": _seconds(segment.start_s),
        "end": _seconds(segment.end_s),
        "audio_weight": round(segment.audio_weight, 4),
        "face_visible": round(segment.face_visible, 4),
        "words": [word_values(word) for word in segment.words],
    }


def word_values(word: Word) -> dict[str, Any]:
    """Return a word as plain values."""
    return {
        "text": word.text,
        "start": _seconds(word.start_s),
        "end": _seconds(word.end_s),
        "confidence": round(word.confidence, 4),
    }


def _seconds(time_s: float) -> float:
    return round(time_s, 3)


def _clock(time_s: float, point: str) -> str:
    seconds, milliseconds = divmod(round(time_s * 1000), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{milliseconds:03}"
