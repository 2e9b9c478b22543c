"""The noise of a clip: the same whatever else is measured, and as the manifest says."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.errors import InputError, MediaError
from avsr.evaluate.noises import NoiseKind, NoiseLibrary, parse_noise, parse_noises
from avsr.media.noise import coloured_noise
from avsr.types import SAMPLE_RATE, FloatArray

clips = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6, unique=True)
KINDS = [
    NoiseKind("white"),
    NoiseKind("pink"),
    NoiseKind("rain", tuple((f"{i}.wav", Path(f"rain/{i}.wav")) for i in range(5))),
    NoiseKind("babble", tuple((f"{i}.wav", Path(f"voices/{i}.wav")) for i in range(9))),
]


def sound_of(path: Path) -> FloatArray:
    """A file's sound, different for each name."""
    rng = np.random.default_rng(list(str(path).encode()))
    return (0.1 * rng.standard_normal(int(rng.integers(500, 4000)))).astype(np.float32)


def library(seed: int = 0) -> NoiseLibrary:
    return NoiseLibrary(KINDS, seed, sound_of)


@settings(deadline=None, max_examples=25)
@given(clips=clips, kind=st.sampled_from([kind.name for kind in KINDS]), seed=st.integers(0, 5), data=st.data())
def test_the_noise_of_a_clip_depends_neither_on_the_order_nor_on_the_other_clips(
    clips: list[str], kind: str, seed: int, data: st.DataObject
) -> None:
    some = data.draw(st.lists(st.sampled_from(clips), min_size=1, unique=True))
    whole, partly = library(seed), library(seed)
    first = {clip: whole.draw(kind, clip, 1000) for clip in clips}
    for clip in some:
        again = partly.draw(kind, clip, 1000)
        assert again.sources == first[clip].sources
        np.testing.assert_array_equal(again.samples, first[clip].samples)


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_another_seed_or_clip_gets_other_noise(kind: str) -> None:
    draws = [library(seed).draw(kind, clip, 1000).samples for seed in (0, 1) for clip in ("a", "b")]
    assert not any(np.array_equal(draws[i], draws[j]) for i in range(4) for j in range(i))


@settings(deadline=None, max_examples=25)
@given(clip=st.text(), num_samples=st.integers(1, 9000))
def test_the_manifest_says_which_piece_of_which_file(clip: str, num_samples: int) -> None:
    draw = library().draw("rain", clip, num_samples)
    name, _, start = draw.sources[0].rpartition("@")
    expected = np.resize(np.roll(sound_of(Path("rain") / name), -int(start)), num_samples)
    np.testing.assert_array_equal(draw.samples, expected)


def test_babble_is_four_to_eight_voices_each_once() -> None:
    for index in range(20):
        names = [source.rpartition("@")[0] for source in library().draw("babble", str(index), 500).sources]
        assert 4 <= len(names) <= 8
        assert len(set(names)) == len(names)


def test_a_single_recording_of_babble_is_used_as_it_is() -> None:
    kind = NoiseKind("babble", (("babble.wav", Path("babble.wav")),))
    draw = NoiseLibrary([kind], 0, sound_of).draw("babble", "a", 700)
    ((name, _, start),) = (source.rpartition("@") for source in draw.sources)
    assert name == "babble.wav"
    np.testing.assert_array_equal(draw.samples, np.resize(np.roll(sound_of(Path(name)), -int(start)), 700))


def test_no_piece_is_a_pause_of_the_noise() -> None:
    bark = np.zeros(160_000, np.float32)
    bark[80_000:120_000] = 0.1
    barks = NoiseLibrary([NoiseKind("dog", (("dog.wav", Path("dog.wav")),))], 0, lambda _: bark)
    for index in range(50):
        assert np.mean(np.square(barks.draw("dog", str(index), 16_000).samples)) > 1e-2 * np.mean(np.square(bark))


@pytest.mark.parametrize(("kind", "slope"), [("white", 0.0), ("pink", 1.0)])
def test_generated_noise_is_what_training_calls_it(kind: str, slope: float) -> None:
    draw = library().draw(kind, "a", 1 << 14)
    assert np.array_equal(draw.samples, coloured_noise(1 << 14, slope, np.random.default_rng(int(draw.key, 16))))


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_a_clip_without_sound_needs_no_noise(kind: str) -> None:
    assert library().draw(kind, "a", 0).samples.shape == (0,)


def test_a_broken_or_silent_noise_file_is_named() -> None:
    def broken(path: Path) -> FloatArray:
        raise MediaError(f"{path} is not a media file")

    for read, message in ((broken, "not a media file"), (lambda _: np.zeros(9, np.float32), "silent")):
        with pytest.raises(InputError, match=f"rain.*{message}") as caught:
            NoiseLibrary(KINDS, 0, read).draw("rain", "a", 10)
        assert not isinstance(caught.value, MediaError), "it is not the clip that is broken"


@pytest.fixture
def cafe(tmp_path: Path) -> Path:
    for name in ("cafe/b.wav", "cafe/deep/a.WAV", "cafe/readme.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(bytes(range(200)) * 20)
    return tmp_path / "cafe"


def test_a_directory_is_a_kind_of_noise_with_all_its_sound_files(cafe: Path) -> None:
    kind = parse_noise(str(cafe))
    assert kind == NoiseKind("cafe", (("b.wav", cafe / "b.wav"), ("deep/a.WAV", cafe / "deep/a.WAV")))
    assert parse_noise(f"bar={cafe}").name == "bar"
    assert parse_noise(str(cafe / "b.wav")) == NoiseKind("b", (("b.wav", cafe / "b.wav"),))
    assert NoiseLibrary([kind], 0).draw("cafe", "a", 640).samples.any()


def test_the_name_of_a_kind_can_be_shown_whatever_its_directory_is_called(cafe: Path) -> None:
    assert parse_noise(str(cafe.rename(cafe.with_name("caf\udce9")))).name == "caf?"


def test_a_table_gives_the_split_that_is_named_as_the_kind(tmp_path: Path) -> None:
    table = tmp_path / "speech.tsv"
    rows = [f"{i}.ogg\tv\t{split}\t1\t\t\n" for i, split in enumerate(["babble", "train", "babble"])]
    table.write_text("path\tspeaker\tsplit\tseconds\ttext\twords\n" + "".join(rows))
    assert [name for name, _ in parse_noise(f"babble={table}").files] == ["0.ogg", "2.ogg"]
    with pytest.raises(InputError, match="'speech'"):
        parse_noise(str(table))


def test_what_was_trained_with_is_left_out(cafe: Path) -> None:
    assert [name for name, _ in parse_noise(str(cafe), {(cafe / "b.wav").resolve()}).files] == ["deep/a.WAV"]
    with pytest.raises(InputError, match="used for training"):
        parse_noise(str(cafe), {path.resolve() for _, path in parse_noise(str(cafe)).files})


def test_a_fingerprint_tells_when_the_files_change(cafe: Path) -> None:
    before = parse_noise(str(cafe)).fingerprint()
    assert parse_noise(str(cafe)).fingerprint() == before
    content = (cafe / "b.wav").read_bytes()
    (cafe / "b.wav").write_bytes(content[:-1] + b"x")
    assert parse_noise(str(cafe)).fingerprint() != before, "of the same size"
    (cafe / "b.wav").write_bytes(content)
    assert parse_noise(f"cafe={cafe.rename(cafe.with_name('bar'))}").fingerprint() == before


def test_a_fingerprint_tells_when_noise_is_generated_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    before = NoiseKind("pink").fingerprint()
    monkeypatch.setattr("avsr.evaluate.noises.LOWEST_HZ", 0.1)
    assert NoiseKind("pink").fingerprint() != before != NoiseKind("white").fingerprint()


@pytest.mark.parametrize("specs", [["none"], ["x=none"], ["."], ["white", "white"]])
def test_noise_that_is_not_there_is_refused(specs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"--noise {specs[-1]}"):
        parse_noises(specs)
