"""The report of a benchmark, as files. All but the timings are the same, byte for byte, in every run.

results.json    settings, rules and every score     results.csv, speakers.csv   the scores as tables
conditions.tsv  which noise was under which clip    hypotheses.tsv              what was heard, clip by clip
wer.png wer.pdf the figure                          timings.json, report.html   with times: differ between runs
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsr import __version__
from avsr.errors import InputError
from avsr.evaluate.bench import Plan
from avsr.evaluate.html import render_html
from avsr.evaluate.journal import Journal
from avsr.evaluate.plots import as_pdf, as_png, plot_wer
from avsr.evaluate.scores import (
    INTERVAL_RULE,
    Heard,
    Score,
    Timing,
    compare_texts,
    score,
    score_speakers,
    timings,
)
from avsr.evaluate.text import RULES, TextNorm

MIXING_RULE = (
    "The ratio is the power of the active speech of the clean clip (frames of 20 ms within 15.9 dB of their mean, as "
    "in ITU-T P.56; pauses do not count) over the mean power of the noise under the whole clip. A clip has the same "
    "piece of noise at every ratio; conditions.tsv says which. Where a mixture would leave full scale, all of it is "
    "turned down."
)
LATENCY_RULE = (
    "Latencies are in stream time, packets of 40 ms. First word: from the beginning of the speech to the first "
    "caption, partial or final, with a word. Final: from the end of the last word to the last final caption; where the "
    "clip ends before the engine hears a pause, the end of the clip brings it. Speech begins and ends as the corpus "
    "has it aligned, where its times fit the clip, else where the clean sound is active. With compute: as if packets "
    "came in real time, and work on each began when it was there and the one before it was done."
)
RTF_RULE = (
    "Real-time factor: seconds of work per second of clip; the search for faces is counted for every system that looks."
)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found; ``about`` says what was measured and how, and ``titles`` names the systems."""

    about: Mapping[str, Any]
    titles: Mapping[str, str]
    heard: Sequence[Heard]
    scores: Sequence[Score]
    speakers: Sequence[Score]
    timings: Sequence[Timing]
    mixes: Sequence[Mapping[str, Any]]


def make_report(
    plan: Plan,
    journal: Journal,
    left_out: Mapping[str, str],
    norm: TextNorm,
    *,
    manifest: str,
    split: str | None,
    limit: int | None,
    settings: Mapping[str, Any],
) -> Report:
    """Score what the journal has for the plan; the rest says, in the report, what was asked for.

    Raises:
        InputError: nothing can be scored.
    """
    heard = compare_texts(plan, journal, left_out, norm)
    about = {
        "avsr": __version__,
        "manifest": manifest,
        "split": split,
        "limit": limit,
        "settings": settings,
        "num_clips": len({row.clip for row in heard}),
        "left_out": dict(left_out),
        "not_whole": {clip: defect for clip, defect in sorted(journal.defects.items()) if clip in plan.clips},
        "text_normalisation": RULES[norm],
        "intervals": INTERVAL_RULE,
        "mixing": MIXING_RULE,
        "latency": LATENCY_RULE,
    }
    return Report(
        about=about,
        titles={system.name: system.title for system in plan.systems},
        heard=heard,
        scores=score(heard),
        speakers=score_speakers(heard),
        timings=timings(heard),
        mixes=_mix_rows(plan, journal),
    )


def write_report(report: Report, directory: Path) -> list[Path]:
    """Write all files; return where they are.

    Raises:
        InputError: one cannot be written.
    """
    caption = f"{report.about['num_clips']} clips; bands: 95 % bootstrap intervals over clips"
    figure = plot_wer(report.scores, report.titles, caption)
    scores = [_score_row(each, report.titles) for each in report.scores]
    speakers = [_score_row(each, report.titles) for each in report.speakers]
    times = {"rtf": RTF_RULE, "latency": LATENCY_RULE, "timings": [_timing_row(each) for each in report.timings]}
    figure_png = as_png(figure)
    files = {
        "results.json": _json({**report.about, "scores": scores, "speakers": speakers}),
        "results.csv": _table(scores, ","),
        "speakers.csv": _table(speakers, ","),
        "conditions.tsv": _table(report.mixes, "\t"),
        "hypotheses.tsv": _table([_heard_row(row) for row in report.heard], "\t"),
        "timings.json": _json(times),
        "wer.png": figure_png,
        "wer.pdf": as_pdf(figure),
        "report.html": _bytes(
            render_html(
                report.about, report.titles, report.scores, report.speakers, report.timings, RTF_RULE, figure_png
            )
        ),
    }
    try:
        for name, content in files.items():
            (directory / name).write_bytes(content)
    except OSError as error:
        raise InputError(f"{directory}: cannot be written to: {error.strerror}; choose another -o DIR") from error
    return [directory / name for name in files]


def _score_row(score: Score, titles: Mapping[str, str]) -> dict[str, Any]:
    row = {
        "system": score.system,
        "title": titles[score.system],
        "speaker": score.speaker,
        "noise": score.condition.noise,
        "snr_db": score.condition.snr_db,
        "num_clips": score.num_clips,
        "num_words": score.words.num_reference,
        "substitutions": score.words.substitutions,
        "deletions": score.words.deletions,
        "insertions": score.words.insertions,
        "wer": _rounded(score.wer.value),
        "wer_low": _rounded(score.wer.low),
        "wer_high": _rounded(score.wer.high),
        "cer": _rounded(score.cer.value),
        "cer_low": _rounded(score.cer.low),
        "cer_high": _rounded(score.cer.high),
        "audio_weight": _rounded(score.audio_weight, 4),
        "first_word_latency_s": _rounded(score.first_word_latency_s.median, 3),
        "first_word_latency_p90_s": _rounded(score.first_word_latency_s.p90, 3),
        "final_latency_s": _rounded(score.final_latency_s.median, 3),
        "final_latency_p90_s": _rounded(score.final_latency_s.p90, 3),
    }
    return row if score.speaker is not None else {k: v for k, v in row.items() if k != "speaker"}


def _timing_row(timing: Timing) -> dict[str, Any]:
    return {
        "system": timing.system,
        "noise": timing.condition.noise,
        "snr_db": timing.condition.snr_db,
        "rtf": _rounded(timing.rtf, 4),
        "first_word_latency_with_compute_s": _rounded(timing.first_word_latency_s.median, 3),
        "first_word_latency_with_compute_p90_s": _rounded(timing.first_word_latency_s.p90, 3),
        "final_latency_with_compute_s": _rounded(timing.final_latency_s.median, 3),
        "final_latency_with_compute_p90_s": _rounded(timing.final_latency_s.p90, 3),
    }


def _heard_row(row: Heard) -> dict[str, Any]:
    return {
        "clip": row.clip,
        "speaker": row.speaker,
        "system": row.system,
        "noise": row.condition.noise,
        "snr_db": row.condition.snr_db,
        "errors": row.words.total,
        "words": row.words.num_reference,
        "reference": row.reference,
        "heard": row.text,
    }


def _mix_rows(plan: Plan, journal: Journal) -> list[dict[str, Any]]:
    rows = []
    for clip in plan.clips:
        for condition in plan.conditions:
            mix = journal.mixes.get((clip, condition))
            if mix:
                rows.append(
                    {
                        "clip": clip,
                        "noise": condition.noise,
                        "snr_db": condition.snr_db,
                        "sources": " ".join(mix.sources),
                        "random_key": mix.key,
                        "speech_active_db": mix.speech_active_db,
                        "noise_db": mix.noise_db,
                    }
                )
    return rows


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(value, digits)


def _json(value: Mapping[str, Any]) -> bytes:
    return _bytes(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _table(rows: Iterable[Mapping[str, Any]], delimiter: str) -> bytes:
    rows = list(rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["clip"], delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return _bytes(buffer.getvalue())


def _bytes(text: str) -> bytes:
    """The names of files, of which ``text`` may tell, need not be UTF-8; what is written must be."""
    return text.encode("utf-8", "replace")
