"""Scores from results: error rates over whole corpora with intervals, weights of the sound, latencies, speed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from avsr.errors import InputError
from avsr.evaluate.bench import Plan
from avsr.evaluate.conditions import Condition
from avsr.evaluate.journal import Journal, Result
from avsr.evaluate.text import TextNorm, normalise
from avsr.evaluate.wer import NO_ERRORS, Errors, character_errors, word_errors

NUM_RESAMPLES = 2000
RESAMPLING_SEED = 0
INTERVAL_PERCENTILES = (2.5, 97.5)
RESAMPLED_AT_ONCE = 100
INTERVAL_RULE = (
    f"95 % percentile bootstrap over clips, {NUM_RESAMPLES} resamples; the same resamples for every system and "
    "condition. It tells how far the choice of clips matters, not the choice of noise or of speakers."
)


@dataclass(frozen=True, slots=True)
class Rate:
    """Errors over reference, and the interval of 95 %; 0.05 is 5 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 90th percentile over the clips that have a value; both None where none has."""

    median: float | None
    p90: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """A system in a condition, over ``num_clips`` clips, of one ``speaker`` or of all (None).

    ``audio_weight`` is the mean over the clips with words, None where the system has none. Latencies are in seconds of
    stream time: the first word from the beginning of the speech, the final caption from its end.
    """

    system: str
    condition: Condition
    speaker: str | None
    num_clips: int
    words: Errors
    wer: Rate
    cer: Rate
    audio_weight: float | None
    first_word_latency_s: Spread
    final_latency_s: Spread


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast a system was, on the machine that measured it. ``rtf`` is seconds of work per second of clip."""

    system: str
    condition: Condition
    rtf: float
    first_word_latency_s: Spread
    final_latency_s: Spread


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said in a clip and what a system heard in a condition, as compared."""

    clip: str
    speaker: str
    system: str
    condition: Condition
    reference: str
    text: str
    words: Errors
    characters: Errors
    result: Result


def compare_texts(plan: Plan, journal: Journal, left_out: Collection[str], norm: TextNorm) -> list[Heard]:
    """Compare every result of the plan with its transcript, clips ``left_out`` apart.

    Raises:
        InputError: no reference has a word.
    """
    found = []
    for clip, condition, system in plan.rows():
        if clip in left_out:
            continue
        utterance, result = plan.clips[clip], journal.results[clip, condition, system.name]
        said, text = normalise(utterance.text, norm), normalise(result.text, norm)
        errors = word_errors(said, text), character_errors(said, text)
        found.append(Heard(clip, utterance.speaker, system.name, condition, said, text, *errors, result))
    if not any(heard.words.num_reference for heard in found):
        raise InputError("no clip that can be read has a word in its transcript, so there are no error rates")
    return found


def score(heard: Sequence[Heard]) -> list[Score]:
    """Return a score for every system in every condition, in the order of their first appearance."""
    return [_score(rows, None) for rows in _grouped(heard)]


def score_speakers(heard: Sequence[Heard]) -> list[Score]:
    """Return a score for every speaker, system and condition; a speaker without a reference word has none."""
    speakers = dict.fromkeys(row.speaker for row in heard)
    groups = [(s, rows) for s in speakers for rows in _grouped([row for row in heard if row.speaker == s])]
    return [_score(rows, speaker) for speaker, rows in groups if any(row.words.num_reference for row in rows)]


def timings(heard: Sequence[Heard]) -> list[Timing]:
    """Return how fast every system was in every condition."""
    found = []
    for rows in _grouped(heard):
        results = [row.result for row in rows]
        duration_s = sum(result.duration_s for result in results)
        found.append(
            Timing(
                rows[0].system,
                rows[0].condition,
                rtf=sum(result.work_s for result in results) / duration_s if duration_s else 0.0,
                first_word_latency_s=_spread([result.live_first_word_latency_s for result in results]),
                final_latency_s=_spread([result.live_final_latency_s for result in results]),
            )
        )
    return found


def bootstrap(errors: Sequence[Errors]) -> Rate:
    """Return the error rate over all sentences together, and its bootstrap interval over sentences.

    Resamples without any reference word are left out.

    Raises:
        InputError: there is no reference word at all.
    """
    counts = np.array([[each.total, each.num_reference] for each in errors], np.float64)
    if not counts.size or not counts[:, 1].sum():
        raise InputError("no reference has a word, so there is no error rate")
    sums = np.concatenate([draws @ counts for draws in _resamples(len(errors))])
    sums = sums[sums[:, 1] > 0]
    low, high = np.percentile(sums[:, 0] / sums[:, 1], INTERVAL_PERCENTILES)
    total, num_reference = counts.sum(axis=0)
    return Rate(float(total / num_reference), float(low), float(high))


def _resamples(num_clips: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield how often each clip is drawn in each resample, (RESAMPLED_AT_ONCE, num_clips) at a time."""
    rng = np.random.default_rng(RESAMPLING_SEED)
    shares = np.full(num_clips, 1 / num_clips)
    for _ in range(NUM_RESAMPLES // RESAMPLED_AT_ONCE):
        yield rng.multinomial(num_clips, shares, size=RESAMPLED_AT_ONCE).astype(np.float64)


def _score(rows: Sequence[Heard], speaker: str | None) -> Score:
    weights = [row.result.audio_weight for row in rows if row.result.audio_weight is not None]
    return Score(
        system=rows[0].system,
        condition=rows[0].condition,
        speaker=speaker,
        num_clips=len(rows),
        words=sum((row.words for row in rows), NO_ERRORS),
        wer=bootstrap([row.words for row in rows]),
        cer=bootstrap([row.characters for row in rows]),
        audio_weight=float(np.mean(weights)) if weights else None,
        first_word_latency_s=_spread([row.result.first_word_latency_s for row in rows]),
        final_latency_s=_spread([row.result.final_latency_s for row in rows]),
    )


def _grouped(heard: Sequence[Heard]) -> list[list[Heard]]:
    groups: dict[tuple[str, Condition], list[Heard]] = {}
    for row in heard:
        groups.setdefault((row.system, row.condition), []).append(row)
    systems, conditions = dict.fromkeys(row.system for row in heard), dict.fromkeys(row.condition for row in heard)
    return [groups[key] for key in product(systems, conditions) if key in groups]


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    if not known:
        return Spread(None, None)
    median, p90 = np.percentile(known, [50, 90])
    return Spread(float(median), float(p90))
