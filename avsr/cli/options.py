"""Options that several verbs have: spelt and explained alike everywhere."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

MAX_THREADS = max(64, 4 * (os.cpu_count() or 1))
"""More make nothing faster, and a hundred thousand bring a machine to a halt."""

ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME|DIR", help="A model of `avsr models`, or its directory.")
]
LmOption = Annotated[
    str | None, typer.Option(metavar="FILE|none", help="ARPA language model of words. [the model's own]")
]
ModalityOption = Annotated[Literal["av", "audio", "video"], typer.Option(help="Which senses to use.")]
ChunkOption = Annotated[
    int | None, typer.Option(min=1, metavar="160|320|640", help="Look-ahead: less is sooner, more is surer.")
]
DeviceOption = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the network runs.")]
ThreadsOption = Annotated[
    int, typer.Option(min=1, max=MAX_THREADS, metavar="N", help="Processor threads; 1 is enough.")
]
