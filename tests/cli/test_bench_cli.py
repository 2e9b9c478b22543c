"""``avsr bench`` as a user runs it: reproducible, resumable, and without tracebacks."""

from __future__ import annotations

import json
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_ins import sound, tiny_recognizer

from avsr import Recognizer, cli
from avsr.decode import write_arpa
from avsr.errors import BundleError
from avsr.evaluate.systems import EngineSystem
from avsr.recognizer import load_lm
from avsr.train.ngram import train_ngrams
from avsr.types import SAMPLE_RATE

HEADER = "path\tspeaker\tsplit\tseconds\ttext\twords\n"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return tiny_recognizer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = []
    for index, (speaker, split) in enumerate([("a", "test"), ("b", "test"), ("a", "dev")]):
        with wave.open(str(tmp_path / f"{index}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes((sound(1.6, seed=index) * 32767).astype("<i2").tobytes())
        rows.append(f"{index}.wav\t{speaker}\t{split}\t1.6\tbin blue at f\t\n")
    (tmp_path / "corpus.tsv").write_text(HEADER + "".join(rows))
    return tmp_path / "corpus.tsv"


Bench = Callable[..., int]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, engine: Recognizer, corpus: Path) -> Bench:
    def load_model(model: str | None = None, lm: str | None = None, **_: object) -> Recognizer:
        if model == "none":
            raise BundleError("none: no such model or directory")
        return Recognizer(engine.bundle, engine.network, load_lm(engine.bundle, lm))

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["avsr", "bench", str(corpus), *arguments])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        return int(exited.value.code or 0)

    monkeypatch.setattr("avsr.recognizer.load_model", load_model)
    return run


GRID = ["--split", "test", "--noise", "white", "--noise", "pink", "--snr", "clean,-5", "--modality", "audio"]


def test_two_runs_write_the_same_files_and_a_third_one_measures_nothing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert bench(*GRID, "-o", str(first)) == 0
    out, err = capsys.readouterr()
    assert "word error rate, % (95 % interval): white" in out and "pink" in out and "-5 dB" in out
    assert "report.html" in err
    results = json.loads((first / "results.json").read_text())
    assert [(s["noise"], s["snr_db"]) for s in results["scores"]] == [(None, None), ("white", -5.0), ("pink", -5.0)]
    assert {s["speaker"] for s in results["speakers"]} == {"a", "b"}

    assert bench(*GRID, "-q", "-o", str(second)) == 0
    for file in ("results.json", "results.csv", "speakers.csv", "conditions.tsv", "hypotheses.tsv", "wer.png"):
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    monkeypatch.setattr(EngineSystem, "recognise", None)
    assert bench(*GRID, "-q", "-o", str(first)) == 0
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figure out, which takes most of the time."""
    for name in ("plot_wer", "as_png", "as_pdf"):
        monkeypatch.setattr(f"avsr.evaluate.report.{name}", lambda *_: b"")


@pytest.mark.usefixtures("undrawn")
def test_fewer_clips_have_the_same_noise_and_another_seed_does_not_go_into_the_same_directory(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = [*GRID, "--limit", "1", "-q", "-o", str(tmp_path / "one")]
    assert bench(*GRID, "-q", "-o", str(tmp_path / "all")) == 0
    assert bench(*one) == 0
    rows = [(tmp_path / name / "conditions.tsv").read_text().splitlines() for name in ("all", "one")]
    assert len(rows[1]) == 1 + 2
    assert rows[0][:3] == rows[1]
    assert bench(*one, "--seed", "1") == 2
    assert "another configuration (seed was 0 and is 1 now)" in capsys.readouterr().err
    assert bench(*one, "--text-norm", "none") == 0, "it only changes how texts are compared"


@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_keeps_what_is_done(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recognise, num_heard = EngineSystem.recognise, 0

    def interrupted(*arguments: object) -> object:
        nonlocal num_heard
        num_heard += 1
        if num_heard == 3:
            raise KeyboardInterrupt
        return recognise(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(EngineSystem, "recognise", interrupted)
    assert bench(*GRID, "-o", str(tmp_path / "out")) == 130
    assert "interrupted at 2 of 6; run the same command again" in capsys.readouterr().err
    assert bench(*GRID, "-o", str(tmp_path / "out")) == 0
    assert num_heard == 3 + 4


@pytest.mark.usefixtures("undrawn")
def test_clips_may_be_added_and_a_broken_one_mended_but_none_replaced(
    bench: Bench, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--modality", "audio", "--noise", str(tmp_path / "2.wav"), "--snr", "0", "-q", "-o", str(tmp_path / "o")]
    *first, last = corpus.read_text().splitlines(keepends=True)
    whole, noise = (tmp_path / "1.wav").read_bytes(), (tmp_path / "2.wav").read_bytes()
    corpus.write_text("".join(first))
    (tmp_path / "1.wav").unlink()
    assert bench(*options) == 1
    (tmp_path / "1.wav").write_bytes(whole)
    corpus.write_text("".join([*first, last]))
    heard: list[str] = []
    recognise = EngineSystem.recognise
    monkeypatch.setattr(
        EngineSystem,
        "recognise",
        lambda *args: heard.append(args[1].utterance.path.name) or recognise(*args),  # type: ignore
    )
    assert bench(*options) == 0
    assert heard == ["1.wav", "2.wav"]
    (tmp_path / "2.wav").write_bytes(noise[:-1] + b"x")
    assert bench(*options) == 2
    assert "another configuration (clips 2.wav was" in capsys.readouterr().err
    assert bench(*options, "--limit", "2") == 2
    assert "another configuration (noise 2 was" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_the_language_model_is_part_of_what_was_measured(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arpa = tmp_path / "words.arpa"
    arpa.write_bytes(write_arpa(train_ngrams(["bin blue at f", "lay red"])))
    once = ["--split", "dev", "--modality", "audio", "-q"]
    with_lm = [*once, "--lm", str(arpa), "--lm-weight", "0.3", "--word-bonus", "-0.5", "-o", str(tmp_path / "lm")]
    assert bench(*with_lm) == 0
    settings = json.loads((tmp_path / "lm" / "settings.json").read_text())["systems"]["audio@320"]
    assert {**settings["lm"], "source": "a hash"} == {"source": "a hash", "weight": 0.3, "word_bonus": -0.5}
    assert bench(*with_lm, "--word-bonus", "0") == 2
    assert "word_bonus was -0.5 and is 0.0 now" in capsys.readouterr().err
    assert bench(*once, "--lm", "none", "-o", str(tmp_path / "plain")) == 0
    assert json.loads((tmp_path / "plain" / "settings.json").read_text())["systems"]["audio@320"]["lm"] is None


@pytest.mark.usefixtures("undrawn")
def test_a_broken_clip_is_left_out_and_the_exit_code_says_so(
    bench: Bench, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0.wav").unlink()
    assert bench("--modality", "audio", "-o", str(tmp_path / "out")) == 1
    assert "skipped: 0.wav" in capsys.readouterr().err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["num_clips"], list(results["left_out"])) == (2, ["0.wav"])


@pytest.mark.usefixtures("undrawn")
def test_a_clip_that_is_cut_off_is_named(
    bench: Bench, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.write_text(corpus.read_text().replace("1.6", "2.5", 1))
    assert bench("--modality", "audio", "-o", str(tmp_path / "out")) == 0
    assert "incomplete, but measured: 0.wav: " in capsys.readouterr().err
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["not_whole"]) == ["0.wav"]


@pytest.mark.usefixtures("undrawn")
def test_an_error_says_why_no_clip_can_be_read_and_a_mended_table_may_use_the_same_directory(
    bench: Bench, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = corpus.read_text()
    corpus.write_text(HEADER + "nope.wav\ta\ttest\t1\tbin blue\t\n")
    options = ["--modality", "audio", "-q", "-o", str(tmp_path / "out")]
    assert bench(*options) == 2
    assert "skipped: nope.wav: There is no file" in capsys.readouterr().err
    corpus.write_text(table)
    assert bench(*options) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--split", "none"], "its splits are: dev, test"),
        (["--snr", "loud"], "'loud' is not an SNR"),
        (["--snr", "0"], "needs noise"),
        (["--noise", "white", "--snr", ""], "'' is not an SNR"),
        (["--chunk-ms", ""], "use some of 160,320,640"),
        (["--noise", "white", "--snr", "clean"], "without an SNR"),
        (["--noise", "no/such/place"], "--noise no/such/place"),
        (["--modality", "smell"], "'smell' is unknown"),
        (["--chunk-ms", "200"], "use some of 160,320,640"),
        (["--model", "none"], "no such model"),
        (["--compare", "whisper"], "use pocketsphinx, or MODULE:NAME"),
        (["--grammar", "grid"], "add --compare pocketsphinx"),
        (["--held-out", "no/such/place"], "no/such/place"),
        (["--lm", "no/such.arpa"], "no/such.arpa"),
        (["--lm", "none", "--lm-weight", "1"], "there is none; add --lm FILE"),
        (["--word-bonus", "-1"], "there is none; add --lm FILE"),
        (["--lm-weight", "-1"], "--lm-weight"),
        (["--limit", "0"], "--limit"),
        (["--text-norm", "loose"], "loose"),
        (["-o", f"{__file__}/out"], "choose another directory for -o"),
    ],
)
def test_wrong_use_or_input_exits_2_without_a_traceback(
    bench: Bench, arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("-o", str(tmp_path / "out"), *arguments) == 2
    out, err = capsys.readouterr()
    assert says in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""


def test_a_missing_manifest_is_refused(bench: Bench, corpus: Path, tmp_path: Path) -> None:
    corpus.unlink()
    assert bench("-o", str(tmp_path / "out")) == 2
