"""Options that several verbs have: spelt and explained alike everywhere."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

MAX_THREADS = max(64, 4 * (os.cpu_count() or 1))
"""More make nothing faster, and a hundred thousand bring a machine to a halt."""

ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME|DIR", help="Model name (see `avsr models`) or directory.")
]
LmOption = Annotated[str | None, typer.Option(metavar="FILE|none", help="Word n-gram model (ARPA). [the model's own]")]
ModalityOption = Annotated[Literal["av", "audio", "video"], typer.Option(help="Use audio, video (lips) or both.")]
ChunkOption = Annotated[
    int | None, typer.Option(min=1, metavar="160|320|640", help="Chunk size: 160 has the least delay, but more errors.")
]
DeviceOption = Annotated[Literal["cpu", "cuda"], typer.Option(help="Device to run the network on.")]
ThreadsOption = Annotated[int, typer.Option(min=1, max=MAX_THREADS, metavar="N", help="CPU threads; 1 is enough.")]
