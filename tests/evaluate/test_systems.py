"""The systems under test: the engine's own live stream, each picture looked at once, time counted honestly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from stand_ins import LampFace, listen, packets_of, pictures, sound, tiny_recognizer

import avsr
from avsr import Recognizer
from avsr.corpora import AlignedWord, Utterance, read_clip
from avsr.errors import InputError, MediaError
from avsr.evaluate import clips as clips_module
from avsr.evaluate.adapters import open_adapter, open_adapters
from avsr.evaluate.clips import CachedFaces, ClipUnderTest, speech_span_s
from avsr.evaluate.systems import AdapterSystem, EngineSystem, Recognition, TestedModality, _LiveRun, arrivals
from avsr.lips import Face
from avsr.types import SAMPLE_RATE, ByteArray, Caption, FloatArray, VideoFrame, Word

DEMO = Path(avsr.__file__).parent / "talker" / "demo"
UTTERANCE = Utterance(DEMO / "bin_blue.mp4", "s", "test", "bin blue", ())


class CountingMesh:
    """A face wherever it looks, at a place that depends on how many pictures it has seen; counts them."""

    num_seen = 0

    def __init__(self) -> None:
        self.lamp = LampFace()

    def __call__(self, rgb: ByteArray) -> list[Face]:
        type(self).num_seen += 1
        lit = np.zeros((90, 90, 3), np.uint8)
        lit[45 + type(self).num_seen % 3, 45] = 255
        return self.lamp(lit) if rgb.any() else []

    def __enter__(self) -> CountingMesh:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    close = __exit__


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return tiny_recognizer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def clip(film: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClipUnderTest]:
    monkeypatch.setattr(clips_module, "FaceMesh", CountingMesh)
    CountingMesh.num_seen = 0
    with ClipUnderTest(replace(UTTERANCE, path=film)) as opened:
        yield opened


def untimed(recognition: Recognition) -> Recognition:
    return replace(recognition, work_s=0.0, live_first_word_s=None, live_final_s=None)


def test_a_clip_is_what_its_file_holds(clip: ClipUnderTest) -> None:
    samples, frames = read_clip(clip.utterance.path)
    np.testing.assert_array_equal(clip.samples, samples)
    assert clip.has_pictures
    for view in ("seen", "seen", "blank"):
        found = list(clip.pictures(view))  # type: ignore[arg-type]
        assert [frame.pts_us for frame in found] == [frame.pts_us for frame in frames]
        assert all(frame.rgb.any() == (view == "seen") for frame in found)


def test_pictures_that_begin_after_the_sound_stay_where_they_are(film: Path, tmp_path: Path) -> None:
    """What is measured is what `avsr transcribe` sees and hears of the file."""
    path = tmp_path / "late.mkv"
    with av.open(str(film)) as source, av.open(str(path), "w") as copy:
        tracks = {stream: copy.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                late_ticks = round(0.4 / packet.time_base) if packet.stream.type == "video" else 0
                packet.pts, packet.dts = packet.pts + late_ticks, packet.dts + late_ticks
                packet.stream = tracks[packet.stream]
                copy.mux(packet)
    _, frames = read_clip(path)
    assert 350_000 < frames[0].pts_us < 450_000
    with ClipUnderTest(replace(UTTERANCE, path=path)) as clip:
        assert [frame.pts_us for frame in clip.pictures("seen")] == [frame.pts_us for frame in frames]


def test_each_picture_is_looked_at_once_for_all_conditions(engine: Recognizer, clip: ClipUnderTest) -> None:
    system = EngineSystem(engine, "av", 320)
    first = system.recognise(clip, clip.samples)
    num_pictures = CountingMesh.num_seen
    assert num_pictures == 41
    for samples in (clip.samples, clip.samples[::-1].copy()):
        again = system.recognise(clip, samples)
    assert CountingMesh.num_seen == num_pictures
    assert untimed(system.recognise(clip, clip.samples)) == untimed(first) != untimed(again)


def test_what_is_answered_from_memory_is_still_counted_as_work() -> None:
    faces = CachedFaces(LampFace())
    frames = pictures(1.0)
    looked = [[face.points.tolist() for face in faces(frame.rgb)] for frame in frames]
    assert faces.saved_s == 0.0
    again = [[face.points.tolist() for face in faces.rewound()(frames[0].rgb)]]
    again += [[face.points.tolist() for face in faces(frame.rgb)] for frame in frames[1:]]
    assert looked == again
    assert faces.saved_s == pytest.approx(sum(took_s for _, took_s in faces._known))
    assert faces.saved_s > 0


@pytest.mark.parametrize("modality", ["av", "audio", "video"])
def test_the_bench_hears_what_a_live_stream_hears(
    modality: TestedModality, engine: Recognizer, clip: ClipUnderTest
) -> None:
    recognition = EngineSystem(engine, modality, 160).recognise(clip, clip.samples)
    samples, frames = read_clip(clip.utterance.path)
    faces = clip.faces("seen")
    heard = listen(
        engine.stream(modality=modality, chunk_ms=160, landmarker=faces),  # type: ignore[arg-type]
        packets_of(samples, frames, packet_samples=1600),
    )
    assert recognition.text == " ".join(caption.text for caption in heard.finals if caption.words)
    assert recognition.text
    assert recognition.work_s > 0
    assert recognition.duration_s == pytest.approx(1.64, abs=0.1)
    assert (recognition.audio_weight is None) == (modality != "av")


def test_blank_video_is_heard_like_sound_alone(engine: Recognizer, clip: ClipUnderTest) -> None:
    blank = EngineSystem(engine, "blank", 320).recognise(clip, clip.samples)
    audio = EngineSystem(engine, "audio", 320).recognise(clip, clip.samples)
    assert blank.text == audio.text


def test_packets_arrive_in_order_and_not_before_they_are_recorded() -> None:
    samples, frames = sound(1.1), pictures(1.0, rate_hz=30)
    times, packets = zip(*arrivals(samples, iter(frames)), strict=True)
    assert list(times) == sorted(times)
    heard = [(t, packet) for t, packet in zip(times, packets, strict=True) if not isinstance(packet, VideoFrame)]
    np.testing.assert_array_equal(np.concatenate([packet.samples for _, packet in heard]), samples)
    assert [t for t, _ in heard] == pytest.approx([(p.t_s or 0) + len(p.samples) / SAMPLE_RATE for _, p in heard])
    assert [p.pts_us for p in packets if isinstance(p, VideoFrame)] == [frame.pts_us for frame in frames]


def caption(text: str, is_final: bool) -> Caption:
    words = tuple(Word(word, 0.0, 0.1, 1.0) for word in text.split())
    return Caption(0, 0, is_final, words, 0, 0.0, 0.1, 0.5, 1.0)


def test_work_that_cannot_keep_up_delays_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("avsr.evaluate.systems.time.perf_counter", lambda: now_s[0])
    run = _LiveRun(None)
    for arrival_s, work_s, captions in (
        (0.0, 0.5, []),
        (1.0, 3.0, [caption("", False)]),
        (2.0, 0.5, [caption("bin", False)]),
        (9.0, 0.25, [caption("bin blue", True), caption("", False)]),
    ):
        run.begin(arrival_s)
        now_s[0] += work_s
        run.end(iter(captions))
    recognition = run.recognition(9.0)
    assert recognition == Recognition("bin blue", 9.0, 4.25, 0.5, 2.0, 9.0, 4.5, 9.25)


def test_speech_is_where_the_corpus_says_or_else_where_it_is_loud() -> None:
    samples = np.zeros(3 * SAMPLE_RATE, np.float32)
    samples[SAMPLE_RATE : 2 * SAMPLE_RATE] = sound(1.0)[:SAMPLE_RATE] + 0.1
    samples += np.random.default_rng(0).normal(scale=1e-4, size=len(samples)).astype(np.float32)
    assert speech_span_s(UTTERANCE, samples, 3.0) == pytest.approx((1.0, 2.0), abs=0.021)
    aligned = replace(UTTERANCE, words=(AlignedWord("bin", 0.5, 0.7), AlignedWord("blue", 0.7, 1.0)))
    assert speech_span_s(aligned, samples, 3.0) == (0.5, 1.0)
    in_ms = replace(UTTERANCE, words=(AlignedWord("bin", 500.0, 700.0), AlignedWord("blue", 700.0, 1000.0)))
    for unfit in (in_ms, replace(aligned, words=aligned.words[:1]), replace(aligned, words=aligned.words[::-1])):
        assert speech_span_s(unfit, samples, 3.0) == pytest.approx((1.0, 2.0), abs=0.021)
    for silence in (samples[:0], np.zeros(16_000, np.float32)):
        assert speech_span_s(UTTERANCE, silence, 1.0) is None


def test_sound_alone_is_a_clip_without_pictures(engine: Recognizer, babble: Path) -> None:
    with ClipUnderTest(replace(UTTERANCE, path=babble)) as heard_only:
        assert not heard_only.has_pictures
        both = EngineSystem(engine, "av", 320).recognise(heard_only, heard_only.samples)
        assert both.text == EngineSystem(engine, "audio", 320).recognise(heard_only, heard_only.samples).text
        assert EngineSystem(engine, "video", 320).recognise(heard_only, heard_only.samples).text == ""


def test_a_missing_clip_is_a_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"none\.mp4"):
        ClipUnderTest(replace(UTTERANCE, path=tmp_path / "none.mp4"))


def test_a_system_is_named_by_its_senses_and_chunk_and_identified_by_its_weights(engine: Recognizer) -> None:
    one, other = EngineSystem(engine, "av", 320), EngineSystem(engine, "video", 160, setup={"threads": 2})
    assert (one.name, other.name, one.uses_sound, other.uses_sound) == ("av@320", "video@160", True, False)
    assert other.settings == {**one.settings, "threads": 2}
    assert set(one.settings) == {"model", "version", "sha256"}


ADAPTER = """
class Mine:
    def describe(self):
        return "mine 1.0"
    def transcribe(self, samples, video):
        return f"{len(samples)} samples, {'with' if video else 'without'} pictures"
class Half:
    def describe(self):
        return "half"
class Broken(Mine):
    def transcribe(self, samples, video):
        raise RuntimeError("out of memory")
class Silent(Mine):
    def transcribe(self, samples, video):
        pass
class Dumb(Mine):
    def describe(self):
        raise RuntimeError("no name")
class Wordy(Mine):
    def describe(self):
        return "mine", 1.0
def unmade():
    raise OSError("no weights")
def neighbour():
    import my_neighbour
    return Mine()
"""


def test_anybody_can_bring_a_recogniser(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utterance = replace(UTTERANCE, path=film)
    (tmp_path / "my_adapter.py").write_text(ADAPTER)
    monkeypatch.chdir(tmp_path)  # it need not be installed
    monkeypatch.setattr(sys, "path", [*sys.path])
    name, adapter = open_adapter("my_adapter:Mine")
    system = AdapterSystem(name, adapter)
    assert (system.name, system.title, system.settings) == ("Mine", "Mine", {"adapter": "mine 1.0"})
    with ClipUnderTest(utterance) as clip:
        noisy: FloatArray = np.zeros(32_000, np.float32)
        recognition = system.recognise(clip, noisy)
    assert (recognition.text, recognition.duration_s) == ("32000 samples, with pictures", 2.0)
    assert recognition.first_word_s is recognition.final_s is recognition.audio_weight is None
    with pytest.raises(InputError, match="no method transcribe"):
        open_adapter("my_adapter:Half")
    with pytest.raises(InputError, match="my_adapter:unmade: could not be made: OSError: no weights"):
        open_adapter("my_adapter:unmade")
    with pytest.raises(InputError, match="my_adapter:Dumb: cannot describe itself: RuntimeError: no name"):
        open_adapter("my_adapter:Dumb")
    with pytest.raises(InputError, match="my_adapter:Wordy: describe returned tuple"):
        open_adapter("my_adapter:Wordy")
    (tmp_path / "my_second.py").write_text(ADAPTER)
    both = open_adapters(["my_adapter:Mine", "my_second:Mine", "my_adapter:Silent"])
    assert [name for name, _ in both] == ["my_adapter.Mine", "my_second.Mine", "Silent"]
    with pytest.raises(InputError, match="my_second:Mine is given twice"):
        open_adapters(["my_second:Mine", "my_adapter:Mine", "my_second:Mine"])
    (tmp_path / "my_neighbour.py").touch()
    assert open_adapter("my_adapter:neighbour")[0] == "neighbour"
    (tmp_path / "my_wreck.py").write_text("raise OSError('no library')")
    with pytest.raises(InputError, match="my_wreck:Mine: could not be imported: OSError: no library"):
        open_adapter("my_wreck:Mine")
    (tmp_path / "my_script.py").write_text("raise SystemExit(2)")  # argparse, at a module's top
    with pytest.raises(InputError, match="my_script:Mine: could not be imported: SystemExit: 2"):
        open_adapter("my_script:Mine")
    for spec, problem in (("Broken", "RuntimeError: out of memory"), ("Silent", "returned NoneType")):
        system = AdapterSystem(*open_adapter(f"my_adapter:{spec}"))
        with ClipUnderTest(utterance) as clip, pytest.raises(InputError, match=f"{film.name}: .*{problem}"):
            system.recognise(clip, noisy)


def test_a_recogniser_that_works_in_place_changes_no_sound_but_its_own(film: Path) -> None:
    class Levelling:
        def describe(self) -> str:
            return "levelling 1.0"

        def transcribe(self, samples: FloatArray, video: Path | None) -> str:
            samples /= np.abs(samples).max()
            return ""

    with ClipUnderTest(replace(UTTERANCE, path=film)) as clip:
        before = clip.samples.copy()
        AdapterSystem("Levelling", Levelling()).recognise(clip, clip.samples)
        np.testing.assert_array_equal(clip.samples, before)


@pytest.mark.parametrize("spec", ["whisper", "no_such_module:Mine", "json:Mine", "a:b:c", ""])
def test_an_unknown_recogniser_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match=f"--compare {spec}"):
        open_adapter(spec)
