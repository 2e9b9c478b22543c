"""Word error rate of a quiet microphone, by sound alone: all sentences of a speaker are one stream.

python benchmarks/quiet.py ../shared/data/grid.tsv --split test --json quiet.json

Each stream is made quieter by several levels, in dB, with and without the amplification of quiet sound.
"""

from __future__ import annotations

from itertools import groupby
from unittest import mock

import numpy as np
from _weakened import finish, measure

from avsr import Recognizer
from avsr.corpora import Utterance, read_sound
from avsr.evaluate.wer import NO_ERRORS, Errors
from avsr.features import level
from avsr.types import SAMPLE_RATE


def main() -> None:
    """Measure and print."""
    columns = "dB quieter", "nothing made louder"
    unaided = mock.patch.object(level, "MAX_GAIN_DB", 0.0)
    measure(__doc__, hear, unaided, option="--quieter-db", default="0,20,30,40,50", columns=columns)


def hear(model: Recognizer, clips: list[Utterance], quieter_db: float) -> Errors:
    """Count what a live stream of all that each speaker says gets wrong when it is ``quieter_db`` quieter."""
    errors = NO_ERRORS
    for _, spoken in groupby(sorted(clips, key=lambda clip: clip.speaker), key=lambda clip: clip.speaker):
        one = list(spoken)
        sound = np.concatenate([read_sound(clip.path, lambda _: None)[0] for clip in one])
        sound *= np.float32(10 ** (-quieter_db / 20))
        with model.stream(modality="audio") as stream:
            for start in range(0, len(sound), SAMPLE_RATE):
                stream.accept_audio(sound[start : start + SAMPLE_RATE], SAMPLE_RATE)
            errors += finish(stream, " ".join(clip.text for clip in one))
    return errors


if __name__ == "__main__":
    main()
