"""Stand-alone program: synthesise speech with libflite, with phoneme times; standard library only.

    python _flite.py VOICE DURATION_STRETCH < text

Written to stdout, as `_espeak.py` does: one JSON line ``{"sample_rate", "phonemes": [[name, start_sample,
token_index], ...]}``, then signed 16-bit mono samples.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from typing import Any

_POINTER, _STRING = ctypes.c_void_p, ctypes.c_char_p
_SIGNATURES = {
    "flite_feat_set_float": (None, [_POINTER, _STRING, ctypes.c_float]),
    "flite_synth_text": (_POINTER, [_STRING, _POINTER]),
    "utt_relation": (_POINTER, [_POINTER, _STRING]),
    "utt_wave": (_POINTER, [_POINTER]),
    "relation_head": (_POINTER, [_POINTER]),
    "item_next": (_POINTER, [_POINTER]),
    "item_daughter": (_POINTER, [_POINTER]),
    "item_as": (_POINTER, [_POINTER, _STRING]),
    "item_feat_string": (_STRING, [_POINTER, _STRING]),
    "item_feat_float": (ctypes.c_float, [_POINTER, _STRING]),
}


class _Voice(ctypes.Structure):
    _fields_ = (("name", _STRING), ("features", _POINTER))


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", _STRING),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


def main(library: str, voice_name: str, stretch: float, text: str) -> None:
    """Synthesise ``text`` and write the phonemes and the samples to stdout."""
    flite: Any = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    for name, (result, arguments) in _SIGNATURES.items():
        getattr(flite, name).restype = result
        getattr(flite, name).argtypes = arguments
    for part in ("usenglish", "cmulex"):
        ctypes.CDLL(library.replace("libflite.", f"libflite_{part}."), mode=ctypes.RTLD_GLOBAL)
    flite.flite_init()
    register = getattr(
        ctypes.CDLL(library.replace("libflite.", f"libflite_cmu_us_{voice_name}.")), f"register_cmu_us_{voice_name}"
    )
    register.restype, register.argtypes = _POINTER, [_STRING]
    voice = register(None)
    features = ctypes.cast(voice, ctypes.POINTER(_Voice)).contents.features
    flite.flite_feat_set_float(features, b"duration_stretch", stretch)
    utterance = flite.flite_synth_text(text.encode(), voice)
    wave = ctypes.cast(flite.utt_wave(utterance), ctypes.POINTER(_Wave)).contents

    # Segments are in time order but have no link to words; the word tree has the same segments in the same order,
    # without the pauses.
    token_of_segment = _tokens_of_segments(flite, utterance)
    phonemes, start_sample, token_index = [], 0, 0
    for segment in _siblings(flite, flite.relation_head(flite.utt_relation(utterance, b"Segment"))):
        name = flite.item_feat_string(segment, b"name").decode()
        if name != "pau":
            token_index = next(token_of_segment, token_index)
        phonemes.append((name, start_sample, token_index))
        start_sample = round(flite.item_feat_float(segment, b"end") * wave.sample_rate)
    header = {"sample_rate": wave.sample_rate, "phonemes": phonemes}
    pcm = ctypes.string_at(wave.samples, 2 * wave.num_samples)
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + pcm)


def _tokens_of_segments(flite: Any, utterance: int) -> Iterator[int]:
    tokens = _siblings(flite, flite.relation_head(flite.utt_relation(utterance, b"Token")))
    for token_index, token in enumerate(tokens):
        for word in _siblings(flite, flite.item_daughter(token)):
            for syllable in _siblings(flite, flite.item_daughter(flite.item_as(word, b"SylStructure"))):
                for _ in _siblings(flite, flite.item_daughter(syllable)):
                    yield token_index


def _siblings(flite: Any, item: int | None) -> Iterator[int]:
    while item:
        yield item
        item = flite.item_next(item)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.stdin.read())
