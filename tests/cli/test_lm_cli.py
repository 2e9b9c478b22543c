"""``avsr lm`` as a user runs it: text and tables in, a model out, and errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avsr import cli
from avsr.decode import read_arpa

HEADER = "path\tspeaker\tsplit\tseconds\ttext\twords\n"
Lm = Callable[..., int]


@pytest.fixture
def lm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lm:
    (tmp_path / "a.txt").write_text("Bin blue, at F.\n\nLay red by K.\n")
    rows = [("bin white now", "train"), ("set green soon", "dev"), ("unheard of", "unseen")]
    (tmp_path / "clips.tsv").write_text(HEADER + "".join(f"x.wav\ts\t{split}\t1\t{t}\t\n" for t, split in rows))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["avsr", "lm", *arguments])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        return int(exited.value.code or 0)

    return run


@pytest.mark.parametrize("name", ["words.arpa", "out/words.arpa.gz"])
def test_text_and_the_train_split_of_a_table_become_a_model(
    lm: Lm, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lm("a.txt", "clips.tsv", "-o", name, "--order", "2", "--test", "clips.tsv") == 0
    ngrams = read_arpa(name)
    assert ngrams.order == 2
    assert "f" in ngrams and "white" in ngrams and "set" not in ngrams and "unheard" not in ngrams
    assert (Path(name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    out, err = capsys.readouterr()
    assert f"{name}: 13 1-grams, 13 2-grams" in out
    assert "3 of 3 words unknown (100.0 %)" in out
    assert err == ""


def test_less_is_listed_where_asked(lm: Lm, capsys: pytest.CaptureFixture[str]) -> None:
    assert lm("a.txt", "a.txt", "clips.tsv", "-o", "w.arpa", "--min-count", "1,2", "--vocab-size", "8", "-q") == 0
    assert capsys.readouterr() == ("", "")
    ngrams = read_arpa("w.arpa")
    assert ngrams.num_ngrams == (11, 13, 8)
    assert "white" not in ngrams


def test_what_another_run_is_writing_is_not_touched(lm: Lm, tmp_path: Path) -> None:
    (tmp_path / ".w.arpa.part").write_text("half of another model")
    assert lm("a.txt", "-o", "w.arpa", "-q") == 0
    assert (tmp_path / ".w.arpa.part").read_text() == "half of another model"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["absent.txt", "-o", "w.arpa"], "absent.txt: cannot be read"),
        (["absent.tsv", "-o", "w.arpa"], "absent.tsv: cannot be read"),
        (["clips.tsv", "--split", "tran", "-o", "w.arpa"], "its splits are: dev, train, unseen"),
        (["empty.txt", "-o", "w.arpa"], "every line is empty"),
        (["bytes.txt", "-o", "w.arpa"], "bytes.txt: cannot be read as UTF-8 text"),
        (["a.txt", "-o", "w.bin"], ".arpa.gz to be gzipped"),
        (["a.txt", "-o", "a.txt/w.arpa"], "cannot be written to"),
        (["a.txt", "-o", "directory.arpa"], "(Is a directory); choose another place"),
        (["a.txt", "-o", "w.arpa", "--order", "6"], "--order"),
        (["a.txt", "-o", "w.arpa", "--min-count", "2,1"], "never decrease"),
        (["a.txt", "-o", "w.arpa", "--min-count", "few"], "whole numbers"),
        (["a.txt", "-o", "w.arpa", "--test", "absent.txt"], "absent.txt"),
        (["-o", "w.arpa"], "TEXT"),
    ],
)
def test_wrong_use_or_input_exits_2_and_writes_nothing(
    lm: Lm, arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").write_text("\n...\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "directory.arpa").mkdir()
    assert lm(*arguments) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "w.arpa").exists()
