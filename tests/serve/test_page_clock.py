"""The page puts pictures on the sound card's clock, however that drifts against its own; it knows a slow camera."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avsr
from avsr.live.captioner import FEW_PICTURES_HZ
from avsr.live.figures import PictureRate

PAGE = Path(avsr.__file__).parent / "serve" / "page"
NODE = shutil.which("node")
RUN = """
import { SoundClock } from "./clock.mjs";
const drift = Number(process.argv[2]) * 1e-6, clock = new SoundClock();
let seed = 1, worst = 0;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
for (let i = 0; i < 3600 * 25; i++) { // an hour, in blocks of 40 ms
  const page = 5 + i * 0.04, context = 2 + i * 0.04 * (1 + drift); // of the same moment
  clock.hear(page + 0.01 + 0.05 * random() ** 4, context);
  if (i > 250) worst = Math.max(worst, Math.abs(clock.fromPage(page) - clock.streamTime(context)));
}
console.log(JSON.stringify(worst));
"""


SEE = """
import { PictureRate } from "./clock.mjs";
const rate = new PictureRate();
console.log(JSON.stringify(JSON.parse(process.argv[2]).map(([time, number]) => (rate.see(time, number), rate.isLow))));
"""
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def played(tmp_path: Path, play: str, argument: object) -> Any:
    """Return what a play of the page's clock found."""
    shutil.copy(PAGE / "clock.js", tmp_path / "clock.mjs")
    (tmp_path / "play.mjs").write_text(play)
    command = [str(NODE), str(tmp_path / "play.mjs"), json.dumps(argument)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


@pytest.mark.parametrize("drift_ppm", [200, -200])
def test_after_an_hour_of_drift_sound_and_pictures_are_within_20_ms(tmp_path: Path, drift_ppm: int) -> None:
    assert played(tmp_path, RUN, drift_ppm) < 0.02


def test_the_page_and_live_call_the_same_cameras_slow(tmp_path: Path) -> None:
    spans = [(8.0, 13.0), (30.0, 13.0), (11.9, 6.0), (12.1, 11.0), (0.9, 12.0), (11.0, 4.0)]  # pictures a second, s
    times = np.cumsum(np.concatenate([np.full(round(rate * length), 1 / rate) for rate, length in spans])).tolist()
    live, is_low, expected = PictureRate(), False, []
    for time_s in times:
        rate_hz = live.seen(time_s)
        is_low = is_low if rate_hz is None else rate_hz < FEW_PICTURES_HZ
        expected.append(is_low)
    assert {True, False} == set(expected)
    assert played(tmp_path, SEE, [(time_s, number) for number, time_s in enumerate(times)]) == expected


def test_pictures_that_the_page_was_too_busy_to_see_are_counted(tmp_path: Path) -> None:
    assert not any(played(tmp_path, SEE, [(i / 8, 3 * i) for i in range(100)]))
