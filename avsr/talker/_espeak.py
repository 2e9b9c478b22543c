"""Stand-alone program: synthesise speech with libespeak-ng, with phoneme times; standard library only.

    python _espeak.py VOICE WORDS_PER_MINUTE PITCH < text

The library keeps global state between sentences (its noise and flutter generators go on where they stopped), so a
sentence would sound different the second time: each one gets a fresh process. Written to stdout: one JSON line
``{"sample_rate", "phonemes": [[name, start_sample, token_index], ...]}``, then signed 16-bit mono samples.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import re
import sys

# From espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_RETRIEVAL = 1
_PHONEME_EVENTS = 0x0001
_DONT_EXIT = 0x8000
_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_CHARS_UTF8, _END_PAUSE = 1, 0x1000
_RATE, _PITCH = 1, 3


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def main(library: str, voice: str, rate: int, pitch: int, text: str) -> None:
    """Synthesise ``text`` and write the phonemes and the samples to stdout."""
    espeak = ctypes.CDLL(library)
    sample_rate = espeak.espeak_Initialize(_AUDIO_OUTPUT_RETRIEVAL, 0, None, _PHONEME_EVENTS | _DONT_EXIT)
    if sample_rate <= 0:
        sys.exit("espeak-ng found no voice data")
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng has no voice {voice}")
    espeak.espeak_SetParameter(_RATE, rate, 0)
    espeak.espeak_SetParameter(_PITCH, pitch, 0)

    token_starts = [match.start() for match in re.finditer(r"\S+", text)]
    pcm: list[bytes] = []
    phonemes: list[tuple[str, int, int]] = []
    token_index = 0

    def on_audio(samples: ctypes._Pointer[ctypes.c_short], num_samples: int, events: ctypes._Pointer[_Event]) -> int:
        nonlocal token_index
        if samples:
            pcm.append(ctypes.string_at(samples, 2 * num_samples))
        for index in itertools.count():
            event = events[index]
            if event.type == _EVENT_END_OF_LIST:
                break
            if event.type == _EVENT_WORD:
                # Text positions count from 1.
                token_index = max(sum(start < event.text_position for start in token_starts) - 1, 0)
            elif event.type == _EVENT_PHONEME:
                phonemes.append((event.id.string.decode("utf-8", "replace"), event.sample, token_index))
        return 0

    callback = _Callback(on_audio)
    espeak.espeak_SetSynthCallback(callback)
    data = text.encode()
    espeak.espeak_Synth(data, len(data) + 1, 0, 1, 0, _CHARS_UTF8 | _END_PAUSE, None, None)
    espeak.espeak_Synchronize()
    header = {"sample_rate": sample_rate, "phonemes": phonemes}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + b"".join(pcm))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.stdin.read())
