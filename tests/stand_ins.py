"""A whole engine that is small, quick and untrained, and what it listens to and looks at: for tests of the machinery.

Its words mean nothing, but they depend on every sound and picture that reaches the network, so a lost, doubled or
shifted one shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

import avsr
from avsr.bundle import save_bundle
from avsr.config import BundleConfig, DecodeConfig, FeatureConfig, FusionKind, ModelConfig
from avsr.decode import Tokenizer, train_tokenizer
from avsr.lips import Face
from avsr.lips.crop import ANCHOR_LAYOUT
from avsr.media import AudioPacket, Packet
from avsr.model import AvsrModel
from avsr.recognizer import Recognizer
from avsr.stream import Stream
from avsr.types import (
    LIP_SIZE,
    MELS_PER_TICK,
    NUM_MELS,
    SAMPLE_RATE,
    AvChunk,
    ByteArray,
    Caption,
    FloatArray,
    VideoFrame,
)

LINES = [
    "bin blue at f two now",
    "place red by k nine please",
    "set green with p four again",
    "lay white in z one soon",
]
HEAD_GAIN, BLANK_BONUS, WORD_BONUS = 25.0, 10.0, 6.0


def tiny_sizes(vocab_size: int, fusion: FusionKind = "gated") -> ModelConfig:
    """Sizes of a network that takes about a millisecond a chunk."""
    return ModelConfig(
        vocab_size=vocab_size,
        dim=32,
        num_heads=2,
        ff_mult=2,
        conv_kernel=7,
        num_audio_layers=1,
        num_video_layers=1,
        num_fusion_layers=1,
        fusion=fusion,
        left_context_ticks=12,
        fusion_context_ticks=6,
        lip_channels=(2, 3, 4, 4),
    )


def tiny_recognizer(directory: Path, fusion: FusionKind = "gated") -> Recognizer:
    """Write a bundle of random weights into ``directory`` and load it."""
    tokenizer_bytes = train_tokenizer(LINES, 64)
    tokenizer = Tokenizer(tokenizer_bytes)
    sizes = tiny_sizes(tokenizer.vocab_size, fusion)
    torch.manual_seed(5)
    network = AvsrModel(sizes).eval()
    with torch.no_grad():
        # Untrained, the pictures are a whisper beside the biases.
        network.video_front.project.get_parameter("0.bias").zero_()
        # No token is likelier than others by itself, save the blank: so there are many words, and pauses.
        scores = network.step(_noise(40), network.init_state(), 8)[0].values.mean((0, 1))
        network.fused_head.bias -= scores
        network.fused_head.weight *= HEAD_GAIN
        network.fused_head.bias *= HEAD_GAIN
        network.fused_head.bias[tokenizer.blank_id] += BLANK_BONUS
        network.fused_head.bias += WORD_BONUS * torch.tensor([tokenizer.is_word_start(i) for i in range(len(scores))])
    features = FeatureConfig(mel_mean=(-6.0,) * NUM_MELS, mel_std=(3.0,) * NUM_MELS)
    decode = DecodeConfig(beam_size=4, top_k=6, endpoint_silence_s=0.2, max_segment_s=1.6, stable_ticks=6)
    config = BundleConfig(name="tiny", version="0", model=sizes, features=features, decode=decode)
    save_bundle(directory, config, network.state_dict(), tokenizer_bytes, "# tiny\nRandom weights, for tests.\n")
    return avsr.load_model(directory)


def _noise(num_ticks: int) -> AvChunk:
    known = torch.ones(1, num_ticks, dtype=torch.bool)
    lips = torch.randint(0, 256, (1, num_ticks, LIP_SIZE, LIP_SIZE)).to(torch.uint8)
    return AvChunk(torch.randn(1, MELS_PER_TICK * num_ticks, NUM_MELS), lips, known, known)


class LampFace:
    """A `Landmarker` for `pictures`: a face around the lamp, the bright pixel; none in the dark. Remembers nothing."""

    def __init__(self) -> None:
        self.is_closed = False

    def __call__(self, rgb: ByteArray) -> list[Face]:
        """Find the lamp."""
        y, x = np.unravel_index(int(rgb[..., 0].argmax()), rgb.shape[:2])
        if rgb[y, x, 0] < 255:
            return []
        opening = float(rgb[y, x, 1]) / 255
        layout = dict.fromkeys(range(468), 0j) | ANCHOR_LAYOUT
        layout |= {61: -2.45 + 0j, 291: 2.45 + 0j, 13: -2.45j * opening, 14: 2.45j * opening}
        points = complex(x, y) + 4.0 * np.array([layout[index] for index in range(468)])
        return [Face(np.stack([points.real, points.imag], axis=1).astype(np.float32))]

    def close(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True


def sound(duration_s: float, seed: int = 1) -> FloatArray:
    """Syllables of noise with pauses between them, f32 (n,) at 16 kHz, exact in 16 bits."""
    rng = np.random.default_rng(seed)
    num_samples = round(duration_s * SAMPLE_RATE)
    loudness = np.repeat(rng.choice([0.002, 0.03, 0.2, 0.5], size=num_samples // 1600 + 1), 1600)[:num_samples]
    smooth = np.convolve(rng.normal(size=num_samples), np.ones(3) / 3, mode="same")
    return (np.round(loudness * smooth * 9000).clip(-32768, 32767) / 32768).astype(np.float32)


def pictures(duration_s: float, rate_hz: float = 25.0, seed: int = 2) -> list[VideoFrame]:
    """Flickering patterns around a wandering lamp, u8 (72, 88, 3)."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(round(duration_s * rate_hz)):
        low, high = sorted(rng.integers(0, 250, size=2))
        rgb = rng.integers(low, high + 1, size=(9, 11, 1)).astype(np.uint8).repeat(8, 0).repeat(8, 1).repeat(3, 2)
        rgb[36 + int(rng.integers(-2, 3)), 44 + int(rng.integers(-2, 3))] = 255, rng.integers(0, 120), 255
        frames.append(VideoFrame(rgb, round(index * 1e6 / rate_hz)))
    return frames


def packets_of(
    samples: FloatArray, frames: Iterable[VideoFrame], packet_samples: int = 640, sample_rate: int = SAMPLE_RATE
) -> list[Packet]:
    """Cut the sound evenly and put both senses in the order of their times."""
    sounds = [
        AudioPacket(samples[start : start + packet_samples], sample_rate, start / sample_rate)
        for start in range(0, len(samples), packet_samples)
    ]
    return sorted([*sounds, *frames], key=time_s)


def time_s(packet: Packet) -> float:
    """Stream time of a packet."""
    return packet.pts_us / 1e6 if isinstance(packet, VideoFrame) else float(packet.t_s or 0.0)


@dataclass
class Heard:
    """All captions of a stream, in order, without their latencies: those are no result."""

    captions: list[Caption] = field(default_factory=list)

    @property
    def finals(self) -> list[Caption]:
        """The finals."""
        return [caption for caption in self.captions if caption.is_final]

    @property
    def num_words(self) -> int:
        """Words in all finals together."""
        return sum(len(caption.words) for caption in self.finals)

    def read(self, stream: Stream) -> None:
        """Take what is new."""
        self.captions += without_latency(stream.captions())


def without_latency(captions: Iterable[Caption]) -> list[Caption]:
    """Return the captions as if nothing had been timed."""
    return [replace(caption, latency_ms=None) for caption in captions]


def listen(stream: Stream, packets: Iterable[Packet]) -> Heard:
    """Push all packets into ``stream``, finish it and return what it said."""
    heard = Heard()
    with stream:
        for packet in packets:
            stream.accept(packet)
            heard.read(stream)
        stream.finish()
        heard.read(stream)
    return heard
