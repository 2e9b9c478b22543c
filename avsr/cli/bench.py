"""``avsr bench``: word error rates under noise, for any corpus, beside other recognisers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from avsr.cli.options import DeviceOption, LmOption, ModelOption, ThreadsOption
from avsr.cli.output import note, table_console
from avsr.errors import InputError

if TYPE_CHECKING:
    from avsr.decode import WordLm
    from avsr.evaluate.bench import Plan
    from avsr.evaluate.journal import Journal
    from avsr.evaluate.report import Report
    from avsr.evaluate.systems import EngineSystem, System, TestedModality
    from avsr.recognizer import Recognizer

ALL_SNRS = "clean,20,15,10,5,0,-5,-10"


def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Clip table (.tsv; columns: path speaker split seconds text words), or a directory in GRID, LRS2 or "
            "LRS3 layout.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Directory for the results."),
    ],
    noise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]DIR|FILE|TABLE|white|pink",
            help="Noise type, by default named after its directory; repeatable. `babble` mixes 4 to 8 voices unless it "
            "is a single file. From a clip table, the split NAME is used: babble=speech.tsv.",
        ),
    ] = None,
    snr: Annotated[
        str | None, typer.Option(metavar="LIST", help=f"SNRs in dB, or clean. [{ALL_SNRS}; without --noise: clean]")
    ] = None,
    modality: Annotated[
        str,
        typer.Option(metavar="LIST", help="Any of: av, audio, video (lips only), blank (av with black video)."),
    ] = "av,audio,video",
    chunk_ms: Annotated[
        str | None, typer.Option(metavar="LIST", help="Chunk sizes to compare: 160,320,640. [the model's default]")
    ] = None,
    model: ModelOption = None,
    lm: LmOption = None,
    lm_weight: Annotated[
        float | None, typer.Option(min=0, metavar="X", help="Weight of the language model. [the model's]")
    ] = None,
    word_bonus: Annotated[
        float | None,
        typer.Option(metavar="X", help="Score added per word; below 0 reduces insertions. [the model's]"),
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Use only clips of this split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use only the first N clips.")] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed of the noise.")] = 0,
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Exclude noise files that `avsr train DATA` trains with, and others of the same voices or recordings.",
        ),
    ] = None,
    text_norm: Annotated[
        Literal["basic", "none"],
        typer.Option(help="basic ignores case and punctuation; none does not. The report states the rule."),
    ] = "basic",
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="pocketsphinx|MODULE:NAME",
            help="Recogniser to compare, or your own adapter (see avsr.evaluate.adapters); repeatable.",
        ),
    ] = None,
    grammar: Annotated[
        str | None, typer.Option(metavar="grid|FILE", help="JSGF grammar for PocketSphinx. [its English n-gram model]")
    ] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, tables or notes.")] = False,
) -> None:
    """Measure word error rates, clean and in noise.

    Clips are recognised as live streams. The SNR is that of the active speech to the noise. A clip's noise depends only
    on --seed and the clip's name. Run the same command again to resume, or with more SNRs, modalities or
    clips to extend it; this is refused if a clip, its table row, a noise file or the model has changed.

    Latencies: "first word" is from the start of speech to the first caption with a word, "final" from the end of the
    last word to the last final caption. Both are given in stream time, and including processing time when packets
    arrive in real time.
    """
    from avsr.corpora import noise_seen_in_training
    from avsr.disk import prepare_directory
    from avsr.evaluate.adapters import POCKETSPHINX, open_adapters
    from avsr.evaluate.bench import Plan, clip_fingerprints, select_clips
    from avsr.evaluate.conditions import CLEAN_NAME, grid, parse_snrs
    from avsr.evaluate.fingerprint import fingerprint
    from avsr.evaluate.journal import Journal
    from avsr.evaluate.noises import NoiseLibrary, parse_noises
    from avsr.evaluate.plots import require_matplotlib
    from avsr.evaluate.report import make_report, write_report
    from avsr.evaluate.systems import AdapterSystem
    from avsr.recognizer import load_model

    require_matplotlib()
    if grammar and POCKETSPHINX not in (compare or []):
        raise InputError(f"--grammar is for PocketSphinx; add --compare {POCKETSPHINX}")
    selection = select_clips(source, split, limit)
    if selection.num_without_transcript and not quiet:
        first = f"; {len(selection.problems)} cannot be used: {selection.problems[0]}" if selection.problems else ""
        note(f"skipped {selection.num_without_transcript} clips without a transcript{first}")
    kinds = parse_noises(noise or [], noise_seen_in_training(held_out) if held_out else set())
    snrs_db = parse_snrs(snr if snr is not None else ALL_SNRS if kinds else CLEAN_NAME)
    conditions = grid([kind.name for kind in kinds], snrs_db)
    modalities = _modalities(modality)
    recognizer = load_model(model, lm=lm, device=device, threads=threads)
    if recognizer.lm is None and not (lm_weight is None and word_bonus is None):
        raise InputError("--lm-weight and --word-bonus need a language model, and there is none; add --lm FILE")
    words = recognizer.lm and recognizer.lm.weighted(lm_weight, word_bonus)
    setup: dict[str, Any] = {"device": device, "threads": threads, "lm": None}
    if words is not None:  # the model's own has its hash with the model
        lm_source = "model" if lm is None else words.sha256
        setup["lm"] = {"source": lm_source, "weight": words.weight, "word_bonus": words.word_bonus}
    systems: list[System] = [
        *_engine(modalities, chunk_ms, recognizer, words, setup),
        *(AdapterSystem(name, adapter) for name, adapter in open_adapters(compare or [], grammar)),
    ]
    plan = Plan(selection.clips, systems, conditions, NoiseLibrary(kinds, seed))
    settings = {
        "seed": seed,
        "noise": {kind.name: kind.fingerprint() for kind in kinds},
        "systems": {system.name: dict(system.settings) for system in systems},
    }

    clips = clip_fingerprints(plan.clips)
    prepare_directory(output)
    with Journal(output, {**settings, "clips": clips}) as journal:
        left_out = _measure(plan, journal, output, quiet=quiet)
        for clip, reason in left_out.items():
            note(f"skipped: {clip}: {reason}")
        all_settings = {**settings, "clips": fingerprint(clips, [])}
        report = make_report(
            plan, journal, left_out, text_norm, manifest=str(source), split=split, limit=limit, settings=all_settings
        )
        paths = write_report(report, output)
    if not quiet:
        for clip, defect in report.about["not_whole"].items():
            note(f"incomplete, but measured: {clip}: {defect}")
        _print_tables(report)
        note(f"wrote {', '.join(path.name for path in paths)} to {output}")
    if left_out:
        raise typer.Exit(1)


def _modalities(text: str) -> list[TestedModality]:
    from avsr.evaluate.systems import TITLES

    known: list[TestedModality] = list(TITLES)
    chosen = [item.strip() for item in text.split(",")]
    unknown = [item for item in chosen if item not in known]
    if unknown:
        raise InputError(f"--modality {text}: {unknown[0]!r} is unknown; use some of {','.join(known)}")
    return [modality for modality in known if modality in chosen]


def _engine(
    modalities: list[TestedModality],
    chunks: str | None,
    recognizer: Recognizer,
    lm: WordLm | None,
    setup: dict[str, Any],
) -> list[EngineSystem]:
    """Return a system for every chunk and modality."""
    from avsr.evaluate.systems import EngineSystem

    known = recognizer.chunk_choices_ms
    default = str(recognizer.bundle.config.default_chunk_ms)
    items = [default] if chunks is None else [item.strip() for item in chunks.split(",")]
    wrong = [item for item in items if item not in map(str, known)]
    if wrong:
        raise InputError(
            f"--chunk-ms {wrong[0]}: the model was not trained for it; use some of {','.join(map(str, known))}"
        )
    chunks_ms = dict.fromkeys(map(int, items))
    return [
        EngineSystem(recognizer, modality, chunk_ms, lm, setup) for chunk_ms in chunks_ms for modality in modalities
    ]


def _measure(plan: Plan, journal: Journal, output: Path, *, quiet: bool) -> dict[str, str]:
    """Run what is missing, with a bar on stderr; return the clips that cannot be read."""
    from avsr.cli.progress import count_bar
    from avsr.evaluate.bench import run as measure

    num_rows, num_done = sum(1 for _ in plan.rows()), 0
    try:
        with count_bar("measuring", quiet=quiet) as show:

            def advance(clip: str) -> None:
                nonlocal num_done
                num_done += 1
                show(num_done, num_rows, clip)

            show(num_done, num_rows)
            return measure(plan, journal, advance)
    except KeyboardInterrupt:
        note(f"interrupted at {num_done} of {num_rows}; run the same command again to resume in {output}")
        raise


def _print_tables(report: Report) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from avsr.evaluate.tables import speed_table, wer_tables

    console = table_console()
    tables = [
        *wer_tables(report.scores, report.titles),
        speed_table(report.scores, report.timings, report.titles),
    ]
    for table in tables:
        # Text, not markup: names come from files.
        shown = Table(title=Text(table.title), box=box.SIMPLE, title_justify="left")
        for index, head in enumerate(table.heads):
            shown.add_column(Text(head), justify="right" if index else "left")
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
