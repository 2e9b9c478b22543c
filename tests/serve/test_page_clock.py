"""The page puts pictures on the sound card's clock, however that drifts against its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import avsr

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


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("drift_ppm", [200, -200])
def test_after_an_hour_of_drift_sound_and_pictures_are_within_20_ms(tmp_path: Path, drift_ppm: int) -> None:
    shutil.copy(PAGE / "clock.js", tmp_path / "clock.mjs")
    (tmp_path / "run.mjs").write_text(RUN)
    command = [str(NODE), str(tmp_path / "run.mjs"), str(drift_ppm)]
    worst_s = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    assert worst_s < 0.02
