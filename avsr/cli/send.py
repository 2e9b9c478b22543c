"""``avsr send``: play a file through a server of captions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from avsr.cli.interrupt import INTERRUPTED, until_interrupted
from avsr.cli.options import ChunkOption, ModalityOption
from avsr.cli.output import note_about
from avsr.errors import AvsrError, InputError, MissingExtraError

if TYPE_CHECKING:
    from avsr.serve.protocol import AnyEvent
    from avsr.types import Caption


def run(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Media file, URL, or - for standard input.")],
    url: Annotated[str, typer.Option(metavar="ws://HOST:PORT/ws", help="Server address.")] = "ws://127.0.0.1:8765/ws",
    token: Annotated[
        str | None, typer.Option(envvar="AVSR_TOKEN", metavar="SECRET", help="Token, if the server requires one.")
    ] = None,
    modality: ModalityOption = "av",
    chunk_ms: ChunkOption = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Send in real time, not as fast as the server allows.")
    ] = False,
    output: Annotated[
        Literal["txt", "srt", "vtt", "json", "jsonl"],
        typer.Option("--format", help="Output format; jsonl prints every event."),
    ] = "txt",
) -> None:
    """Send a file to `avsr serve` and print its captions.

    They equal those of `avsr transcribe`. Ctrl-C ends the stream and waits for its last captions; a second Ctrl-C stops
    at once.
    """
    try:
        import asyncio

        from pydantic import ValidationError

        from avsr.serve.client import Client
    except ImportError as error:
        raise MissingExtraError(f"avsr send needs {error.name}; install it with: pip install 'avsr[serve]'") from error

    from avsr.captions.files import render
    from avsr.media import open_media
    from avsr.media.thread import in_thread
    from avsr.serve.protocol import CaptionEvent, Config, Ready
    from avsr.types import Transcript

    try:
        config = Config(token=token, modality=modality, chunk_ms=chunk_ms)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"--{first['loc'][0]}: {first['msg'].lower()}") from error
    finals: list[Caption] = []
    ready: list[Ready] = []

    def take(event: AnyEvent) -> None:
        if output == "jsonl":
            print(event.model_dump_json(), flush=True)
        if isinstance(event, Ready):
            ready.append(event)
        if isinstance(event, CaptionEvent) and event.type == "final":
            finals.append(event.caption())
            if output == "txt":
                print(event.text, flush=True)

    client = Client(url, take, in_real_time=real_time)
    media = in_thread(partial(open_media, source, modality)).result()  # a pipe may be silent: Ctrl-C ends it
    name = media.name

    def write(duration_s: float, warnings: tuple[str, ...]) -> None:
        if output in ("txt", "jsonl") or not ready:
            return
        transcript = Transcript(
            segments=tuple(finals),
            duration_s=duration_s,
            model=ready[0].model,
            version=ready[0].version,
            modality=modality,
            source=name,
            warnings=warnings,
        )
        print(render(transcript, output), end="", flush=True)

    try:
        with until_interrupted(client.stop):
            done = asyncio.run(client.send(media, config))
    except (AvsrError, KeyboardInterrupt) as error:
        problem = str(error) or "interrupted; only the captions received so far"
        write(finals[-1].end_s if finals else 0.0, (*media.warnings, *client.notes, problem))
        raise
    finally:
        if not client.is_reading:
            media.close()
    warnings = (*media.warnings, *client.notes, *done.notes)
    write(done.duration, warnings)
    for warning in warnings:
        note_about(name, warning)
    if client.is_stopped:
        raise typer.Exit(INTERRUPTED)
