"""``avsr transcribe``: files, URLs or a pipe to text and caption files."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from avsr.cli.options import ChunkOption, DeviceOption, LmOption, ModalityOption, ModelOption, ThreadsOption
from avsr.cli.output import give_up_stdout, note, note_about
from avsr.errors import AvsrError, InputError

if TYPE_CHECKING:
    from avsr.cli.progress import ProgressBar
    from avsr.recognizer import Recognizer
    from avsr.types import Caption, Modality, Transcript

Format = Enum("Format", {"txt": "txt", "srt": "srt", "vtt": "vtt", "json": "json"})
"""The names of ``avsr.captions.files.FORMATS``, an Enum because typer has no list of Literal."""
PIPE = "-"


def run(
    sources: Annotated[list[str], typer.Argument(metavar="FILE", help="Media files, URLs, or - for standard input.")],
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="txt|srt|vtt|json",
            help="Output format; repeatable with -o. [txt]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write NAME.FORMAT files to this directory."),
    ] = None,
    modality: ModalityOption = "av",
    model: ModelOption = None,
    lm: LmOption = None,
    chunk_ms: ChunkOption = None,
    beam: Annotated[int | None, typer.Option(min=1, metavar="N", help="Beam width. [the model's own]")] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress or notes; with -o, no text output.")
    ] = False,
) -> None:
    """Transcribe media files to text or captions.

    Writes to standard output, or to files with -o. Ctrl-C keeps the final captions so far; with -o, in
    NAME.partial.FORMAT if NAME.FORMAT exists.
    """
    names = list(dict.fromkeys(chosen.value for chosen in formats or [])) or ["txt"]
    if output is None and len(names) > 1:
        raise InputError("several formats need a directory to write to; add -o DIR")
    if output is None and len(sources) > 1 and names != ["txt"]:
        raise InputError(f"several inputs make several {names[0]} files, which need a directory; add -o DIR")
    if sources.count(PIPE) > 1 or (PIPE in sources and not _is_piped_in()):
        raise InputError(
            "-: nothing is piped in, or it is named twice; give a file, or pipe one in: ... | avsr transcribe -"
        )

    from avsr.disk import prepare_directory
    from avsr.recognizer import load_model

    if output is not None:
        prepare_directory(output)
    recognizer = load_model(model, lm=lm, device=device, threads=threads)
    if chunk_ms is not None and chunk_ms not in recognizer.chunk_choices_ms:
        choices = ", ".join(map(str, recognizer.chunk_choices_ms))
        raise InputError(f"--chunk-ms {chunk_ms}: the model was not trained for it; use one of {choices}")
    printer = Printer(is_all=output is None)
    job = Job(
        recognizer=recognizer,
        modality=modality,
        chunk_ms=chunk_ms,
        beam=beam,
        formats=names,
        output=output,
        quiet=quiet,
        printer=printer,
        with_titles=len(sources) > 1,
    )
    num_failed = 0
    for source, stem in zip(sources, output_stems(sources), strict=True):
        try:
            job.transcribe(source, stem)
        except InputError as error:  # any other error would come again with every source
            if len(sources) == 1:
                raise
            num_failed += 1
            note(str(error))
    if num_failed:
        note(f"{num_failed} of {len(sources)} could not be transcribed")
    if printer.error is not None:
        raise printer.error
    if num_failed:
        raise typer.Exit(1 if num_failed < len(sources) else 2)


def _is_piped_in() -> bool:
    """Whether standard input may hold data: neither a terminal nor /dev/null, as daemons and closed streams have."""
    return not (sys.stdin.isatty() or os.path.samestat(os.fstat(sys.stdin.fileno()), Path(os.devnull).stat()))


def output_stems(sources: list[str]) -> list[str]:
    """Name each source's caption files: its own name without suffix, numbered where two would collide."""
    from avsr.media.naming import told_apart

    return list(told_apart(map(_stem, sources), "{}-{}"))


def _stem(source: str) -> str:
    if source == PIPE:
        return "stdin"
    if "://" in source:
        try:
            url = urlsplit(source)
        except ValueError:  # opening it will say so
            return "stream"
        return PurePosixPath(url.path).stem or url.hostname or "stream"
    return Path(source).stem or "stream"


@dataclass(frozen=True)
class Job:
    """What is done to every source alike."""

    recognizer: Recognizer
    modality: Modality
    chunk_ms: int | None
    beam: int | None
    formats: list[str]
    output: Path | None
    quiet: bool
    printer: Printer
    with_titles: bool

    def transcribe(self, source: str, stem: str) -> None:
        """Transcribe one source and write what was asked for; on Ctrl-C what is final so far, over no other file.

        Raises:
            AvsrError: the source cannot be used, or a file not written.
            KeyboardInterrupt: passed on, after writing.
        """
        from avsr.captions.files import caption_paths
        from avsr.cli.interrupt import interruptible
        from avsr.cli.progress import ProgressBar
        from avsr.media.naming import name_of

        name = name_of(source)
        if self.output:
            caption_paths(self.output, stem, self.formats)  # better now than after the work
        with ProgressBar(name, is_shown=not self.quiet and sys.stderr.isatty()) as bar:
            sink = Sink(bar, self.printer, is_live=self._prints_text)
            if self._prints_text and self.with_titles:
                sink.write(f"==> {name} <==")
            try:
                transcript = interruptible(partial(self._recognise, source, sink), sink.stop)
            except KeyboardInterrupt:
                self._write_part(sink.so_far(self.recognizer, name, self.modality), stem)
                raise
        self._write(transcript, stem)

    def _recognise(self, source: str, sink: Sink) -> Transcript:
        return self.recognizer.transcribe(
            source,
            modality=self.modality,
            chunk_ms=self.chunk_ms,
            beam=self.beam,
            on_progress=sink.advance,
            on_caption=sink.take,
        )

    @property
    def _prints_text(self) -> bool:
        """Text is printed as it becomes final, unless another format is, or nothing should be."""
        return not self.quiet if self.output else self.formats == ["txt"]

    def _write_part(self, transcript: Transcript, stem: str) -> None:
        """Write what there is of a transcript, if anything, beside files that are there already and may be whole."""
        from avsr.captions.files import caption_paths

        if self.output and not transcript.words:
            if not self.quiet:
                note(f"{transcript.source}: interrupted before the first final caption; nothing was written")
            return
        try:
            part, number = stem, 0
            while self.output and any(map(os.path.lexists, caption_paths(self.output, part, self.formats))):
                number += 1
                part = f"{stem}.partial" if number == 1 else f"{stem}.partial-{number}"
            self._write(transcript, part)
        except AvsrError as error:
            note(str(error))

    def _write(self, transcript: Transcript, stem: str) -> None:
        from avsr.captions.files import render, write_transcript

        try:
            if self.output:
                paths = write_transcript(transcript, self.output, stem, self.formats)
                if not self.quiet:
                    note("wrote " + ", ".join(map(str, paths)))
            elif not self._prints_text:
                self.printer.write(render(transcript, self.formats[0]))
        finally:
            if not self.quiet:
                for warning in transcript.warnings:
                    note_about(str(transcript.source), warning)


@dataclass
class Printer:
    """Standard output. If it fails, the work goes on unless it is the only output (``is_all``)."""

    is_all: bool
    has_failed: bool = False
    error: AvsrError | None = None

    def write(self, text: str) -> None:
        """Print ``text``, unless an earlier one could not be.

        Raises:
            OSError: it cannot be written, and nothing else will be.
        """
        if self.has_failed:
            return
        try:
            print(text, end="", flush=True)
        except OSError as error:
            if self.is_all:
                raise
            self.has_failed = True
            problem = give_up_stdout(error)
            if not isinstance(error, BrokenPipeError):  # the reader left on purpose, as `head` does
                self.error = problem


@dataclass
class Sink:
    """Collects the finals of one source, and prints them as they come; once stopped, its callers are interrupted."""

    bar: ProgressBar
    printer: Printer
    is_live: bool
    finals: list[Caption] = field(default_factory=list)
    is_stopped: bool = False

    def stop(self) -> None:
        """Take nothing more."""
        self.is_stopped = True

    def advance(self, position_s: float, duration_s: float | None) -> None:
        """Show how far the source was read."""
        self._check_stopped()
        self.bar.advance(position_s, duration_s)

    def take(self, caption: Caption) -> None:
        """Keep ``caption`` if it is final."""
        self._check_stopped()
        if caption.is_final:
            self.finals.append(caption)
            if self.is_live:
                self.write(caption.text)

    def write(self, line: str) -> None:
        """Print a line on standard output, clear of the bar."""
        with self.bar.hidden():
            self.printer.write(f"{line}\n")

    def so_far(self, recognizer: Recognizer, source: str, modality: Modality) -> Transcript:
        """Return a transcript of what was final when the work was interrupted."""
        from avsr.types import Transcript

        return Transcript(
            segments=tuple(self.finals),
            duration_s=self.bar.position_s,
            model=recognizer.bundle.config.name,
            version=recognizer.bundle.config.version,
            modality=modality,
            source=source,
            warnings=(f"interrupted at {self.bar.position_s:.1f} s; only the final captions up to there",),
        )

    def _check_stopped(self) -> None:
        if self.is_stopped:
            raise KeyboardInterrupt
