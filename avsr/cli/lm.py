"""``avsr lm``: text to a word n-gram language model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsr.errors import InputError

if TYPE_CHECKING:
    from avsr.decode import NgramTable

TABLE_SUFFIX = ".tsv"
SHOW_EVERY_LINES = 10_000


def run(
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXT...", help="Text files, a sentence a line, or tables of clips (.tsv)."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE.arpa[.gz]", help="Where the model goes; packed if it ends in .gz."
        ),
    ],
    order: Annotated[int, typer.Option(min=1, max=5, metavar="N", help="Words in the longest n-grams.")] = 3,
    min_count: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Leave out n-grams that occur less often: for 2-grams, 3-grams, ...; the last number holds on. With "
            "1,2 all 2-grams stay, and longer ones that occur twice.",
        ),
    ] = "1",
    vocab_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Know only the N most frequent words; others are <unk>. [all]"),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="The split that is read of a table.")] = "train",
    test: Annotated[
        Path | None,
        typer.Option(metavar="TEXT", help="Other text, to see how well the model foretells it."),
    ] = None,
    test_split: Annotated[str, typer.Option(metavar="NAME", help="The split that is read of --test.")] = "dev",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no figures.")] = False,
) -> None:
    """Learn a language model: which words follow which, so that the search prefers what people say.

    Text is normalised as transcripts are: lower case, no punctuation but apostrophes inside words. Write numbers out:
    "2" is never heard, "two" is.

    Use it with `avsr transcribe --lm FILE`, and find its weight with `avsr bench --lm FILE --lm-weight X` on clips that
    are neither trained nor tested with. Perplexity (of --test) is the number of words that are as good as equally
    likely at each place: compare it between models that know the same words.
    """
    from avsr.disk import prepare_directory
    from avsr.train.ngram import NgramConfig, measure_fit, train_ngrams

    if not output.name.endswith((".arpa", ".arpa.gz")):
        raise InputError(f"--output {output}: a language model is called NAME.arpa, or NAME.arpa.gz to be packed")
    config = NgramConfig(order=order, min_counts=_counts(min_count), vocab_size=vocab_size)
    prepare_directory(output.parent)
    others = list(_lines([test], test_split)) if test else []  # read now: what cannot be read must cost no training
    with _Steps(is_shown=not quiet and sys.stderr.isatty()) as steps:
        ngrams = train_ngrams(steps.reading(_lines(texts, split)), config, on_progress=steps.show)
        fit = measure_fit(ngrams, others) if test else None
        steps.show(f"writing {output}")
        num_bytes = _write(ngrams, output)
    if quiet:
        return
    counts = ", ".join(f"{count} {n}-grams" for n, count in enumerate(ngrams.num_ngrams, start=1))
    print(f"{output}: {counts}; {num_bytes / 1e6:.2f} MB")
    if fit:
        unknown = f"{fit.num_unknown} of {fit.num_words} words unknown ({100 * fit.unknown_share:.1f} %)"
        print(f"{test}: perplexity {fit.perplexity:.1f}, {unknown}")


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(item) for item in text.split(","))
    except ValueError as error:
        raise InputError(f"--min-count {text}: give whole numbers such as 1,2") from error
    if not (counts[0] >= 1 and list(counts) == sorted(counts) and len(counts) <= 4):
        raise InputError(f"--min-count {text}: give 1 to 4 numbers from 1 on that never fall, such as 1,2")
    return counts


def _lines(texts: Iterable[Path], split: str) -> Iterator[str]:
    """Yield the lines of text files, and of tables the transcripts of ``split``."""
    from avsr.corpora import read_table

    for path in texts:
        if path.suffix == TABLE_SUFFIX:
            rows = read_table(path)
            chosen = [row.text for row in rows if row.split == split]
            if not chosen:
                splits = ", ".join(sorted({row.split for row in rows})) or "none"
                raise InputError(f"{path}: no clip is in the split {split!r}; its splits are: {splits}")
            yield from chosen
        else:
            try:
                with path.open(encoding="utf-8") as file:
                    yield from file
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def _write(ngrams: NgramTable, output: Path) -> int:
    """Write all or nothing; return how many bytes."""
    from avsr.decode import write_arpa
    from avsr.disk import write_whole, writing
    from avsr.train.ngram import pack

    data = pack(ngrams) if output.suffix == ".gz" else write_arpa(ngrams)
    with writing(output):
        write_whole(output, data)
    return len(data)


class _Steps:
    """A line on stderr that says what is being done."""

    def __init__(self, *, is_shown: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._status = self._console.status("reading") if is_shown else None

    def __enter__(self) -> _Steps:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def show(self, step: str) -> None:
        """Say that ``step`` has begun, or is done."""
        from rich.markup import escape

        if self._status:
            self._status.update(escape(step))

    def reading(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield ``lines``, and show how many they are so far."""
        for number, line in enumerate(lines, start=1):
            if number % SHOW_EVERY_LINES == 0:
                self.show(f"reading: {number} lines")
            yield line
