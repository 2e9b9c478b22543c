"""The command line: one small module a verb.

Exit codes: 0 done; 1 some files failed; 2 wrong use or input; 130 Ctrl-C; 129 SIGHUP; 143 SIGTERM. `live` and `serve`
end with 0, and `train` with 130, after any of the three.

Verbs import the engine only when they run, so that ``avsr --help`` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Annotated

import typer

from avsr import __version__
from avsr.cli import bench, demo, devices, live, lm, models, prepare, send, serve, train, transcribe
from avsr.cli.interrupt import handle_stop_signals
from avsr.cli.output import StdoutError, give_up_stdout, note, open_streams
from avsr.errors import AvsrError

app = typer.Typer(
    name="avsr",
    help="Live captions from audio and lip reading. Nothing leaves this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"avsr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take what stands before a verb."""


app.command("transcribe")(transcribe.run)
app.command("live")(live.run)
app.command("devices")(devices.run)
app.command("serve")(serve.run)
app.command("send")(send.run)
app.command("models")(models.run)
app.command("demo")(demo.run)
app.command("prepare")(prepare.run)
app.command("train")(train.run)
app.command("lm")(lm.run)
app.command("bench")(bench.run)


def main() -> None:
    """Run the command line; every error on purpose becomes one message on stderr, here and nowhere else."""
    open_streams()
    # For `train` and `--threads`. A step is hundreds of small parallel regions: OpenMP threads that busy-wait between
    # them, as they do by default, slow each other down when other programs use the processor. PyTorch reads it once.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # some microseconds: never spinning would cost time too
    atexit.register(gc.freeze)  # a faster exit: the last collection skips all that PyTorch has loaded
    with handle_stop_signals():
        try:
            app()
        except AvsrError as error:
            note(str(error))
            sys.exit(2)
        except StdoutError as error:
            note(str(give_up_stdout(error)))
            sys.exit(2)
