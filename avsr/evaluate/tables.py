"""The tables of a benchmark, as text in cells: one source for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from avsr.evaluate.conditions import CLEAN, CLEAN_NAME, Condition
from avsr.evaluate.scores import Rate, Score, Spread, Timing

SAME = '"'
"""Ditto mark: the result in clean sound, for a system that does not use the sound."""
NONE = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the heads of the columns, and rows of as many cells; the first column names the row."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def wer_tables(scores: Sequence[Score], titles: Mapping[str, str]) -> list[Table]:
    """Return word error rates in per cent with intervals, and the mean audio weight: one table per noise."""
    tables = []
    for noise, conditions in _by_noise(scores):
        heads = ("", *(_head(condition) for condition in conditions))
        rows = []
        for system, title in titles.items():
            rows.append((title, *_rates([s for s in scores if s.system == system], conditions)))
        for system, title in titles.items():
            weights = {s.condition: s.audio_weight for s in scores if s.system == system}
            if any(weight is not None for weight in weights.values()):
                cells = (_number(weights.get(condition)) for condition in conditions)
                rows.append((f"audio weight: {title}", *cells))
        tables.append(Table(f"word error rate, % (95 % interval): {noise or CLEAN_NAME}", heads, tuple(rows)))
    return tables


def error_table(scores: Sequence[Score], titles: Mapping[str, str]) -> Table:
    """Return the kinds of errors, and those in characters."""
    heads = ("", "condition", "clips", "words", "substituted", "deleted", "inserted", "WER %", "CER %")
    rows = tuple(
        (
            titles[s.system],
            str(s.condition),
            str(s.num_clips),
            str(s.words.num_reference),
            str(s.words.substitutions),
            str(s.words.deletions),
            str(s.words.insertions),
            _rate(s.wer),
            _rate(s.cer),
        )
        for s in scores
    )
    return Table("errors", heads, rows)


def speaker_table(scores: Sequence[Score], titles: Mapping[str, str]) -> Table:
    """Return word error rates of each speaker: a row for each system, and a column for each condition."""
    conditions = list(dict.fromkeys(s.condition for s in scores))
    rows = []
    for speaker in dict.fromkeys(s.speaker for s in scores):
        num_clips = max(s.num_clips for s in scores if s.speaker == speaker)
        for system, title in titles.items():
            found = [s for s in scores if s.speaker == speaker and s.system == system]
            rows.append((f"{speaker} ({num_clips} clips): {title}", *_rates(found, conditions)))
    return Table("word error rate by speaker, %", ("", *map(str, conditions)), tuple(rows))


def speed_table(scores: Sequence[Score], timings: Sequence[Timing], titles: Mapping[str, str]) -> Table:
    """Return latencies, median and 90th percentile, in stream time and with compute, and real-time factors."""
    heads = ("", "condition", "first word, s", "with compute", "final, s", "with compute", "RTF")
    times = {(t.system, t.condition): t for t in timings}
    rows = tuple(
        (
            titles[s.system],
            str(s.condition),
            _spread(s.first_word_latency_s),
            _spread(times[s.system, s.condition].first_word_latency_s),
            _spread(s.final_latency_s),
            _spread(times[s.system, s.condition].final_latency_s),
            f"{times[s.system, s.condition].rtf:.3f}",
        )
        for s in scores
    )
    return Table("latency, median (90th percentile), and real-time factor", heads, rows)


def _by_noise(scores: Sequence[Score]) -> list[tuple[str | None, list[Condition]]]:
    conditions = list(dict.fromkeys(s.condition for s in scores))
    noises: list[str | None] = list(dict.fromkeys(c.noise for c in conditions if c.noise)) or [None]
    clean = [CLEAN] if CLEAN in conditions else []
    return [(noise, clean + [c for c in conditions if noise and c.noise == noise]) for noise in noises]


def _rates(scores: Sequence[Score], conditions: Sequence[Condition]) -> list[str]:
    """Return a cell for each condition, of one system's scores."""
    found = {score.condition: _rate(score.wer) for score in scores}
    absent = SAME if set(found) == {CLEAN} else NONE
    return [found.get(condition, absent) for condition in conditions]


def _head(condition: Condition) -> str:
    return CLEAN_NAME if condition.snr_db is None else f"{condition.snr_db:g} dB"


def _rate(rate: Rate) -> str:
    return f"{100 * rate.value:.1f} ({100 * rate.low:.1f}-{100 * rate.high:.1f})"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _spread(spread: Spread) -> str:
    return NONE if spread.median is None or spread.p90 is None else f"{spread.median:.2f} ({spread.p90:.2f})"
