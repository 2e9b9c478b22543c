"""``python -m avsr.talker TEXT -o CLIP.mp4``: write a clip of a drawn face that says TEXT."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from avsr.disk import writing
from avsr.errors import AvsrError, InputError
from avsr.talker.clip import make_clip
from avsr.talker.voices import DEFAULT_VOICE, LEAD_S, VOICES

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _list_voices(asked: bool) -> None:
    if asked:
        for name, voice in VOICES.items():
            typer.echo(f"{name}\t{voice.engine}")
        raise typer.Exit


@app.command()
def talk(
    text: Annotated[
        str, typer.Argument(help="What to say: English words and single letters; , . ; : ! ? make pauses.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The clip to write, .mp4.")],
    voice: Annotated[str, typer.Option(help="Who speaks; see --list-voices.")] = DEFAULT_VOICE,
    seed: Annotated[int, typer.Option(min=0, help="Face and lighting: each number is one identity.")] = 0,
    size: Annotated[str, typer.Option(metavar="WxH", help="Picture size in pixels, even numbers.")] = "360x288",
    fps: Annotated[float, typer.Option(help="Frames a second, 5 to 120.")] = 25.0,
    silence: Annotated[float, typer.Option(help="Seconds of silence before and after.")] = LEAD_S,
    json: Annotated[
        bool, typer.Option("--json", help="Also write CLIP.json: transcript, word and phoneme times.")
    ] = False,
    list_voices: Annotated[
        bool, typer.Option("--list-voices", callback=_list_voices, is_eager=True, help="List the voices and exit.")
    ] = False,
) -> None:
    """Write an mp4 of a drawn talking head that says TEXT, with exactly known word times.

    Needs espeak-ng (apt-get install espeak-ng) or, for the voices kal, slt, awb and rms, flite.

    Example: python -m avsr.talker "bin blue at f two now" -o clip.mp4 --seed 7 --json
    """
    try:
        clip = make_clip(
            text, output, voice=voice, seed=seed, size=_parse_size(size), fps=fps, lead_s=silence, tail_s=silence
        )
        if json:
            beside = output.with_suffix(".json")
            with writing(beside):
                beside.write_text(clip.to_json(), encoding="utf-8")
    except AvsrError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{clip.path}: {clip.duration_s:.2f} s, {clip.num_frames} frames, {len(clip.words)} words")


def _parse_size(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size.strip().lower())
    if match is None:
        raise InputError(f"size {size!r}: write width x height in pixels, such as 360x288")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    app(prog_name="python -m avsr.talker")
