"""Synthetic speakers as extra training data: sentences of the GRID grammar or of a text, with a face or without."""

from __future__ import annotations

import re
import wave
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from avsr.decode.tokenizer import normalise_text
from avsr.disk import lock, whole_file, writing
from avsr.talker import VOICES, Voice, grid_sentence, make_clip, speak
from avsr.types import SAMPLE_RATE, Word

CLIPS = "clips"
HEADER = "path\tspeaker\tsplit\tseconds\ttext\twords"
NATURAL_SHARE = 0.5
"""How much of the sentences without a face flite says, whose few voices were built from people's recordings."""
MAX_WORDS = 28
"""Longer sentences are not read."""
_READ_AS_SPELLED = re.compile(r"[A-Za-z ,.;:!?'\"()-]+")
"""Voices read digits and other signs in words that the text does not have."""

Choose = Callable[[np.random.Generator], str]
Say = Callable[[str, Path, Voice, int, float, float], tuple[float, Sequence[Word]]]
"""Text, path, voice, seed, silence before and after: writes a file, returns its length and words; all in seconds."""


def make_talkers(directory: Path, num_clips: int, seed: int) -> Path:
    """Make ``num_clips`` clips and their table in ``directory``; return the table, which may list more made before.

    What is made is not made again, whether that run was finished or killed.

    Raises:
        InputError: the directory cannot be written, or another process is making its clips.
        MissingExtraError: espeak-ng or flite is not installed.
    """
    return _make(directory / "talker.tsv", num_clips, seed, ".mp4", grid_sentence, _choose_any, _film)


def make_voices(directory: Path, num_clips: int, seed: int, sentences: Sequence[str] = ()) -> Path:
    """Do the same without faces, which takes a hundredth of the time; say some of ``sentences`` if there are any.

    These must be readable, see `readable_sentences`.

    Raises:
        InputError: the directory cannot be written, or another process is making its clips.
        MissingExtraError: espeak-ng or flite is not installed.
    """

    def choose_text(rng: np.random.Generator) -> str:
        return sentences[int(rng.integers(len(sentences)))] if sentences else grid_sentence(rng)

    return _make(directory / "voices.tsv", num_clips, seed + 1, ".wav", choose_text, _choose_natural, _record)


def readable_sentences(lines: Iterable[str]) -> list[str]:
    """Return those of ``lines``, normalised, that voices read word by word as they are spelled, up to `MAX_WORDS`."""
    spelled = (normalise_text(line) for line in lines if _READ_AS_SPELLED.fullmatch(line.strip()))
    return [text for text in spelled if 0 < len(text.split()) <= MAX_WORDS]


def _make(
    table: Path, num_clips: int, seed: int, suffix: str, choose_text: Choose, choose_voice: Choose, say: Say
) -> Path:
    with lock(table.parent), writing(table.parent):
        partial, rows = table.with_suffix(".partial"), _rows(table)
        if len(rows) >= num_clips:
            return table
        rows = max(rows, _rows(partial), key=len)
        folder = table.parent / CLIPS
        folder.mkdir(exist_ok=True)
        _write(partial, rows)
        with partial.open("a", encoding="utf-8") as file:
            for index in range(len(rows), num_clips):
                rng = np.random.default_rng((seed, index))
                name = choose_voice(rng)
                voice = replace(VOICES[name], speed=float(rng.uniform(0.85, 1.15)), pitch=int(rng.integers(35, 66)))
                path = folder / f"{index:04d}{suffix}"
                lead_s, tail_s = rng.uniform(0.3, 0.6, size=2).tolist()
                text = choose_text(rng)
                duration_s, spoken = say(text, path, voice, int(rng.integers(1 << 30)), lead_s, tail_s)
                words = " ".join(f"{word.text}:{word.start_s:.3f}-{word.end_s:.3f}" for word in spoken)
                fields = (f"{CLIPS}/{path.name}", f"talker-{name}", "train", f"{duration_s:.3f}", text, words)
                file.write("\t".join(fields) + "\n")
                file.flush()
                if (index + 1) % max(1, num_clips // 10) == 0:
                    print(f"making {table.stem}: {index + 1} of {num_clips}", flush=True)
        partial.replace(table)
    return table


def _rows(table: Path) -> list[str]:
    """Return the rows of a table, as far as it was written before a kill."""
    if not table.exists():
        return []
    *lines, _torn = table.read_text(encoding="utf-8").split("\n")
    return lines[1:]


def _write(table: Path, rows: list[str]) -> None:
    """Write a table that is there as a whole, or as it was."""
    with whole_file(table) as new:
        new.writelines(f"{row}\n".encode() for row in (HEADER, *rows))


def _choose_any(rng: np.random.Generator) -> str:
    return str(rng.choice(list(VOICES)))


def _choose_natural(rng: np.random.Generator) -> str:
    is_natural = rng.random() < NATURAL_SHARE
    return str(rng.choice([name for name, voice in VOICES.items() if (voice.engine == "flite") is is_natural]))


def _film(text: str, path: Path, voice: Voice, seed: int, lead_s: float, tail_s: float) -> tuple[float, Sequence[Word]]:
    clip = make_clip(text, path, voice=voice, seed=seed, lead_s=lead_s, tail_s=tail_s)
    return clip.duration_s, clip.words


def _record(
    text: str, path: Path, voice: Voice, seed: int, lead_s: float, tail_s: float
) -> tuple[float, Sequence[Word]]:
    speech = speak(text, voice, seed=seed, lead_s=lead_s, tail_s=tail_s)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((speech.samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return speech.duration_s, speech.words
