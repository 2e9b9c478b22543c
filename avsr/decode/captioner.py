"""From log-probabilities to captions: partials with a prefix that is never revised, finals at endpoints.

A word is stable, never to change, when every hypothesis alive has it, followed by another word. To bring that about,
words are committed once the word after them began ``stable_ticks`` ago: hypotheses that read them otherwise are
dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from avsr.config import DecodeConfig
from avsr.decode.beam import BeamSearch, BeamState, Hypothesis
from avsr.decode.endpoint import Ending, Endpointer, EndpointInput, EndpointState
from avsr.decode.tokenizer import Tokenizer
from avsr.decode.words import seconds, timed_words
from avsr.errors import InputError
from avsr.types import BoolArray, Caption, FloatArray, Word

NEVER = -1e4
"""Log-probability of the impossible; finite, so that sums of it stay finite."""
AFTERTHOUGHT_TICKS = 5
"""Words are still accepted this long after both sound and face are gone; then the network's output is ignored."""
NOTHING_SHOWN = ("", 0)


@dataclass(frozen=True, slots=True)
class CaptionerInput:
    """One stream's ticks from absolute ``start_tick`` on.

    ``log_probs`` f32 (C, V) natural log; ``audio_weight`` f32 (C,) in [0, 1]; ``heard`` and ``visible`` bool (C,).
    ``loudness_db`` (C), RMS in dB of full scale, and ``mouth_opening`` (C), as in `LipFrame`: None where unknown.
    """

    log_probs: FloatArray
    audio_weight: FloatArray
    heard: BoolArray
    visible: BoolArray
    start_tick: int
    loudness_db: Sequence[float | None]
    mouth_opening: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class CaptionerState:
    """A stream within segment ``segment``, of which ``revision`` captions were given.

    ``shown`` is the last partial's (text, number of stable characters); None where that partial came to nothing, so
    that the next one is given whatever it says. ``audio_weight`` and ``visible`` hold the ticks from ``first_tick`` on,
    where the segment's search began; ``num_committed`` tokens can no longer change. ``absent_ticks`` is how many ticks
    in a row had neither sense, at most ``AFTERTHOUGHT_TICKS`` + 1. The previous segment's last word ends at
    ``said_until_tick``.
    """

    search: BeamState
    endpoint: EndpointState
    audio_weight: FloatArray
    visible: BoolArray
    first_tick: int
    segment: int = 0
    revision: int = 0
    shown: tuple[str, int] | None = NOTHING_SHOWN
    num_committed: int = 0
    absent_ticks: int = AFTERTHOUGHT_TICKS
    said_until_tick: int = 0


class Captioner:
    """A streaming stage: `CaptionerInput` in, captions out. How ticks are grouped never changes the finals.

    A `step` gives at most one partial, if the text or its stable part has changed.
    """

    def __init__(self, config: DecodeConfig, tokenizer: Tokenizer, beam: BeamSearch) -> None:
        self._tokenizer, self._beam = tokenizer, beam
        self._endpointer = Endpointer(config)
        self._stable_ticks = config.stable_ticks
        self._nothing = np.full(tokenizer.vocab_size, NEVER, np.float32)
        self._nothing[tokenizer.blank_id] = 0.0

    def init_state(self, start_tick: int = 0) -> CaptionerState:
        """Return the state of a stream whose first tick is ``start_tick``."""
        return CaptionerState(
            search=self._beam.init_state(start_tick),
            endpoint=self._endpointer.init_state(),
            audio_weight=np.zeros(0, np.float32),
            visible=np.zeros(0, np.bool_),
            first_tick=start_tick,
            said_until_tick=start_tick,
        )

    def step(self, x: CaptionerInput, state: CaptionerState) -> tuple[tuple[Caption, ...], CaptionerState]:
        """Take ticks; return the finals of segments that ended in them, then a partial if there is news.

        Raises:
            InputError: log-probabilities of a wrong shape or not numbers, or ticks that do not follow the last ones.
        """
        self._check(x, state)
        state = replace(
            state,
            audio_weight=np.concatenate([state.audio_weight, x.audio_weight]),
            visible=np.concatenate([state.visible, x.visible]),
        )
        captions: list[Caption] = []
        for index in range(len(x.log_probs)):
            is_absent = not (x.heard[index] or x.visible[index])
            absent_ticks = min(state.absent_ticks + 1, AFTERTHOUGHT_TICKS + 1) if is_absent else 0
            frame = x.log_probs[index] if absent_ticks <= AFTERTHOUGHT_TICKS else self._nothing
            search = self._beam.advance(frame, state.search)
            search, num_committed = self._commit(search, state.num_committed)
            ending, endpoint = self._endpointer.step(self._endpoint_input(x, index, frame, search), state.endpoint)
            state = replace(
                state, search=search, num_committed=num_committed, endpoint=endpoint, absent_ticks=absent_ticks
            )
            if ending:
                final, state = self._end(ending, state)
                captions += final
        partial, state = self._partial(state)
        return (*captions, *partial), state

    def flush(self, state: CaptionerState) -> tuple[Caption, ...]:
        """Return the final of the last segment; if it has no words, the empty partial that clears what was shown."""
        return self.rest(state)[0]

    def rest(self, state: CaptionerState) -> tuple[tuple[Caption, ...], CaptionerState]:
        """Do as `flush`, and return a state from which the stream can continue: see `wake`."""
        captions, state = self._end("pause", state)
        if not captions:
            captions, state = self._partial(state)
        return captions, self.wake(0, state)

    def wake(self, start_tick: int, state: CaptionerState) -> CaptionerState:
        """Return the state of a stream that rested and continues at ``start_tick``; only what was shown is kept."""
        return replace(self.init_state(start_tick), segment=state.segment, revision=state.revision, shown=state.shown)

    def _check(self, x: CaptionerInput, state: CaptionerState) -> None:
        self._beam.check(x.log_probs)
        if x.start_tick != state.search.tick:
            raise InputError(
                f"ticks from {x.start_tick} on do not follow: the stream stands at tick {state.search.tick}"
            )
        for name in ("audio_weight", "heard", "visible", "loudness_db", "mouth_opening"):
            values = getattr(x, name)
            if len(values) != len(x.log_probs):
                raise InputError(f"{name} of {len(values)} ticks beside {len(x.log_probs)} of log-probabilities")

    def _endpoint_input(self, x: CaptionerInput, index: int, frame: FloatArray, search: BeamState) -> EndpointInput:
        runs = search.runs(0)
        return EndpointInput(
            blank_probability=math.exp(frame[self._tokenizer.blank_id]),
            last_token_tick=runs[-1].end if runs else None,
            loudness_db=x.loudness_db[index],
            mouth_opening=x.mouth_opening[index],
        )

    def _commit(self, search: BeamState, num_committed: int) -> tuple[BeamState, int]:
        """Commit the best hypothesis' words before its last word start that is old enough."""
        runs = search.runs(0)
        for index in range(len(runs) - 1, num_committed, -1):
            old = runs[index].start < search.tick - self._stable_ticks
            if old and self._tokenizer.is_word_start(search.tokens[index]):
                return self._beam.commit(search, index), index
        return search, num_committed

    def _partial(self, state: CaptionerState) -> tuple[tuple[Caption, ...], CaptionerState]:
        num_agreed = self._beam.num_agreed_tokens(state.search)
        stable_chars = len(self._tokenizer.decode(state.search.tokens[:num_agreed]))
        caption = self._caption(self._beam.hypothesis(state.search), state, stable_chars)
        shown = (caption.text, stable_chars)
        if shown == state.shown:
            return (), state
        return (caption,), replace(state, revision=state.revision + 1, shown=shown)

    def _end(self, ending: Ending, state: CaptionerState) -> tuple[tuple[Caption, ...], CaptionerState]:
        """Return the final of the segment and the state of the next one, which keeps what comes after the cut.

        A segment without words has no final and is not counted, since whether it had a partial depends on how ticks
        were grouped. The next segment takes its number, and the next partial replaces what was shown.
        """
        num_tokens = self._cut(state.search) if ending == "length" else None
        if num_tokens is None:
            hypothesis = self._beam.flush(state.search)[0]
            search, first_tick = self._beam.init_state(state.search.tick), state.search.tick
        else:
            hypothesis = _first_tokens(_not_before(state.first_tick, self._beam.hypothesis(state.search)), num_tokens)
            first_tick = hypothesis.end_ticks[-1] + 1
            search = self._beam.split(state.search, num_tokens)

        caption = self._caption(hypothesis, state)
        used = first_tick - state.first_tick
        rest = CaptionerState(
            search=search,
            endpoint=self._endpointer.init_state(num_ticks=search.tick - first_tick),
            audio_weight=state.audio_weight[used:],
            visible=state.visible[used:],
            first_tick=first_tick,
            segment=state.segment,
            revision=state.revision,
            shown=state.shown if state.shown == NOTHING_SHOWN else None,
            absent_ticks=state.absent_ticks,
            said_until_tick=state.said_until_tick,
        )
        if not caption.words:
            return (), rest
        until_tick = max(state.first_tick, hypothesis.end_ticks[-1]) + 1
        return (caption,), replace(
            rest, segment=state.segment + 1, revision=0, shown=NOTHING_SHOWN, said_until_tick=until_tick
        )

    def _cut(self, search: BeamState) -> int | None:
        """Return how many tokens of the best hypothesis to cut off: up to the widest gap between words that are not
        stable yet, the last of equal ones. None where there is no such gap.
        """
        hypothesis, num_agreed = self._beam.hypothesis(search), self._beam.num_agreed_tokens(search)
        cuts = [
            i
            for i in range(max(1, num_agreed), len(hypothesis.tokens))
            if self._tokenizer.is_word_start(hypothesis.tokens[i])
        ]
        return max(cuts, key=lambda i: (hypothesis.ticks[i] - hypothesis.end_ticks[i - 1], i), default=None)

    def _caption(self, hypothesis: Hypothesis, state: CaptionerState, stable_chars: int | None = None) -> Caption:
        """Return the caption of ``hypothesis``; ``stable_chars`` None makes it a final, all of which is stable."""
        hypothesis = _not_before(state.first_tick, hypothesis)
        words = _one_by_one(timed_words(hypothesis, self._tokenizer), seconds(state.said_until_tick))
        num_chars = len(" ".join(word.text for word in words))
        said = _ticks_said(hypothesis) - state.first_tick
        first, end = (said[0], said[-1] + 1) if len(said) else (0, None)
        return Caption(
            segment=state.segment,
            revision=state.revision,
            is_final=stable_chars is None,
            words=words,
            stable_chars=num_chars if stable_chars is None else stable_chars,
            start_s=words[0].start_s if words else seconds(state.first_tick),
            end_s=words[-1].end_s if words else seconds(state.first_tick),
            audio_weight=_mean(state.audio_weight[said] if len(said) else state.audio_weight),
            face_visible=_mean(state.visible[first:end]),
        )


def _ticks_said(hypothesis: Hypothesis) -> npt.NDArray[np.int64]:
    """Return the ticks of all tokens in the best alignment, rising."""
    spans = zip(hypothesis.ticks, hypothesis.end_ticks, strict=True)
    return np.array([tick for start, end in spans for tick in range(start, end + 1)], np.int64)


def _not_before(first_tick: int, hypothesis: Hypothesis) -> Hypothesis:
    """Move times before ``first_tick`` to it: after a cut, other hypotheses may align their first tokens before it."""
    return replace(
        hypothesis,
        ticks=tuple(max(tick, first_tick) for tick in hypothesis.ticks),
        end_ticks=tuple(max(tick, first_tick) for tick in hypothesis.end_ticks),
    )


def _one_by_one(words: tuple[Word, ...], first_s: float) -> tuple[Word, ...]:
    """Move starts so that no word begins before the previous one ends, and the first not before ``first_s``."""
    placed: list[Word] = []
    for word in words:
        begun_s = max(word.start_s, placed[-1].end_s if placed else first_s)
        placed.append(replace(word, start_s=begun_s, end_s=max(word.end_s, begun_s)))
    return tuple(placed)


def _first_tokens(hypothesis: Hypothesis, num_tokens: int) -> Hypothesis:
    return replace(
        hypothesis,
        tokens=hypothesis.tokens[:num_tokens],
        ticks=hypothesis.ticks[:num_tokens],
        end_ticks=hypothesis.end_ticks[:num_tokens],
        confidences=hypothesis.confidences[:num_tokens],
    )


def _mean(values: FloatArray | BoolArray) -> float:
    return float(values.mean()) if len(values) else 0.0
