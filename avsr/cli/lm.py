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
        typer.Argument(metavar="TEXT", help="Text files with a sentence per line, or clip tables (.tsv)."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE.arpa[.gz]", help="Model file; gzipped if it ends in .gz."),
    ],
    order: Annotated[int, typer.Option(min=1, max=5, metavar="N", help="Length of the longest n-grams.")] = 3,
    min_count: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Drop rarer n-grams: minimum counts of 2-grams, 3-grams, ...; the last applies to all longer ones. "
            "1,2 keeps all 2-grams, and longer ones seen at least twice.",
        ),
    ] = "1",
    vocab_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Keep the N most frequent words; others become <unk>. [all]"),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Split to read from clip tables.")] = "train",
    test: Annotated[
        Path | None,
        typer.Option(metavar="TEXT", help="Text or clip table to measure perplexity on."),
    ] = None,
    test_split: Annotated[str, typer.Option(metavar="NAME", help="Split to read from --test.")] = "dev",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress or statistics.")] = False,
) -> None:
    """Train a word n-gram language model.

    Text is normalised like transcripts: lower case, no punctuation except apostrophes inside words. Spell out numbers:
    "2" is never recognised, "two" is.

    Use the model with `avsr transcribe --lm FILE`, and tune its weight with `avsr bench --lm FILE --lm-weight X` on
    clips used neither for training nor for testing. Perplexity (on --test) is the effective number of choices per word;
    compare it only between models with the same vocabulary.
    """
    from rich.console import Console
    from rich.markup import escape

    from avsr.disk import prepare_directory
    from avsr.train.ngram import NgramConfig, measure_fit, train_ngrams

    if not output.name.endswith((".arpa", ".arpa.gz")):
        raise InputError(f"--output {output}: the name must end in .arpa, or in .arpa.gz to be gzipped")
    try:
        min_counts = tuple(map(int, min_count.split(",")))
        config = NgramConfig(order=order, min_counts=min_counts, vocab_size=vocab_size)
    except ValueError as error:
        hint = "give 1 to 4 whole numbers of 1 or more that never decrease, such as 1,2"
        raise InputError(f"--min-count {min_count}: {hint}") from error
    prepare_directory(output.parent)
    others = list(_lines([test], test_split)) if test else []  # read now: what cannot be read must cost no training
    with Console(stderr=True, quiet=quiet or not sys.stderr.isatty()).status("reading") as status:

        def reading() -> Iterator[str]:
            for number, line in enumerate(_lines(texts, split), start=1):
                if number % SHOW_EVERY_LINES == 0:
                    status.update(f"reading: {number} lines")
                yield line

        ngrams = train_ngrams(reading(), config, on_progress=status.update)
        fit = measure_fit(ngrams, others) if test else None
        status.update(escape(f"writing {output}"))
        num_bytes = _write(ngrams, output)
    if quiet:
        return
    counts = ", ".join(f"{count} {n}-grams" for n, count in enumerate(ngrams.num_ngrams, start=1))
    print(f"{output}: {counts}; {num_bytes / 1e6:.2f} MB")
    if fit:
        unknown = f"{fit.num_unknown} of {fit.num_words} words unknown ({100 * fit.unknown_share:.1f} %)"
        print(f"{test}: perplexity {fit.perplexity:.1f}, {unknown}")


def _lines(texts: Iterable[Path], split: str) -> Iterator[str]:
    """Yield the lines of text files, and of tables the transcripts of ``split``."""
    from avsr.corpora import of_split, read_table
    from avsr.train.ngram import read_sentences

    for path in texts:
        if path.suffix == TABLE_SUFFIX:
            yield from (row.text for row in of_split(read_table(path), split, path))
        else:
            yield from read_sentences(path)


def _write(ngrams: NgramTable, output: Path) -> int:
    """Write all or nothing; return how many bytes."""
    from avsr.decode import write_arpa
    from avsr.disk import write_whole, writing
    from avsr.train.ngram import gzip_arpa

    data = gzip_arpa(ngrams) if output.suffix == ".gz" else write_arpa(ngrams)
    with writing(output):
        write_whole(output, data)
    return len(data)
