"""CTC prefix beam search, whose state can be kept after any frame to continue from.

A prefix (a sequence of tokens, blanks and repeats folded away) is scored by the sum over all its alignments, kept in
two parts: alignments that end in the blank and alignments that end in the prefix's last token (Graves et al. 2006;
Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs",
algorithm 1). The single best alignment of each prefix is kept as well; it tells when the tokens were said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from avsr.config import DecodeConfig
from avsr.decode.hotwords import Hotword, HotwordMatcher
from avsr.decode.lm import LmContext, WordLm
from avsr.decode.tokenizer import WORD_MARK, Tokenizer
from avsr.errors import InputError
from avsr.types import FloatArray

Scores = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One reading of a segment, best alignment included.

    ``score`` is the natural log of the probability of ``tokens`` summed over all alignments, plus what language model
    and hotwords add. ``ticks`` and ``end_ticks`` are the first and last absolute tick of each token in its best
    alignment; ``confidences`` its highest posterior there, in [0, 1].
    """

    tokens: tuple[int, ...]
    score: float
    ticks: tuple[int, ...]
    end_ticks: tuple[int, ...]
    confidences: tuple[float, ...]


class Run(NamedTuple):
    """The ticks of one token in an alignment, ``start`` to ``end`` inclusive, and its highest posterior there."""

    start: int
    end: int
    peak: float


Runs = tuple[Run, ...]
"""An alignment: one run a token."""


class Prefix(NamedTuple):
    """What depends on the tokens alone, not on their alignment.

    ``key`` identifies the token sequence and ``parent_key`` the one without the last token. Both are 64-bit hashes: two
    of the few prefixes alive at one tick collide once in some 10^17 ticks. ``bonus`` is what language model and
    hotwords added so far; ``word`` are the letters since the last word start, for which the language model adds
    ``word_score`` if the word ends there, and ``begun_score`` as long as it does not.
    """

    tokens: tuple[int, ...]
    key: int
    parent_key: int
    bonus: float
    word: str
    word_score: float
    begun_score: float
    context: LmContext
    hotword_node: int

    @property
    def gain(self) -> float:
        """What language model and hotwords add to its score."""
        return self.bonus + self.begun_score


@dataclass(frozen=True, slots=True)
class BeamState:
    """The search after ``tick`` ticks of the stream, n prefixes alive, best first.

    ``blank`` and ``nonblank`` f64 (n,): log sums over the alignments that end in the blank or not; ``best_blank`` and
    ``best_nonblank`` f64 (n,): log probabilities of the best single ones, which are ``blank_runs``, ``nonblank_runs``.
    """

    tick: int
    prefixes: tuple[Prefix, ...]
    blank: Scores
    nonblank: Scores
    best_blank: Scores
    best_nonblank: Scores
    blank_runs: tuple[Runs, ...]
    nonblank_runs: tuple[Runs, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of the best hypothesis."""
        return self.prefixes[0].tokens

    def runs(self, index: int) -> Runs:
        """Return the best alignment of hypothesis ``index`` (0 is the best)."""
        ends_blank = self.best_blank[index] >= self.best_nonblank[index]
        return self.blank_runs[index] if ends_blank else self.nonblank_runs[index]


class BeamSearch:
    """A streaming stage: log-probabilities in, n-best hypotheses out.

    Frames are searched one by one, so chunk sizes never change the result.

    Args:
        config: ``beam_size`` prefixes are kept after a tick; each is extended by the ``top_k`` likeliest tokens.
        tokenizer: says which piece is the blank and which begin words.
        lm: a word language model, added when a word is complete.
        hotwords: phrases to favour in this stream.

    Raises:
        TextError: a hotword cannot be spelled by the tokenizer.
    """

    def __init__(
        self, config: DecodeConfig, tokenizer: Tokenizer, lm: WordLm | None = None, hotwords: Sequence[Hotword] = ()
    ) -> None:
        self._beam_size = config.beam_size
        self._tokenizer = tokenizer
        self._lm = lm
        self._hotwords = HotwordMatcher(tokenizer, hotwords) if hotwords else None
        self._silent = np.array([tokenizer.blank_id, tokenizer.unknown_id])
        self._top_k = min(config.top_k, tokenizer.vocab_size - len(self._silent))
        # Of each token whether it starts a word, and its letters.
        self._pieces = [(tokenizer.is_word_start(i), p.removeprefix(WORD_MARK)) for i, p in enumerate(tokenizer.pieces)]

    def init_state(self, start_tick: int = 0) -> BeamState:
        """Return the state before any frame, of a segment that begins at ``start_tick``."""
        context = self._lm.start() if self._lm else ()
        empty = Prefix((), hash(()), 0, 0.0, "", 0.0, 0.0, context, 0)
        never = np.array([-np.inf])
        return BeamState(start_tick, (empty,), np.zeros(1), never, np.zeros(1), never, ((),), ((),))

    def step(self, log_probs: FloatArray, state: BeamState) -> tuple[tuple[Hypothesis, ...], BeamState]:
        """Search ``log_probs`` f32 (C, V), natural log; return the hypotheses alive, best first, and the next state.

        Raises:
            InputError: not (C, V) of this tokenizer, or not a number inside.
        """
        self.check(log_probs)
        for frame in log_probs:
            state = self.advance(frame, state)
        return self.nbest(state), state

    def flush(self, state: BeamState) -> tuple[Hypothesis, ...]:
        """Return the hypotheses with their last words and the sentence scored as complete, best first."""
        complete = [
            self._completed(hypothesis, p) for hypothesis, p in zip(self.nbest(state), state.prefixes, strict=True)
        ]
        return tuple(sorted(complete, key=lambda hypothesis: -hypothesis.score))

    def nbest(self, state: BeamState) -> tuple[Hypothesis, ...]:
        """Return the hypotheses alive, best first."""
        return tuple(self.hypothesis(state, index) for index in range(len(state.prefixes)))

    def hypothesis(self, state: BeamState, index: int = 0) -> Hypothesis:
        """Return the hypothesis at ``index``; 0 is the best."""
        prefix, runs = state.prefixes[index], state.runs(index)
        return Hypothesis(
            tokens=prefix.tokens,
            score=float(np.logaddexp(state.blank[index], state.nonblank[index])) + prefix.gain,
            ticks=tuple(run.start for run in runs),
            end_ticks=tuple(run.end for run in runs),
            confidences=tuple(run.peak for run in runs),
        )

    def check(self, log_probs: FloatArray) -> None:
        """Refuse what `advance` cannot search.

        Raises:
            InputError: not (C, V) of this tokenizer, or not a number inside.
        """
        vocab_size = self._tokenizer.vocab_size
        if log_probs.ndim != 2 or log_probs.shape[1] != vocab_size:
            raise InputError(
                f"log-probabilities of shape {log_probs.shape}; this tokenizer needs (ticks, {vocab_size})"
            )
        if not (log_probs < np.inf).all():
            raise InputError("log-probabilities hold NaN or +inf; the model that made them is damaged")

    def advance(self, frame: FloatArray, state: BeamState) -> BeamState:
        """Search one frame (V,) that `check` has passed; return the next state, its prefixes sorted, best first."""
        log_probs = frame.astype(np.float64)
        tokens, said = self._likely_tokens(log_probs)
        last = np.array([p.tokens[-1] if p.tokens else self._tokenizer.blank_id for p in state.prefixes])
        gain = np.array([p.gain for p in state.prefixes])
        total = np.logaddexp(state.blank, state.nonblank)
        best = np.maximum(state.best_blank, state.best_nonblank)

        # A prefix stays itself through a blank or by repeating its last token ...
        stay = np.stack([total, state.nonblank, best, state.best_nonblank])
        stay[0::2] += log_probs[self._tokenizer.blank_id]
        stay[1::2] += log_probs[last]
        # ... and becomes a longer one through another token, or through its last one again after a blank.
        again = last[:, None] == tokens
        longer = np.where(again, state.blank[:, None], total[:, None]) + said
        best_longer = np.where(again, state.best_blank[:, None], best[:, None]) + said

        rejoined: dict[int, int] = {}
        for parent, child, column in _meetings(state.prefixes, tokens):
            stay[1, child] = np.logaddexp(stay[1, child], longer[parent, column])
            if best_longer[parent, column] > stay[3, child]:
                stay[3, child] = best_longer[parent, column]
                rejoined[child] = parent
            longer[parent, column] = -np.inf

        gains = self._gains(state.prefixes, tokens)
        ranks = np.concatenate([np.logaddexp(stay[0], stay[1]) + gain, (longer + gains).ravel()])
        order = np.argsort(-ranks, kind="stable")[: self._beam_size]
        chosen = order[ranks[order] > -np.inf]
        if not len(chosen):
            raise InputError(f"log-probabilities at tick {state.tick} rule out the blank and every token")

        fresh = np.full((4, longer.size), -np.inf)
        fresh[1], fresh[3] = longer.ravel(), best_longer.ravel()
        blank, nonblank, best_blank, best_nonblank = np.concatenate([stay, fresh], axis=1)[:, chosen]

        survivors: list[tuple[Prefix, Runs, Runs]] = []
        posteriors = np.exp(log_probs)
        for choice in chosen.tolist():
            if choice < len(last):
                source, token = rejoined.get(choice), int(last[choice])
                survivors.append(_kept(state, choice, source, token, float(posteriors[token])))
            else:
                index, column = divmod(choice - len(last), len(tokens))
                token = int(tokens[column])
                prefix = self._extended(state.prefixes[index], token)
                survivors.append((prefix, (), _alignment_with(state, index, token, float(posteriors[token]))))
        prefixes, blank_runs, nonblank_runs = zip(*survivors, strict=True)
        return BeamState(
            tick=state.tick + 1,
            prefixes=prefixes,
            blank=blank,
            nonblank=nonblank,
            best_blank=best_blank,
            best_nonblank=best_nonblank,
            blank_runs=blank_runs,
            nonblank_runs=nonblank_runs,
        )

    def commit(self, state: BeamState, num_tokens: int) -> BeamState:
        """Keep only hypotheses that begin with the best one's first ``num_tokens`` tokens, followed by a new word.

        A word must start there in the best hypothesis, so that at least this one is kept. From then on these tokens,
        and the words they spell, can no longer change.
        """
        head = state.tokens[:num_tokens]
        keep = [i for i, p in enumerate(state.prefixes) if self._begins_with(p.tokens, head)]
        return state if len(keep) == len(state.prefixes) else _selected(state, keep)

    def split(self, state: BeamState, num_tokens: int) -> BeamState:
        """`commit`, then remove these tokens: return the state of a segment that begins with the next word.

        The search continues as if nothing was cut, with the language model's context; scores restart near 0.
        """
        state = self.commit(state, num_tokens)
        loss = np.logaddexp(state.blank[0], state.nonblank[0])
        bonus = state.prefixes[0].bonus
        return replace(
            state,
            prefixes=tuple(p._replace(tokens=p.tokens[num_tokens:], bonus=p.bonus - bonus) for p in state.prefixes),
            blank=state.blank - loss,
            nonblank=state.nonblank - loss,
            best_blank=state.best_blank - loss,
            best_nonblank=state.best_nonblank - loss,
            blank_runs=tuple(runs[num_tokens:] for runs in state.blank_runs),
            nonblank_runs=tuple(runs[num_tokens:] for runs in state.nonblank_runs),
        )

    def num_agreed_tokens(self, state: BeamState) -> int:
        """Return how many leading tokens, whole words, all hypotheses share: these can no longer change."""
        lowest, highest = min(p.tokens for p in state.prefixes), max(p.tokens for p in state.prefixes)
        num_shared = next(
            (i for i, (a, b) in enumerate(zip(lowest, highest, strict=False)) if a != b), min(len(lowest), len(highest))
        )
        for num_tokens in range(num_shared, 0, -1):
            head = lowest[:num_tokens]
            if all(self._begins_with(p.tokens, head) for p in state.prefixes):
                return num_tokens
        return 0

    def _begins_with(self, tokens: tuple[int, ...], head: tuple[int, ...]) -> bool:
        end = len(head)
        return len(tokens) > end and tokens[:end] == head and self._tokenizer.is_word_start(tokens[end])

    def _likely_tokens(self, log_probs: Scores) -> tuple[Indices, Scores]:
        """The ``top_k`` likeliest tokens and their log-probabilities, in no order."""
        speech = log_probs.copy()
        speech[self._silent] = -np.inf
        tokens = np.argpartition(-speech, self._top_k - 1)[: self._top_k]
        return tokens, speech[tokens]

    def _gains(self, prefixes: tuple[Prefix, ...], tokens: Indices) -> Scores:
        """What language model and hotwords add in all once each of n prefixes takes each of k tokens: (n, k)."""
        gains = np.repeat([[p.bonus] for p in prefixes], len(tokens), axis=1)
        if self._lm:
            begun = self._lm.begun
            pieces = [self._pieces[token] for token in tokens.tolist()]
            gains += [
                [p.word_score + begun(letters) if starts else begun(p.word + letters) for starts, letters in pieces]
                for p in prefixes
            ]
        if self._hotwords:
            gains += np.stack([self._hotwords.moves(p.hotword_node)[0][tokens] for p in prefixes])
        return gains

    def _extended(self, prefix: Prefix, token: int) -> Prefix:
        bonus, context, node = prefix.bonus, prefix.context, prefix.hotword_node
        word, word_score, begun_score = "", 0.0, 0.0
        if self._lm:
            starts_word, letters = self._pieces[token]
            if starts_word:
                bonus += prefix.word_score
                context = self._lm.score(prefix.word, context)[1] if prefix.word else context
            word = letters if starts_word else prefix.word + letters
            word_score = self._lm.score(word, context)[0] if word else 0.0
            begun_score = self._lm.begun(word)
        if self._hotwords:
            gains, nodes = self._hotwords.moves(node)
            bonus, node = bonus + float(gains[token]), int(nodes[token])
        return Prefix(
            tokens=(*prefix.tokens, token),
            key=hash((prefix.key, token)),
            parent_key=prefix.key,
            bonus=bonus,
            word=word,
            word_score=word_score,
            begun_score=begun_score,
            context=context,
            hotword_node=node,
        )

    def _completed(self, hypothesis: Hypothesis, prefix: Prefix) -> Hypothesis:
        gain = 0.0
        if self._lm and prefix.tokens:  # no tokens are silence, not a sentence: language models know no empty ones
            context = self._lm.score(prefix.word, prefix.context)[1] if prefix.word else prefix.context
            gain += prefix.word_score - prefix.begun_score + self._lm.end(context)
        if self._hotwords:
            gain += self._hotwords.finish(prefix.hotword_node)
        return replace(hypothesis, score=hypothesis.score + gain)


def _meetings(prefixes: tuple[Prefix, ...], tokens: Indices) -> list[tuple[int, int, int]]:
    """Where a prefix that takes a token becomes another prefix of the beam: (parent, child, column of ``tokens``)."""
    index_of = {prefix.key: index for index, prefix in enumerate(prefixes)}
    column_of = {token: column for column, token in enumerate(tokens.tolist())}
    found = []
    for child, prefix in enumerate(prefixes):
        parent = index_of.get(prefix.parent_key)
        if parent is not None and prefix.tokens:
            column = column_of.get(prefix.tokens[-1])
            if column is not None:
                found.append((parent, child, column))
    return found


def _kept(state: BeamState, index: int, source: int | None, token: int, posterior: float) -> tuple[Prefix, Runs, Runs]:
    """Return a prefix that stays itself, with its best alignments.

    ``source`` is its parent in the beam if the best alignment now comes from there, by ``token``.
    """
    if source is not None:
        nonblank_runs = _alignment_with(state, source, token, posterior)
    else:
        nonblank_runs = state.nonblank_runs[index]
        if nonblank_runs:
            run = nonblank_runs[-1]
            nonblank_runs = (*nonblank_runs[:-1], Run(run.start, state.tick, max(run.peak, posterior)))
    return state.prefixes[index], state.runs(index), nonblank_runs


def _alignment_with(state: BeamState, index: int, token: int, posterior: float) -> Runs:
    """Return prefix ``index``'s best alignment, extended by ``token``; after the same token only across a blank."""
    tokens = state.prefixes[index].tokens
    again = bool(tokens) and tokens[-1] == token
    before = state.blank_runs[index] if again else state.runs(index)
    return (*before, Run(state.tick, state.tick, posterior))


def _selected(state: BeamState, keep: list[int]) -> BeamState:
    return BeamState(
        tick=state.tick,
        prefixes=tuple(state.prefixes[i] for i in keep),
        blank=state.blank[keep],
        nonblank=state.nonblank[keep],
        best_blank=state.best_blank[keep],
        best_nonblank=state.best_nonblank[keep],
        blank_runs=tuple(state.blank_runs[i] for i in keep),
        nonblank_runs=tuple(state.nonblank_runs[i] for i in keep),
    )
