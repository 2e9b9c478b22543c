"""Speech with known times."""

from __future__ import annotations

import ctypes.util
from itertools import pairwise

import numpy as np
import pytest

from avsr.errors import InputError, MissingExtraError
from avsr.talker import VOICES, Voice, speak
from avsr.talker.visemes import CLOSED, LABIODENTAL, REST, VISEMES, is_pause, visemes_of
from avsr.types import SAMPLE_RATE

SENTENCE = "bin blue at f two now, place red by a nine please"

needs_espeak = pytest.mark.skipif(
    ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed (apt-get install espeak-ng)"
)
needs_flite = pytest.mark.skipif(
    ctypes.util.find_library("flite") is None, reason="flite is not installed (apt-get install flite)"
)
ENGINES = [pytest.param("en-gb+m3", marks=needs_espeak), pytest.param("slt", marks=needs_flite)]


@pytest.mark.parametrize("voice", ENGINES)
def test_words_are_the_text_and_follow_the_sound(voice: str) -> None:
    speech = speak(SENTENCE, voice, lead_s=0.3, tail_s=0.5)
    assert speech.text == SENTENCE.replace(",", "")
    starts = [word.start_s for word in speech.words]
    ends = [word.end_s for word in speech.words]
    assert all(end > start for start, end in zip(starts, ends, strict=True))
    assert all(following >= end - 1e-9 for end, following in zip(ends[:-1], starts[1:], strict=True))
    assert starts[0] == pytest.approx(0.3, abs=0.01)
    assert speech.duration_s == pytest.approx(ends[-1] + 0.5, abs=0.01)
    # The words are where the energy is: loud inside, quiet in the silence around them.
    inside = speech.samples[round(starts[0] * SAMPLE_RATE) : round(ends[-1] * SAMPLE_RATE)]
    before = speech.samples[: round((starts[0] - 0.1) * SAMPLE_RATE)]
    after = speech.samples[round((ends[-1] + 0.1) * SAMPLE_RATE) :]
    assert np.sqrt(np.mean(inside**2)) > 30 * max(np.sqrt(np.mean(before**2)), np.sqrt(np.mean(after**2)))


@pytest.mark.parametrize("voice", ENGINES)
def test_phonemes_are_in_order_and_cover_the_words(voice: str) -> None:
    speech = speak(SENTENCE, voice)
    bounds = [(phoneme.start_s, phoneme.end_s) for phoneme in speech.phonemes]
    assert all(end > start for start, end in bounds)
    assert all(abs(end - start) < 1e-6 for (_, end), (start, _) in pairwise(bounds))
    assert bounds[0][0] == pytest.approx(speech.words[0].start_s)
    assert bounds[-1][1] == pytest.approx(speech.words[-1].end_s)


@pytest.mark.parametrize("voice", ENGINES)
def test_letters_are_named(voice: str) -> None:
    speech = speak("by a nine", voice)
    letter = speech.words[1]
    names = [p.name for p in speech.phonemes if letter.start_s <= p.start_s + 1e-6 < letter.end_s]
    assert names in (["eI"], ["ey"])


@pytest.mark.parametrize("voice", ENGINES)
def test_the_same_arguments_give_the_same_samples(voice: str) -> None:
    first, second = speak("set white in z zero soon", voice, seed=5), speak("set white in z zero soon", voice, seed=5)
    assert np.array_equal(first.samples, second.samples)
    assert first.words == second.words and first.phonemes == second.phonemes


@needs_espeak
def test_words_run_together_each_keep_a_time() -> None:
    speech = speak("one of the two", "en-us+f2")
    assert [word.text for word in speech.words] == ["one", "of", "the", "two"]
    assert all(word.end_s > word.start_s for word in speech.words)


@needs_espeak
def test_speed_and_pitch_are_the_voice_s() -> None:
    slow, fast = (speak("lay green", Voice("espeak-ng", "en-us+m1", speed=speed)) for speed in (0.8, 1.3))
    assert slow.duration_s > 1.15 * fast.duration_s


@pytest.mark.parametrize(("engine", "voice"), [("espeak-ng", "en-us+m1"), ("flite", "slt")])
def test_a_missing_engine_says_how_to_get_it(engine: str, voice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr("avsr.talker.voices._LIBRARY_FOLDERS", ())
    with pytest.raises(MissingExtraError, match=f"apt-get install {engine}"):
        speak("bin blue", voice)


def test_an_unknown_voice_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="slt"):
        speak("bin blue", "nobody")


@pytest.mark.parametrize(("speed", "pitch"), [(0.0, 50), (9.0, 50), (float("nan"), 50), (1.0, 101)])
def test_impossible_voices_are_refused(speed: float, pitch: int) -> None:
    with pytest.raises(InputError, match="must be"):
        Voice("flite", "slt", speed, pitch)


@pytest.mark.parametrize("lead_s", [-0.1, float("nan"), 1e9])
def test_impossible_silence_is_refused(lead_s: float) -> None:
    with pytest.raises(InputError, match="lead_s"):
        speak("bin blue", lead_s=lead_s)


@needs_espeak
@pytest.mark.parametrize("name", ["en-us+m7", "en-gb+f4", "en-gb-scotland", "en-gb-x-rp+f3"])
def test_listed_voices_speak(name: str) -> None:
    assert speak("now", name).duration_s > 0.8
    assert name in VOICES


def test_sounds_look_as_a_lip_reader_expects() -> None:
    assert all(visemes_of(name) == (CLOSED,) for name in ("p", "b", "m"))
    assert all(visemes_of(name) == (LABIODENTAL,) for name in ("f", "v"))
    assert all(visemes_of(name) == (REST,) for name in ("pau", "_:", "_"))
    assert [viseme.name for viseme in visemes_of("aI")] == ["open", "spread"]
    assert [viseme.name for viseme in visemes_of("aw")] == ["open", "oo"]
    assert visemes_of("th") == visemes_of("T") == (VISEMES["dental"],)
    assert visemes_of("u:") == visemes_of("uw") == (VISEMES["oo"],)
    assert is_pause("pau") and not is_pause("p")
