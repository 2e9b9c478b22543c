"""The live view: what is settled is bold, what may change is dim, and nothing is interpreted as markup."""

from __future__ import annotations

from rich.console import Console

from avsr.captions.terminal import Board, Cell, comparison
from avsr.types import Caption, Word


def caption(text: str, *, segment: int, is_final: bool = False, stable_chars: int = 0) -> Caption:
    words = tuple(Word(word, 0.0, 1.0, 1.0) for word in text.split())
    return Caption(segment, 0, is_final, words, stable_chars, 0.0, 1.0, 0.5, 1.0)


def drawn(*cells: Cell) -> str:
    console = Console(width=100, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(comparison(["clean"] * len(cells), [("lips only", cells)], reference="bin blue"))
    return capture.get()


def test_a_final_takes_the_place_of_its_partials() -> None:
    board = Board().take([caption("bin", segment=0), caption("bin blew", segment=0), caption("place", segment=1)])
    assert board.text == "place"
    board = Board().take([caption("bin blew", segment=0), caption("bin blue", segment=0, is_final=True)])
    assert (board.text, board.partial) == ("bin blue", None)
    assert board.take([caption("place", segment=1)]).text == "bin blue place"


def test_only_the_unstable_end_is_dim() -> None:
    board = Board().take(
        [caption("bin blue", segment=0, is_final=True), caption("place red", segment=1, stable_chars=5)]
    )
    styles = {board.text[span.start : span.end]: str(span.style) for span in board.styled().spans}
    assert styles == {"bin blue place": "bold", " red": "dim italic"}


def test_the_comparison_shows_words_errors_and_the_reference() -> None:
    said = Board().take([caption("bin [red]blue", segment=0, is_final=True)])
    picture = drawn(Cell(said, wer=0.5), Cell(Board(), wer=1.0), Cell())
    for part in ("said: bin blue", "lips only", "bin [red]blue", "WER 50%", "(nothing)", "…"):
        assert part in picture
