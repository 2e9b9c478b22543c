r"""A synthetic talking head with speech: text to an mp4 whose transcript and timing are exactly known.

    clip = make_clip("bin blue at f two now", "clip.mp4", voice="en-gb+m3", seed=7)
    clip.words  # (Word("bin", 0.40, 0.60, 1.0), ...)

    text.py     the text to be spoken         voices.py   text to samples and phoneme times (espeak-ng, flite)
    visemes.py  phonemes to mouth shapes      mouth.py    mouth shapes over time, with coarticulation
    face.py     one identity per seed         head.py     the painted head     lips.py  the painted mouth
    render.py   video frames                  clip.py     mp4 and JSON         __main__.py  the command

espeak-ng and flite are optional system packages (``apt-get install espeak-ng flite``). The clip in ``demo/`` was
made by

    python -m avsr.talker "bin blue at f two now, place red by k nine please" \
        -o avsr/talker/demo/bin_blue.mp4 --seed 7 --json
"""

from avsr.talker.clip import MadeClip, make_clip
from avsr.talker.face import FaceStyle, random_face
from avsr.talker.render import render
from avsr.talker.text import grid_sentence, parse_script
from avsr.talker.voices import DEFAULT_VOICE, VOICES, Phoneme, Speech, Voice, speak

__all__ = [
    "DEFAULT_VOICE",
    "VOICES",
    "FaceStyle",
    "MadeClip",
    "Phoneme",
    "Speech",
    "Voice",
    "grid_sentence",
    "make_clip",
    "parse_script",
    "random_face",
    "render",
    "speak",
]
