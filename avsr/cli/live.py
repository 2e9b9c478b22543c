"""``avsr live``: captions from a microphone and a camera, as they are spoken."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsr.cli.interrupt import until_interrupted
from avsr.cli.options import ChunkOption, DeviceOption, LmOption, ModalityOption, ModelOption, ThreadsOption
from avsr.cli.output import note
from avsr.errors import AvsrError, InputError

if TYPE_CHECKING:
    from avsr.live.events import Device
    from avsr.live.recorder import Recorder
    from avsr.live.writers import CaptionFile, LineFile
    from avsr.media.capture import Source
    from avsr.types import Modality

NONE = "none"
PATIENCE_S = 1.0
"""How long one sense waits for the other while both devices are there; a network camera is given twice as long."""


def run(
    camera: Annotated[
        str | None,
        typer.Option(metavar="ID|NAME|URL|none", help="Camera, see `avsr devices`. [the first one]"),
    ] = None,
    mic: Annotated[
        str | None, typer.Option(metavar="ID|NAME|none", help="Microphone, see `avsr devices`. [the default]")
    ] = None,
    model: ModelOption = None,
    lm: LmOption = None,
    chunk_ms: ChunkOption = None,
    modality: ModalityOption = "av",
    av_offset_ms: Annotated[
        str, typer.Option(metavar="auto|N", help="How far the video lags the audio, in ms; auto measures it.")
    ] = "auto",
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.srt|vtt|json|txt", help="Write captions here as they become final.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="FILE.mp4|mkv|mov", help="Record the input; transcribing it gives the same finals."),
    ] = None,
    text_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the last two lines here, e.g. for an overlay.")
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print events as JSON, one object per line.")] = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only final captions: no live view or notes.")
    ] = False,
) -> None:
    """Caption a microphone and a camera live until Ctrl-C."""
    offset_ms = _offset(av_offset_ms)
    given = [os.path.realpath(path) for path in (save, record, text_file) if path is not None]
    if len(set(given)) < len(given):
        raise InputError("--save, --record and --text-file name the same file; give each a different one")
    devices = _devices(camera, mic, modality)

    from avsr.cli.screen import open_screen
    from avsr.live.captioner import LiveCaptioner
    from avsr.live.events import Notice, Ready
    from avsr.live.recorder import Recorder
    from avsr.live.session import run_session
    from avsr.live.writers import CaptionFile, LineFile
    from avsr.recognizer import load_model
    from avsr.types import Transcript

    used: Modality = "av" if len(devices) == 2 else "audio" if "microphone" in devices else "video"
    stopping = threading.Event()
    files: list[CaptionFile | LineFile] = []
    with ExitStack() as ending:
        recorder = None if record is None else Recorder(record, devices)
        if recorder is not None:
            ending.callback(_close_recording, recorder)
        recognizer = load_model(model, lm=lm, device=device, threads=threads)
        config = recognizer.bundle.config
        if save is not None:
            about = Transcript((), 0.0, config.name, config.version, used, source="live")
            files.append(ending.enter_context(closing(CaptionFile(save, about))))
        if text_file is not None:
            files.append(ending.enter_context(closing(LineFile(text_file))))
        patience_s = PATIENCE_S * (2 if "://" in (camera or "") else 1)
        stream = ending.enter_context(recognizer.stream(modality=used, chunk_ms=chunk_ms, patience_s=patience_s))
        tap = None if recorder is None else recorder.take
        captioner = LiveCaptioner(stream, devices, offset_ms=offset_ms, tap=tap)

        def on_unread() -> None:
            """Standard output has no reader: go on for the files, or stop if there are none."""
            if not files and recorder is None:
                stopping.set()
            elif not quiet:
                note("standard output was closed; the files are still written, until Ctrl-C")

        screen = ending.enter_context(open_screen(captioner, on_unread, jsonl=jsonl, quiet=quiet))
        ending.enter_context(until_interrupted(stopping.set))
        screen.take(Ready(config.name, config.version, used, chunk_ms or config.default_chunk_ms))
        reported: set[str] = set()

        def poll() -> None:
            """Report problems of the outputs, such as a full disk, as soon as they appear."""
            for output in (*files, *([] if recorder is None else [recorder]), screen):
                if output.problem is not None and output.problem not in reported:
                    reported.add(output.problem)
                    screen.take(Notice(output.problem, stream.duration_s))
            screen.refresh()

        run_session(captioner, _sources(devices, camera, mic), [*files, screen], stopping, poll)
    if not quiet:
        for line in captioner.figures.lines():
            note(line)


def _offset(text: str) -> float | None:
    try:
        offset_ms = None if text == "auto" else float(text)
    except ValueError as error:
        raise InputError(f"--av-offset-ms {text!r} is neither auto nor a number of milliseconds") from error
    if offset_ms is not None and not abs(offset_ms) <= 2000:
        raise InputError(f"--av-offset-ms {text} is beyond 2000 ms; check the devices")
    return offset_ms


def _devices(camera: str | None, mic: str | None, modality: Modality) -> tuple[Device, ...]:
    uses_mic = modality != "video" and mic != NONE
    uses_camera = modality != "audio" and camera != NONE
    if not (uses_mic or uses_camera):
        raise InputError("no microphone or camera is selected; leave out --mic none, --camera none or --modality")
    if uses_mic and uses_camera:
        return ("microphone", "camera")
    return ("microphone",) if uses_mic else ("camera",)


def _sources(devices: tuple[Device, ...], camera: str | None, mic: str | None) -> dict[Device, Callable[[], Source]]:
    from avsr.media.camera import open_camera
    from avsr.media.microphone import open_microphone

    openers: dict[Device, Callable[[], Source]] = {
        "microphone": partial(open_microphone, mic),
        "camera": partial(open_camera, camera),
    }
    return {device: openers[device] for device in devices}


def _close_recording(recorder: Recorder) -> None:
    """Write the end of the recording, and say what is missing, if anything is.

    Raises:
        AvsrError: it broke off.
    """
    problem = recorder.close()
    if recorder.problem is not None:
        raise AvsrError(recorder.problem)
    if problem is not None:
        note(problem)
