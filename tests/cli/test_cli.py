"""The command line, with an engine that recognises what the test tells it to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from avsr import cli
from avsr.errors import BundleError, InputError, MediaError
from avsr.types import Caption, Modality, Transcript, Word


def final(text: str, index: int) -> Caption:
    words = tuple(Word(word, index + i / 10, index + i / 10 + 0.1, 0.9) for i, word in enumerate(text.split()))
    return Caption(index, 1, True, words, len(text), float(index), index + 0.9, 0.5, 1.0)


@dataclass
class FakeRecognizer:
    """Recognises the segments ``heard`` in every file; one named "bad" cannot be opened; None stands for a Ctrl-C."""

    heard: tuple[str | None, ...] = ("bin blue", "place red")
    calls: list[dict[str, object]] = field(default_factory=list)
    chunk_choices_ms: tuple[int, ...] = (160, 320, 640)
    bundle: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(config=SimpleNamespace(name="tiny", version="0.1"))
    )

    def transcribe(
        self,
        source: str,
        *,
        modality: Modality,
        on_progress: Callable[[float, float | None], None],
        on_caption: Callable[[Caption], None],
        **options: object,
    ) -> Transcript:
        self.calls.append({"source": source, "modality": modality, **options})
        if "bad" in source:
            raise MediaError(f"{source}: not a media file; give a video or sound")
        finals: list[Caption] = []
        for index, text in enumerate(self.heard):
            on_progress(float(index), 2.0)
            if text is None:
                raise KeyboardInterrupt
            on_caption(Caption(index, 0, False, (Word("partial", 0.0, 1.0, 0.1),), 0, 0.0, 1.0, 0.5, 1.0))
            finals.append(final(text, index))
            on_caption(finals[-1])
        return Transcript(
            tuple(finals), 2.0, "tiny", "0.1", modality, rtf=0.1, source=source, warnings=("no face was seen",)
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRecognizer:
    recognizer = FakeRecognizer()

    def load_model(model: str | None = None, **options: object) -> FakeRecognizer:
        if model == "none":
            raise BundleError("none: no such model or directory")
        recognizer.calls.append({"model": model, **options})
        return recognizer

    module = ModuleType("avsr.recognizer")
    module.load_model = load_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "avsr.recognizer", module)
    return recognizer


def avsr(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["avsr", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return int(exited.value.code or 0)


@pytest.mark.usefixtures("fake")
def test_text_goes_to_stdout_and_notes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert avsr(monkeypatch, "transcribe", "a.mp4") == 0
    out, err = capsys.readouterr()
    assert out == "bin blue\nplace red\n"
    assert err == "avsr: a.mp4: no face was seen\n"


def test_every_option_reaches_the_engine(monkeypatch: pytest.MonkeyPatch, fake: FakeRecognizer) -> None:
    engine_options = ["--model", "m", "--lm", "none", "--device", "cpu", "--threads", "1"]
    search_options = ["--modality", "video", "--chunk-ms", "160", "--beam", "4"]
    assert avsr(monkeypatch, "transcribe", "a.mp4", *engine_options, *search_options, "--quiet") == 0
    assert fake.calls == [
        {"model": "m", "lm": "none", "device": "cpu", "threads": 1},
        {"source": "a.mp4", "modality": "video", "chunk_ms": 160, "beam": 4},
    ]


@pytest.mark.usefixtures("fake")
def test_formats_are_written_to_the_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--format", "srt", "--format", "json", "--format", "srt", "-o", str(tmp_path / "out"), "-q"]
    assert avsr(monkeypatch, "transcribe", "x/talk.mp4", "y/talk.wav", *options) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "talk-2.json",
        "talk-2.srt",
        "talk.json",
        "talk.srt",
    ]
    assert json.loads((tmp_path / "out" / "talk-2.json").read_text())["source"] == "y/talk.wav"
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("fake")
def test_one_format_without_a_directory_goes_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert avsr(monkeypatch, "transcribe", "a.mp4", "--format", "vtt") == 0
    assert capsys.readouterr().out.startswith("WEBVTT\n\n1\n00:00:00.000 -->")


@pytest.mark.usefixtures("fake")
def test_one_bad_file_among_many_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert avsr(monkeypatch, "transcribe", "a.mp4", "bad.mp4", "c.mp4", "--quiet") == 1
    out, err = capsys.readouterr()
    titles = [line for line in out.splitlines() if line.startswith("==>")]
    assert titles == ["==> a.mp4 <==", "==> bad.mp4 <==", "==> c.mp4 <=="]
    assert out.count("place red") == 2
    assert err == "avsr: bad.mp4: not a media file; give a video or sound\navsr: 1 of 3 could not be transcribed\n"


@pytest.mark.usefixtures("fake")
def test_a_title_names_a_source_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert avsr(monkeypatch, "transcribe", "rtsp://bob:hunter2@host/a", "b.mp4", "--quiet") == 0
    assert capsys.readouterr().out.startswith("==> rtsp://host/a <==")


@pytest.mark.usefixtures("fake")
def test_no_usable_source_exits_as_wrong_input_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert avsr(monkeypatch, "transcribe", "bad.mp4", "http://[::1/bad.mp4", "--quiet") == 2
    out, err = capsys.readouterr()
    assert out == "==> bad.mp4 <==\n==> http://[::1/bad.mp4 <==\n"
    assert err.splitlines()[-1] == "avsr: 2 of 2 could not be transcribed"


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["transcribe", "bad.mp4"], "avsr: bad.mp4: not a media file"),
        (["transcribe", "a.mp4", "--model", "none"], "avsr: none: no such model"),
        (["transcribe", "a.mp4", "--format", "srt", "--format", "vtt"], "add -o DIR"),
        (["transcribe", "a.mp4", "b.mp4", "--format", "json"], "add -o DIR"),
        (["transcribe", "a.mp4", "b.mp4", "--chunk-ms", "200"], "use one of 160, 320, 640"),
        (["transcribe", "a.mp4", "-o", f"{__file__}/out"], "choose another directory for -o"),
        (["transcribe", "a.mp4", "--format", "ass"], "'ass'"),
        (["transcribe", "a.mp4", "--modality", "smell"], "'smell'"),
        (["transcribe", "a.mp4", "--beam", "0"], "--beam"),
        (["transcribe", "-", "-"], "named twice"),
        (["transcribe"], "FILE"),
        (["dance"], "dance"),
    ],
)
def test_wrong_use_or_input_exits_2_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert avsr(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert "Traceback" not in err
    assert out == ""


def test_ctrl_c_keeps_what_was_final(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, fake: FakeRecognizer
) -> None:
    fake.heard = ("bin blue", None, "place red")
    options = ["-o", str(tmp_path), "--format", "json", "--format", "txt"]
    assert avsr(monkeypatch, "transcribe", "a.mp4", "b.mp4", *options) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.txt"]
    document = json.loads((tmp_path / "a.json").read_text())
    assert (document["text"], document["model"], document["duration"], document["rtf"]) == (
        "bin blue",
        "tiny",
        1.0,
        None,
    )
    assert "interrupted at 1.0 s" in document["warnings"][0]
    assert "interrupted at 1.0 s" in capsys.readouterr().err


def test_ctrl_c_spares_files_that_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, fake: FakeRecognizer
) -> None:
    fake.heard = ("bin blue", None)
    for name in ("a.srt", "a.partial.txt"):
        (tmp_path / name).write_text("precious")
    assert avsr(monkeypatch, "transcribe", "a.mp4", "-o", str(tmp_path), "--format", "srt", "--format", "txt") == 130
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert texts.pop("a.partial-2.srt").endswith("bin blue\n\n")
    assert texts == {"a.srt": "precious", "a.partial.txt": "precious", "a.partial-2.txt": "bin blue\n"}
    assert f"wrote {tmp_path / 'a.partial-2.srt'}" in capsys.readouterr().err


def test_ctrl_c_before_anything_is_final_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, fake: FakeRecognizer
) -> None:
    fake.heard = (None,)
    assert avsr(monkeypatch, "transcribe", "a.mp4", "-o", str(tmp_path)) == 130
    assert list(tmp_path.iterdir()) == []
    assert "a.mp4: interrupted before the first final caption; nothing was written" in capsys.readouterr().err


def test_ctrl_c_ends_the_work_though_what_was_final_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, fake: FakeRecognizer
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("no room; choose another -o DIR")

    fake.heard = ("bin blue", None)
    monkeypatch.setattr("avsr.captions.files.write_transcript", refuse)
    assert avsr(monkeypatch, "transcribe", "a.mp4", "b.mp4", "-o", str(tmp_path)) == 130
    assert "avsr: no room" in capsys.readouterr().err


def test_a_name_that_is_too_long_is_reported_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, fake: FakeRecognizer
) -> None:
    assert avsr(monkeypatch, "transcribe", f"{'x' * 251}.mp4", "b.mp4", "-o", str(tmp_path), "--format", "json") == 1
    assert [call["source"] for call in fake.calls if "source" in call] == ["b.mp4"]
    assert "the name is too long" in capsys.readouterr().err


def test_a_broken_model_is_listed_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "half").mkdir()
    monkeypatch.setenv("AVSR_MODELS", str(tmp_path))
    assert avsr(monkeypatch, "models") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("half"))
    assert str(tmp_path / "half") in line
    assert "refused: not a whole model bundle" in line


@pytest.mark.parametrize(
    ("sources", "stems"),
    [
        (["a/talk.mp4", "b/talk.wav", "talk-2.mkv"], ["talk", "talk-2", "talk-2-2"]),
        (["-", "https://host.example/live/cam.m3u8?key=1", "rtsp://host.example"], ["stdin", "cam", "host.example"]),
        (["talk.part1.mp4", ".mp4"], ["talk.part1", ".mp4"]),
    ],
)
def test_caption_files_never_collide(sources: list[str], stems: list[str]) -> None:
    from avsr.cli.transcribe import output_stems

    assert output_stems(sources) == stems


def test_training_is_a_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert avsr(monkeypatch, "train", "--help") == 0
    assert "RECIPE" in capsys.readouterr().out


@pytest.mark.usefixtures("fake")
def test_a_name_that_is_not_utf_8_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert avsr(monkeypatch, "transcribe", "caf\udce9.mp4", "b.mp4") == 0
    assert "==> caf?.mp4 <==" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("options", [[], ["--format", "json"]])
def test_a_full_disk_behind_stdout_is_one_message(options: list[str]) -> None:
    code = (
        "import sys, types, avsr.cli, avsr.types\n"
        "said = avsr.types.Caption(0, 0, True, (avsr.types.Word('bin', 0.0, 1.0, 1.0),), 3, 0.0, 1.0, 0.5, 1.0)\n"
        "def transcribe(source, *, on_caption, **options):\n"
        "    on_caption(said)\n"
        "    return avsr.types.Transcript((said,), 1.0, 'tiny', '0')\n"
        "engine = types.ModuleType('avsr.recognizer')\n"
        "engine.load_model = lambda *_, **__: types.SimpleNamespace(transcribe=transcribe)\n"
        "sys.modules['avsr.recognizer'] = engine\n"
        "avsr.cli.main()\n"
    )
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", code, "transcribe", "a.mp4", *options]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("avsr: standard output cannot be written to: No space left")
    assert len(done.stderr.splitlines()) == 1


def test_help_answers_without_loading_the_engine() -> None:
    code = "import sys, avsr.cli; print({'torch', 'mediapipe', 'av', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
    start_s = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "avsr", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "transcribe" in done.stdout
    assert time.perf_counter() - start_s < 5, "an order above the usual half second: something heavy is imported"


@pytest.mark.parametrize(("wanted", "policy"), [({}, "passive 1000"), ({"OMP_WAIT_POLICY": "active"}, "active None")])
def test_openmp_threads_wait_passively_unless_the_user_says_otherwise(wanted: dict[str, str], policy: str) -> None:
    code = """
import atexit, os, sys
atexit.register(lambda: print(*map(os.environ.get, ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")), "torch" in sys.modules))
from avsr.cli import main
main()
"""
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name} | wanted
    command = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{policy} False"


def test_the_version_is_that_of_the_installed_package() -> None:
    done = subprocess.run([sys.executable, "-m", "avsr", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"avsr {version('avsr')}\n"
