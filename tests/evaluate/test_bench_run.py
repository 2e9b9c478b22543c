"""The run: each row once, whatever comes between; and the sound is what it is said to be."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_systems import NOISY, FakeSystem, corpus, plan_of

import avsr
from avsr.errors import InputError
from avsr.evaluate.bench import clip_fingerprints, run, select_clips
from avsr.evaluate.conditions import CLEAN
from avsr.evaluate.journal import Journal
from avsr.evaluate.noises import NoiseKind, NoiseLibrary
from avsr.media import active_rms

DEMO = Path(avsr.__file__).parent / "talker" / "demo"
HEADER = "path\tspeaker\tsplit\tseconds\ttext\twords\n"


def test_every_system_hears_the_same_sound_in_the_same_condition(tmp_path: Path, babble: Path) -> None:
    one, two = FakeSystem("one"), FakeSystem("two")
    with Journal(tmp_path, {}) as journal:
        assert run(plan_of(corpus(tmp_path, babble), one, two), journal) == {}
    assert [name for name, _ in one.sounds] == [f"{i}.mp4" for i in range(3) for _ in NOISY]
    for (_, first), (_, second) in zip(one.sounds, two.sounds, strict=True):
        np.testing.assert_array_equal(first, second)


def test_noise_has_the_ratio_to_the_active_speech(tmp_path: Path, babble: Path) -> None:
    system = FakeSystem()
    with Journal(tmp_path, {}) as journal:
        run(plan_of(corpus(tmp_path, babble, 1), system), journal)
        (mix,) = set(journal.mixes.values())
    clean, *noisy = (sound for _, sound in system.sounds)
    assert mix.speech_active_db == pytest.approx(20 * np.log10(active_rms(clean)), abs=0.01)
    assert mix.sources == ("white",)
    for sound, condition in zip(noisy, NOISY[1:], strict=True):
        turned_down = np.dot(sound, clean) / np.dot(clean, clean)  # white noise has nothing in common with the speech
        noise = sound / turned_down - clean
        ratio_db = 20 * np.log10(active_rms(clean) / np.sqrt(np.mean(np.square(noise))))
        assert ratio_db == pytest.approx(condition.snr_db, abs=0.5)


def test_lips_are_measured_once_and_only_clean(tmp_path: Path, babble: Path) -> None:
    lips, ears = FakeSystem("lips", uses_sound=False), FakeSystem("ears")
    with Journal(tmp_path, {}) as journal:
        run(plan_of(corpus(tmp_path, babble), lips, ears, conditions=NOISY[1:]), journal)
    assert len(lips.sounds) == 3
    assert {condition for _, condition, system in journal.results if system == "lips"} == {CLEAN}
    assert {condition for _, condition, system in journal.results if system == "ears"} == set(NOISY[1:])


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, babble: Path) -> None:
    clips, whole, system = corpus(tmp_path, babble), FakeSystem(), FakeSystem(stop_after=4)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Journal(tmp_path / "a", {}) as undisturbed:
        run(plan_of(clips, whole), undisturbed)
    with Journal(tmp_path / "b", {}) as journal, pytest.raises(KeyboardInterrupt):
        run(plan_of(clips, system), journal)
    system.stop_after = None
    seen: list[str] = []
    with Journal(tmp_path / "b", {}) as journal:
        run(plan_of(clips, system), journal, seen.append)
    assert len(system.sounds) == len(whole.sounds) == len(seen) == 9
    assert journal.mixes == undisturbed.mixes
    assert {key: replace(r, work_s=0) for key, r in journal.results.items()} == {
        key: replace(r, work_s=0) for key, r in undisturbed.results.items()
    }


def test_more_clips_and_conditions_are_added_to_what_is_there(tmp_path: Path, babble: Path) -> None:
    clips, system = corpus(tmp_path, babble), FakeSystem()
    with Journal(tmp_path, {}) as journal:
        run(plan_of({"1.mp4": clips["1.mp4"]}, system, conditions=[CLEAN]), journal)
        run(plan_of(clips, system), journal)
    assert len(system.sounds) == 9


def test_a_broken_clip_is_left_out_and_the_others_are_measured(tmp_path: Path, babble: Path) -> None:
    clips = corpus(tmp_path, babble)
    clips["1.mp4"].path.unlink()
    clips["1.mp4"].path.write_text("no media")
    with Journal(tmp_path, {}) as journal:
        left_out = run(plan_of(clips, FakeSystem()), journal)
    assert list(left_out) == ["1.mp4"]
    assert "1.mp4" in left_out["1.mp4"]
    assert {clip for clip, _, _ in journal.results} == {"0.mp4", "2.mp4"}


def test_a_clips_defect_is_also_reported_by_a_run_that_finds_it_measured(tmp_path: Path) -> None:
    clips = corpus(tmp_path, DEMO / "bin_blue.mp4")
    clips["1.mp4"].path.unlink()
    content = (DEMO / "bin_blue.mp4").read_bytes()
    clips["1.mp4"].path.write_bytes(content[:20_000] + bytes(9000) + content[29_000:])
    clips["2.mp4"] = replace(clips["2.mp4"], seconds=5.0)
    for system in (FakeSystem(), FakeSystem(stop_after=0)):
        with Journal(tmp_path, {}) as journal:
            assert run(plan_of(clips, system, conditions=[CLEAN]), journal) == {}
        assert journal.defects.keys() == {"1.mp4", "2.mp4"}
        assert "damaged" in journal.defects["1.mp4"]
        assert "ends after 4.0 s of the 5.0 s" in journal.defects["2.mp4"]


def test_a_broken_noise_is_not_reported_as_a_broken_clip(tmp_path: Path, babble: Path) -> None:
    plan = plan_of(corpus(tmp_path, babble), FakeSystem())
    (tmp_path / "rain.wav").write_text("no media")
    noises = NoiseLibrary([NoiseKind("white", (("rain.wav", tmp_path / "rain.wav"),))], 0)
    with Journal(tmp_path, {}) as journal, pytest.raises(InputError, match="--noise white"):
        run(replace(plan, noises=noises), journal)


def test_latency_is_counted_from_the_speech(tmp_path: Path, babble: Path) -> None:
    clips = corpus(tmp_path, babble, 1)
    aligned = select_clips(_table(tmp_path, "0.mp4\ts\ttest\t4\tbin blue\tbin:0.5-0.75 blue:0.75-1.5\n")).clips
    with Journal(tmp_path, {}) as journal:
        run(plan_of(aligned, FakeSystem(), conditions=[CLEAN]), journal)
    (result,) = journal.results.values()
    assert (result.first_word_latency_s, result.final_latency_s) == (0.5, 2.0)
    assert (result.live_first_word_latency_s, result.live_final_latency_s) == (0.6, 2.4)
    assert clips["0.mp4"].words == ()


def test_clips_are_named_as_the_manifest_names_them(tmp_path: Path) -> None:
    table = _table(tmp_path, "a/1.mp4\ts\tdev\t1\tbin\t\n/abs/2.mp4\ts\ttest\t1\tblue\t\nb/3.mp4\ts\ttest\t1\t\t\n")
    everything = select_clips(table)
    assert (list(everything.clips), everything.num_without_transcript) == (["a/1.mp4", "/abs/2.mp4"], 1)
    assert list(select_clips(table, "test").clips) == ["/abs/2.mp4"]
    assert list(select_clips(table, limit=1).clips) == ["a/1.mp4"]


def test_a_published_layout_is_a_manifest_too(tmp_path: Path) -> None:
    speaker = tmp_path / "grid" / "s3"
    speaker.mkdir(parents=True)
    for name in ("bbaf2n", "lrwz1s"):
        (speaker / f"{name}.mpg").touch()
    chosen = select_clips(tmp_path / "grid")
    assert {name: clip.text for name, clip in chosen.clips.items()} == {
        "s3/bbaf2n.mpg": "bin blue at f two now",
        "s3/lrwz1s.mpg": "lay red with z one soon",
    }


def test_a_clip_is_identified_by_its_content_and_metadata_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.wav").write_bytes(b"one")
    row = "a.wav\ts\ttest\t1\tbin\tbin:0-1\n"

    def known(row: str = row) -> str | None:
        return clip_fingerprints(select_clips(_table(tmp_path / "here", row)).clips)["a.wav"]

    first = known()
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert clip_fingerprints(select_clips(_table(tmp_path / "there", row)).clips) == {"a.wav": first}
    assert known(row.replace("\ts\ttest", "\tt\tdev") + "b.wav\ts\ttest\t1\tblue\t\n") == first is not None
    others = {known(row.replace(*change)) for change in (("bin\t", "Bin\t"), ("0-1", "0-0.5"), ("\t1\t", "\t2\t"))}
    (tmp_path / "here" / "a.wav").write_bytes(b"two")
    assert len({first, *others, known()}) == 5
    (tmp_path / "here" / "a.wav").unlink()
    assert known() is None


def test_a_malformed_transcript_is_skipped_and_reported(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    for name in ("bbaf2n", "lrwz1s"):
        (tmp_path / "s3" / f"{name}.mpg").touch()
    (tmp_path / "s3" / "bbaf2n.align").write_text("0 x bin")
    chosen = select_clips(tmp_path)
    assert (list(chosen.clips), chosen.num_without_transcript) == (["s3/lrwz1s.mpg"], 1)
    (problem,) = chosen.problems
    assert "bbaf2n.align" in problem
    (tmp_path / "s3" / "lrwz1s.mpg").unlink()
    with pytest.raises(InputError, match=r"no clip has a transcript .*bbaf2n\.align"):
        select_clips(tmp_path)


@pytest.mark.parametrize(
    ("rows", "split", "message"),
    [
        ("a.mp4\ts\tdev\t1\tbin\t\n", "test", "its splits are: dev"),
        ("a.mp4\ts\tdev\t1\t\t\n", None, "no clip has a transcript"),
        ("", None, "no clip"),
        ("a.mp4\ts\tdev\t1\tbin\t\n" * 2, None, "a.mp4 twice"),
    ],
)
def test_a_manifest_without_what_is_needed_is_refused(
    rows: str, split: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        select_clips(_table(tmp_path, rows), split)
    assert "table.tsv" in str(caught.value)


def _table(directory: Path, rows: str) -> Path:
    table = directory / "table.tsv"
    table.write_text(HEADER + rows)
    return table
