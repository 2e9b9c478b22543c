"""Word error rate of dim pictures, by lips alone.

python benchmarks/dim.py ../shared/data/grid.tsv --split test --json dim.json

Each clip is shown with several shares of its light, with and without the brightening of dim mouths.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
from _weakened import finish, measure

from avsr import Recognizer
from avsr.corpora import Utterance
from avsr.evaluate.wer import NO_ERRORS, Errors
from avsr.lips import light
from avsr.media import open_media
from avsr.types import VideoFrame


def main() -> None:
    """Measure and print."""
    columns = "share of the light left", "nothing made brighter"
    unlit = mock.patch.object(light, "DIM_LEVEL", 0.0)
    measure(__doc__, see, unlit, option="--light", default="1,0.5,0.25,0.12", columns=columns)


def see(model: Recognizer, clips: list[Utterance], share: float) -> Errors:
    """Count what the lips of ``clips`` tell wrong when ``share`` of the light is left."""
    levels = np.rint(np.arange(256) * share).astype(np.uint8)
    errors = NO_ERRORS
    for clip in clips:
        with model.stream(modality="video") as stream, open_media(clip.path) as media:
            for packet in media:
                if isinstance(packet, VideoFrame):
                    stream.accept(VideoFrame(levels[packet.rgb], packet.pts_us))
            errors += finish(stream, clip.text)
    return errors


if __name__ == "__main__":
    main()
