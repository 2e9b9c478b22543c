"""``avsr prepare``: a corpus to a pack that trains without MediaPipe and PyAV; and what is in a pack."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsr.cli.interrupt import INTERRUPTED
from avsr.cli.output import note, table_console
from avsr.errors import InputError

if TYPE_CHECKING:
    from avsr.train.packs.check import PackReport

MAX_SHOWN = 20
"""Clips that are named which could not be aligned."""


def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Clip table (.tsv), or a directory in GRID, LRS2 or LRS3 layout. For --check or --align without -o: "
            "a pack.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PACK",
            help="Pack to write. Files already in it are not read again; clips that SOURCE does not list are removed.",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, metavar="N", help="Number of processes. [all CPUs]")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Report durations, damage, missing faces, and lips out of sync with the audio."),
    ] = False,
    align: Annotated[
        bool,
        typer.Option(
            "--align",
            help="Find word times that the corpus lacks; training uses them. English only; needs avsr[bench,train].",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Prepare a corpus for training.

    Crops the lips and packs them with the audio. Run the same command again to resume.
    """
    if output is None and not (check or align):
        raise InputError("no pack to write; add -o PACK, or --check or --align to use an existing one")
    if align:
        from avsr.train.packs.align import require_aligner

        require_aligner()  # better now than after hours of preparing
    try:
        num_failed = 0 if output is None else _prepare(source, output, jobs, quiet=quiet)
        if output is not None and (align or not check):  # --check says it too, unless --align has found others
            from avsr.train.packs.check import unused_times

            _print_findings(unused_times(output))
        if align:
            _align(output or source, jobs, quiet=quiet)
    except KeyboardInterrupt:
        note(f"interrupted. Progress is kept in {output or source}; run the same command again to resume.")
        raise typer.Exit(INTERRUPTED) from None
    if check:
        from avsr.train.packs.check import check_pack

        _show(check_pack(output or source))
    if num_failed:
        raise typer.Exit(1)


def _prepare(source: Path, output: Path, jobs: int | None, *, quiet: bool) -> int:
    from avsr.cli.progress import count_bar
    from avsr.corpora import read_corpus
    from avsr.train.packs.prepare import FAILED_FILE, Progress, prepare

    utterances = read_corpus(source)
    with count_bar("preparing", quiet=quiet) as count:

        def show(progress: Progress) -> None:
            failed = f"{len(progress.failed)} failed" if progress.failed else ""
            count(progress.num_done, progress.num_files, failed)

        root = source if source.is_dir() else source.parent
        progress = prepare(utterances, root, output, jobs=jobs, on_progress=show)
    num_ready = progress.num_files - len(progress.failed)
    print(f"{output}: {num_ready} of {progress.num_files} files are ready")
    if progress.num_dropped:
        print(f"{output}: {progress.num_dropped} clips that {source} does not list are no longer in the pack")
    if progress.failed:
        print(f"{output / FAILED_FILE}: why {len(progress.failed)} failed")
    return len(progress.failed)


def _align(pack: Path, jobs: int | None, *, quiet: bool) -> None:
    from avsr.cli.progress import count_bar
    from avsr.train.packs.align import align

    with count_bar("aligning", quiet=quiet) as count:
        found, missed = align(pack, jobs=jobs, on_progress=count)
    print(f"{pack}: found the word times of {found} clips, not of {len(missed)}")
    for path, reason in missed[:MAX_SHOWN]:
        print(f"{path}: {reason}")
    if len(missed) > MAX_SHOWN:
        print(f"and {len(missed) - MAX_SHOWN} more")


def _show(report: PackReport) -> None:
    from rich.table import Table

    table = Table(title=f"{report.num_bytes / 1e6:.1f} MB")
    for name in ("split", "clips", "speakers", "hours", "min s", "median s", "max s", "heard %", "face %"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split in report.splits:
        lengths = f"{split.shortest_s:.1f}", f"{split.median_s:.1f}", f"{split.longest_s:.1f}"
        shares = f"{100 * split.heard_share:.1f}", f"{100 * split.visible_share:.1f}"
        counts = f"{split.num_clips}", f"{split.num_speakers}", f"{split.total_s / 3600:.2f}"
        table.add_row(split.split, *counts, *lengths, *shares)
    table_console().print(table)
    _print_findings(report.findings)
    _print_findings((path, f"not in the pack: {reason}") for path, reason in report.failed)


def _print_findings(findings: Iterable[tuple[str, str]]) -> None:
    for what, problem in findings:
        print(f"{what}: {problem}")
