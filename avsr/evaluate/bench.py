"""The benchmark: every clip, in every condition, by every system, each once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from avsr.corpora import Utterance, name_in, of_split, read_corpus
from avsr.errors import InputError, MediaError
from avsr.evaluate.clips import ClipUnderTest
from avsr.evaluate.conditions import CLEAN, Condition
from avsr.evaluate.fingerprint import fingerprint
from avsr.evaluate.journal import Journal, Mix, Result
from avsr.evaluate.noises import NoiseLibrary
from avsr.evaluate.systems import Recognition, System
from avsr.media import active_rms, mix_at_snr
from avsr.media.noise import rms
from avsr.types import FloatArray


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: ``clips`` by their name in the corpus. ``conditions`` are in the order of the report."""

    clips: dict[str, Utterance]
    systems: Sequence[System]
    conditions: Sequence[Condition]
    noises: NoiseLibrary

    def conditions_of(self, system: System) -> Sequence[Condition]:
        """The conditions of ``system``: clean alone if it does not use the sound."""
        return self.conditions if system.uses_sound else (CLEAN,)

    def rows(self) -> Iterator[tuple[str, Condition, System]]:
        """Yield everything that is to be measured, clip by clip, and systems side by side in a condition."""
        unmixed = [] if CLEAN in self.conditions else [CLEAN]
        for clip in self.clips:
            for condition in (*unmixed, *self.conditions):
                for system in self.systems:
                    if condition in self.conditions_of(system):
                        yield clip, condition, system


@dataclass(frozen=True, slots=True)
class Selection:
    """``clips`` by name, and the number of clips of the split without a transcript.

    ``problems`` has the reasons for those whose transcript exists but cannot be used.
    """

    clips: dict[str, Utterance]
    num_without_transcript: int
    problems: tuple[str, ...] = ()


def select_clips(corpus: Path, split: str | None = None, limit: int | None = None) -> Selection:
    """Choose the clips of ``split`` (None: all) that have a transcript, the first ``limit`` of them.

    ``corpus`` is whatever `read_corpus` reads. A clip is named by its path in it, so that its noise is the same
    wherever the corpus lies.

    Raises:
        InputError: the corpus cannot be read, there are no such clips, or one is listed twice.
    """
    chosen = of_split(read_corpus(corpus), split, corpus)
    root = corpus if corpus.is_dir() else corpus.parent
    transcribed = [u for u in chosen if u.text.strip()]
    problems = tuple(u.problem for u in chosen if u.problem is not None)
    if not transcribed:
        first = f" ({problems[0]})" if problems else ""
        raise InputError(
            f"{corpus}: no clip has a transcript to compare with{first}; choose another one, or another --split"
        )
    clips: dict[str, Utterance] = {}
    for utterance in transcribed[:limit]:
        name = name_in(root, utterance.path)
        if name in clips:
            raise InputError(f"{corpus}: lists {name} twice; a clip is measured once")
        clips[name] = utterance
    return Selection(clips, len(chosen) - len(transcribed), problems)


def clip_fingerprints(clips: Mapping[str, Utterance]) -> dict[str, str | None]:
    """Return a hash of each clip's file and metadata in the corpus; None for one that cannot be read."""
    return {name: _fingerprint(utterance) for name, utterance in clips.items()}


def _fingerprint(utterance: Utterance) -> str | None:
    metadata = [utterance.text, [astuple(word) for word in utterance.words], utterance.seconds]
    try:
        return fingerprint(metadata, [utterance.path])
    except (OSError, ValueError):  # such as a name that no file can have
        return None


def run(plan: Plan, journal: Journal, on_progress: Callable[[str], None] = lambda clip: None) -> dict[str, str]:
    """Measure what the journal lacks; ``on_progress`` is called with the name of the clip after each row.

    Returns:
        The clips that cannot be read, each with the reason; the others are complete.

    Raises:
        InputError: a noise file cannot be used, or a recogniser refuses what it is given.
    """
    todo: dict[str, dict[Condition, list[System]]] = {}
    for name, condition, system in plan.rows():
        if (name, condition, system.name) in journal.results:
            on_progress(name)
        else:
            todo.setdefault(name, {}).setdefault(condition, []).append(system)
    left_out = {}
    for name, conditions in todo.items():
        try:
            with ClipUnderTest(plan.clips[name]) as clip:
                if clip.defect is not None:
                    journal.add_defect(name, clip.defect)
                for condition, systems in conditions.items():
                    sound = _mixed(name, clip, condition, plan.noises, journal)
                    for system in systems:
                        result = _result(system.recognise(clip, sound), clip)
                        journal.add_result(name, condition, system.name, result)
                        on_progress(name)
        except MediaError as error:
            left_out[name] = str(error)
    return left_out


def _mixed(name: str, clip: ClipUnderTest, condition: Condition, noises: NoiseLibrary, journal: Journal) -> FloatArray:
    if condition.noise is None or condition.snr_db is None:
        return clip.samples
    draw = noises.draw(condition.noise, name, len(clip.samples))
    speech_rms, noise_rms = active_rms(clip.samples), rms(draw.samples)
    journal.add_mix(name, condition, Mix(draw.sources, draw.key, _decibels(speech_rms), _decibels(noise_rms)))
    return mix_at_snr(clip.samples, draw.samples, condition.snr_db)


def _result(recognition: Recognition, clip: ClipUnderTest) -> Result:
    start_s, end_s = clip.speech_span_s or (None, None)
    return Result(
        text=recognition.text,
        audio_weight=recognition.audio_weight,
        first_word_latency_s=_since(start_s, recognition.first_word_s),
        final_latency_s=_since(end_s, recognition.final_s),
        live_first_word_latency_s=_since(start_s, recognition.live_first_word_s),
        live_final_latency_s=_since(end_s, recognition.live_final_s),
        work_s=recognition.work_s,
        duration_s=recognition.duration_s,
    )


def _since(spoken_s: float | None, made_s: float | None) -> float | None:
    return None if spoken_s is None or made_s is None else round(made_s - spoken_s, 6)


def _decibels(rms: float) -> float | None:
    return round(20 * math.log10(rms), 3) if rms else None
