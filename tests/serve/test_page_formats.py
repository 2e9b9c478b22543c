"""What the page downloads: files that players read, with every word once."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pysubs2
import pytest

import avsr

PAGE = Path(avsr.__file__).parent / "serve" / "page"
NODE = shutil.which("node")


def spoken(text: str, start_s: float) -> dict[str, object]:
    words = [
        {"text": word, "start": start_s + 0.3 * i, "end": start_s + 0.3 * i + 0.2, "confidence": 0.9}
        for i, word in enumerate(text.split())
    ]
    return {"text": text, "start": start_s, "end": words[-1]["end"], "words": words}


FINALS = [
    spoken("bin blue at f two now", 0.5),
    spoken("a < b & c", 3600.0),
    spoken(" ".join(f"word{i}" for i in range(60)), 3610.0),
    spoken("at", 3640.0),
    spoken("once", 3640.0),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The finals in all formats, as the page writes them."""
    if NODE is None:
        pytest.skip("node is not installed")
    directory = tmp_path_factory.mktemp("page")
    shutil.copy(PAGE / "formats.js", directory / "formats.mjs")
    (directory / "run.mjs").write_text(
        'import { FORMATS } from "./formats.mjs"; import { readFileSync } from "node:fs";\n'
        "const finals = JSON.parse(readFileSync(0));\n"
        "const written = Object.entries(FORMATS).map(([name, { write }]) => [name, write(finals)]);\n"
        "console.log(JSON.stringify(Object.fromEntries(written)));\n"
    )
    command = [NODE, str(directory / "run.mjs")]
    done = subprocess.run(command, input=json.dumps(FINALS), stdout=subprocess.PIPE, text=True, check=True)
    written: dict[str, str] = json.loads(done.stdout)
    return written


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_subtitles_hold_every_word_once_in_cues_that_fit(files: dict[str, str], name: str) -> None:
    cues = list(pysubs2.SSAFile.from_string(files[name], name))
    lines = [line for cue in cues for line in cue.plaintext.replace("&lt;", "<").splitlines()]
    text = " ".join(lines).replace("&gt;", ">").replace("&amp;", "&")
    assert text.split() == [word["text"] for final in FINALS for word in final["words"]]  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 42 + len("&lt;")
    assert all(cue.plaintext.count("\n") <= 1 and 0 < cue.duration <= 7000 for cue in cues)
    assert all(before.end <= after.start for before, after in pairwise(cues))
    assert cues[0].start == 500
    assert cues[-2].end == cues[-1].start == 3640_040


def test_text_has_a_line_a_final_and_json_all_of_it(files: dict[str, str]) -> None:
    assert files["txt"].splitlines() == [final["text"] for final in FINALS]
    assert json.loads(files["json"]) == {"segments": FINALS}
