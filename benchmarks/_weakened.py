"""Shared by quiet.py, dim.py and poor_devices.py: word error rates of artificially degraded clips."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from avsr import Recognizer, load_model
from avsr.corpora import Utterance, read_table
from avsr.evaluate.text import normalise
from avsr.evaluate.wer import Errors, word_errors
from avsr.stream import Stream


def chosen(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[Utterance]]:
    """Parse a script's command line; return its options and the clips they select, none if there is no corpus."""
    parser.add_argument("table", type=Path, nargs="?", default=Path("../shared/data/grid.tsv"), help="a table of clips")
    parser.add_argument("--split", default="test", help="whose clips are taken")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if not options.table.exists():
        print(f"skipped: no corpus at {options.table}")
        return options, []
    torch.set_num_threads(1)
    clips = [clip for clip in read_table(options.table) if clip.split == options.split]
    if not clips:
        parser.error(f"--split {options.split}: {options.table} has no such clips")
    return options, clips


def measure(
    doc: str,
    count: Callable[[Recognizer, list[Utterance], float], Errors],
    without: AbstractContextManager[object],
    *,
    option: str,
    default: str,
    columns: tuple[str, str],
) -> None:
    """Run a whole script: parse the command line (``doc`` is its description), measure, print and write JSON.

    ``count`` returns the errors in clips degraded by a value; the command line ``option`` lists the values and defaults
    to ``default``. Each is measured as is, and within ``without``, which switches the compensation off. ``columns`` are
    the headings of the values and of the errors without compensation.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(option, dest="weakened", default=default, help=columns[0])
    options, clips = chosen(parser)
    if not clips:
        return
    model = load_model()
    figures: dict[str, dict[str, float]] = {}
    table = Table(columns[0], "words wrong", columns[1], title=f"{len(clips)} clips of {options.split}")
    for weakened in (float(value) for value in options.weakened.split(",")):
        figures[f"{weakened:g}"] = wrong = {}
        for name, way in (("wrong", nullcontext()), ("wrong_without", without)):
            with way:
                errors = count(model, clips, weakened)
            wrong[name] = errors.total / errors.num_reference
        table.add_row(f"{weakened:g}", *(f"{100 * rate:.1f} %" for rate in wrong.values()))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def finish(stream: Stream, text: str) -> Errors:
    """Finish ``stream`` and count its word errors against ``text``."""
    stream.finish()
    finals = [caption.text for caption in stream.captions() if caption.is_final]
    return word_errors(normalise(text, "basic"), normalise(" ".join(finals), "basic"))
