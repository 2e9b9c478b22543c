"""Words laid out as subtitles: cut at pauses, broken into balanced lines, shown for as long as reading takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from avsr.types import TICK_S, Caption, Word

MAX_LINE_CHARS = 42
MAX_LINES = 2
MIN_SHOWN_S = 0.8
MAX_SHOWN_S = 7.0
READING_CHARS_PER_S = 17.0
"""Adults' reading speed; the usual subtitling guides say 17 to 20."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle on the screen, from ``start_s`` to ``end_s``; cues of one layout never overlap."""

    start_s: float
    end_s: float
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words on one line or two, the two as even as they can be."""
        return "\n".join(balance([word.text for word in self.words]))


def lay_out(segments: Iterable[Caption], after_s: float | None = None) -> tuple[Cue, ...]:
    """Turn final captions into cues: every word once, in order, times rising.

    A cue is at most two lines of 42 characters and 7 s of speech (unless one word alone is more), and stays on the
    screen after it until it can have been read. ``after_s`` is when the last cue before these began, None without one.
    """
    pieces = [piece for segment in segments for piece in _cut(segment.words)]
    starts_s: list[float] = []
    for piece in pieces:
        # A tick apart even where the times given are not: a player drops cues that begin together.
        last_s = starts_s[-1] if starts_s else after_s
        earliest_s = 0.0 if last_s is None else last_s + TICK_S
        starts_s.append(max(piece[0].start_s, earliest_s))
    ends_s = map(_shown_until, pieces, starts_s, [*starts_s[1:], float("inf")])
    return tuple(map(Cue, starts_s, ends_s, pieces))


def balance(words: Sequence[str]) -> tuple[str, ...]:
    """Break ``words`` into one line if it fits, else into the two lines whose longer one is shortest."""
    whole = " ".join(words)
    if len(whole) <= MAX_LINE_CHARS or len(words) < MAX_LINES:
        return (whole,)
    breaks = ((" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words)))
    return min(breaks, key=lambda lines: max(map(len, lines)))


def _shown_until(words: tuple[Word, ...], start_s: float, next_start_s: float) -> float:
    num_chars = sum(len(word.text) + 1 for word in words) - 1
    wanted_s = min(max(MIN_SHOWN_S, num_chars / READING_CHARS_PER_S), MAX_SHOWN_S)
    return min(max(words[-1].end_s, start_s + wanted_s), next_start_s)


def _cut(words: tuple[Word, ...]) -> list[tuple[Word, ...]]:
    """Cut a segment into pieces that fit on the screen, as cheaply as :func:`_cost` allows (shortest path)."""
    costs = [0.0]
    previous = [0]
    for stop in range(1, len(words) + 1):
        choices = []
        for start in range(stop - 1, -1, -1):
            piece = words[start:stop]
            if start < stop - 1 and not _fits(piece):
                break
            pause_s = words[start].start_s - words[start - 1].end_s if start else 0.0
            choices.append((costs[start] + _cost(piece, pause_s), start))
        cost, start = min(choices)
        costs.append(cost)
        previous.append(start)

    cuts = [len(words)]
    while cuts[-1] > 0:
        cuts.append(previous[cuts[-1]])
    return [words[start:stop] for start, stop in pairwise(reversed(cuts))]


def _fits(words: tuple[Word, ...]) -> bool:
    lines = balance([word.text for word in words])
    return max(map(len, lines)) <= MAX_LINE_CHARS and words[-1].end_s - words[0].start_s <= MAX_SHOWN_S


def _cost(words: tuple[Word, ...], pause_before_s: float) -> float:
    """Few cues, of even size, none too short to read, and cut where the speaker paused."""
    empty = 1 - sum(len(word.text) + 1 for word in words) / (MAX_LINES * MAX_LINE_CHARS)
    too_short_s = max(0.0, MIN_SHOWN_S - (words[-1].end_s - words[0].start_s))
    return 1 + empty**2 / 2 + too_short_s - min(max(pause_before_s, 0.0), 1.0)
