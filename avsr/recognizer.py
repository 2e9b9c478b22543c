"""The engine: a loaded model, which makes streams and transcribes files by them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import BinaryIO, Literal

import torch

from avsr import __version__
from avsr.bundle import LM_FILE, MAX_LM_TEXT_BYTES, Bundle, load_bundle
from avsr.decode import BeamSearch, Captioner, Hotword, Tokenizer, WordLm, read_arpa
from avsr.device import open_device
from avsr.errors import BundleError, ConfigError, InputError
from avsr.features import LogMel
from avsr.frontend import DEFAULT_PATIENCE_S, FrontEnd
from avsr.lips import FaceMesh, Landmarker, LipTracker
from avsr.media import open_media
from avsr.media.naming import usable
from avsr.model import AvsrModel
from avsr.stream import Network, Stream, StreamSettings
from avsr.traced import TracedNetwork
from avsr.types import TICK_MS, Caption, Modality, Transcript

MAX_PATIENCE_S = 60.0
"""Limit of ``patience_s``: what waits is kept in memory, mostly pictures."""
NO_LM: Literal["none"] = "none"


def load_model(
    model: str | Path | None = None,
    *,
    lm: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> Recognizer:
    """Load a model bundle: the default one, one by name (see ``avsr models``), or a directory.

    Args:
        model: name or directory; None for the default that comes with the package.
        lm: the language model of its streams: an ARPA file, used with the bundle's weights, or "none"; None for the
            one in the bundle, if there is one.
        device: "cpu" or "cuda"; the latter turns TF32 off for convolutions in the whole process, for full float32.
        threads: processor threads for the network, for the whole process; None leaves torch's choice.

    Raises:
        BundleError: the bundle is missing, damaged, of another version or does not fit this code.
        DeviceError: the device cannot be used, or ``AVSR_KERNELS`` asks for kernels that do not run on it.
        ConfigError: ``threads`` is no whole number of 1 or more.
        InputError: ``lm`` cannot be read.
    """
    place = open_device(device)
    if device == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    if threads is not None:
        if not (isinstance(threads, Integral) and threads >= 1):
            raise ConfigError(f"threads {threads!r} must be a whole number of 1 or more, or None for torch's choice")
        torch.set_num_threads(threads)
    bundle = load_bundle(model)
    try:
        num_pieces, vocab_size = Tokenizer(bundle.tokenizer_bytes).vocab_size, bundle.config.model.vocab_size
    except InputError as error:
        raise BundleError(f"{bundle.path}: {error}") from error
    if num_pieces != vocab_size:
        raise BundleError(f"{bundle.path}: the tokenizer has {num_pieces} pieces, config.yaml says {vocab_size}")
    with torch.device("meta"):  # sizes only: the weights are the bundle's, and their sizes are checked against these
        network = AvsrModel(bundle.config.model)
    try:
        network.load_state_dict(bundle.state_dict(), assign=True)
    except RuntimeError as error:
        raise BundleError(f"{bundle.path}: the weights do not fit the sizes in config.yaml: {error}") from error
    return Recognizer(bundle, network.to(place).eval(), load_lm(bundle, lm))


def load_lm(bundle: Bundle, lm: str | Path | None = None) -> WordLm | None:
    """Read a language model, to be used with the weights of ``bundle``: ``lm`` as for `load_model`.

    Raises:
        BundleError: the bundle's own is damaged.
        InputError: ``lm`` cannot be read.
    """
    if lm == NO_LM or (lm is None and bundle.lm_bytes is None):
        return None
    if lm is not None:
        ngrams = read_arpa(lm)
    else:
        assert bundle.lm_bytes is not None
        try:
            ngrams = read_arpa(bundle.lm_bytes, max_bytes=MAX_LM_TEXT_BYTES)
        except InputError as error:
            raise BundleError(f"{bundle.path}: {LM_FILE}: {error}") from error
    return WordLm(ngrams, bundle.config.decode.lm_weight, bundle.config.decode.word_bonus)


class Recognizer:
    """A loaded model; makes streams. Holds only weights and settings: it serves any number of streams."""

    def __init__(self, bundle: Bundle, network: AvsrModel, lm: WordLm | None = None) -> None:
        self.bundle = bundle
        self.network = network
        self.traced = TracedNetwork(network)
        """The same network, for streams."""
        self.lm = lm
        self.tokenizer = Tokenizer(bundle.tokenizer_bytes)
        self.log_mel = LogMel(bundle.config.features)

    @property
    def chunk_choices_ms(self) -> tuple[int, ...]:
        """The chunk lengths that the model was trained for."""
        return tuple(ticks * TICK_MS for ticks in self.bundle.config.model.chunk_sizes)

    def stream(
        self,
        *,
        modality: Modality = "av",
        chunk_ms: int | None = None,
        beam: int | None = None,
        lm: WordLm | Literal["none"] | None = None,
        hotwords: Sequence[Hotword] = (),
        patience_s: float = DEFAULT_PATIENCE_S,
        landmarker: Landmarker | None = None,
        network: Network | None = None,
    ) -> Stream:
        """Open a stream: push sound and pictures, read captions.

        Args:
            modality: which senses to use: "av", "audio" or "video".
            chunk_ms: 160, 320 or 640: less is sooner, more is surer; None for the model's default.
            beam: hypotheses kept by the search; None for the model's default.
            lm: a word n-gram model to fuse, or "none"; None for the one that was loaded with the model, if any.
            hotwords: words or phrases to listen for.
            patience_s: how long, in stream time, one sense waits for the other before it goes on alone.
            landmarker: finds the faces; FaceMesh by default. The stream closes it.
            network: takes the steps; the recognizer's own by default.

        Raises:
            ConfigError: a setting is out of range.
            TextError: a hotword cannot be spelled with the model's tokenizer.
        """
        if modality not in ("av", "audio", "video"):
            raise ConfigError(f"modality {modality!r} is unknown; use 'av', 'audio' or 'video'")
        config = self.bundle.config
        chunk_ms = config.default_chunk_ms if chunk_ms is None else chunk_ms
        if not isinstance(chunk_ms, Integral) or chunk_ms not in self.chunk_choices_ms:
            choices = ", ".join(str(choice) for choice in self.chunk_choices_ms)
            raise ConfigError(
                f"chunk_ms {chunk_ms!r} is not one that {config.name} was trained for; use one of {choices}"
            )
        if beam is not None and not (isinstance(beam, Integral) and beam >= 1):
            raise ConfigError(f"beam {beam!r} must be a whole number of 1 or more")
        if not (isinstance(patience_s, Real) and 0 < patience_s <= MAX_PATIENCE_S):
            raise ConfigError(f"patience_s {patience_s!r} must be above 0 and at most {MAX_PATIENCE_S:g}")
        if not isinstance(hotwords, Sequence) or not all(isinstance(each, Hotword) for each in hotwords):
            raise ConfigError(f'hotwords {hotwords!r} must be a list such as [avsr.Hotword("set white")]')
        decode = config.decode if beam is None else config.decode.model_copy(update={"beam_size": beam})
        chosen = self._chosen(lm)
        search = BeamSearch(decode, self.tokenizer, lm=chosen, hotwords=hotwords)
        chunk_ticks = chunk_ms // TICK_MS
        lm_sha256 = chosen.sha256 if chosen else None
        settings = StreamSettings(__version__, self.bundle.identity, modality, chunk_ticks, lm_sha256, tuple(hotwords))
        if network is None:
            self.traced.prepare(chunk_ticks, sees=modality != "audio")
            network = self.traced
        if modality != "audio" and landmarker is None:
            landmarker = FaceMesh()
        tracker = None if modality == "audio" or landmarker is None else LipTracker(landmarker)
        front = FrontEnd(modality, tracker, patience_s)
        captioner = Captioner(decode, self.tokenizer, search)
        return Stream(network, self.log_mel, front, captioner, settings, landmarker)

    def _chosen(self, lm: WordLm | Literal["none"] | None) -> WordLm | None:
        if lm is None:
            return self.lm
        if isinstance(lm, WordLm):
            return lm
        if lm == NO_LM:
            return None
        raise ConfigError(f"lm {lm!r} is unknown; use a WordLm, {NO_LM!r}, or None for the model's own")

    def transcribe(
        self,
        source: str | Path | BinaryIO,
        *,
        modality: Modality = "av",
        chunk_ms: int | None = None,
        beam: int | None = None,
        lm: WordLm | Literal["none"] | None = None,
        hotwords: Sequence[Hotword] = (),
        on_progress: Callable[[float, float | None], None] | None = None,
        on_caption: Callable[[Caption], None] | None = None,
    ) -> Transcript:
        """Caption a whole file, URL or pipe: a stream that is fed as fast as it can take it.

        Args:
            source: path, URL, open binary file, or "-" for standard input.
            modality: as for `stream`.
            chunk_ms: as for `stream`.
            beam: as for `stream`.
            lm: as for `stream`.
            hotwords: as for `stream`.
            on_progress: called with the position and the duration (None if unknown), seconds.
            on_caption: called with every caption, partial or final, as it is made.

        Raises:
            MediaError: the source cannot be opened or decoded, or has no track that the modality can use.
            ConfigError: a setting is out of range.
            TextError: a hotword cannot be spelled with the model's tokenizer.
        """
        finals: list[Caption] = []

        def collect(captions: Iterator[Caption]) -> None:
            for caption in captions:
                if caption.is_final:
                    finals.append(caption)
                if on_caption:
                    on_caption(caption)

        with (
            open_media(source, modality) as media,
            self.stream(modality=modality, chunk_ms=chunk_ms, beam=beam, lm=lm, hotwords=hotwords) as stream,
        ):
            begun = time.perf_counter()
            for packet in media:
                with usable(media.name):
                    stream.accept(packet)
                collect(stream.captions())
                if on_progress:
                    on_progress(media.position_s, media.duration_s)
            stream.finish()
            collect(stream.captions())
            elapsed_s = time.perf_counter() - begun
            duration_s, warnings = stream.duration_s, (*media.warnings, *stream.notes())
            name = media.name
        return Transcript(
            segments=tuple(finals),
            duration_s=duration_s,
            model=self.bundle.config.name,
            version=self.bundle.config.version,
            modality=modality,
            rtf=elapsed_s / duration_s if duration_s else None,
            source=name,
            warnings=warnings,
        )
