"""The synthetic dataset: what is written is what sounds, pieces keep to their split, runs repeat."""

import dataclasses
import json
import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

from mt3.audio.synthesis import make_synthesizer
from mt3.data import parallel
from mt3.data.augmentation import AugmentationConfig
from mt3.data.pieces import PieceError
from mt3.data.prepare import PrepareError, prepare
from mt3.data.records import read_recordings
from mt3.data.sources import find_source, synth
from mt3.data.sources.synth import SynthConfig, synthetic_recordings
from mt3.symbolic.conversions import write_midi

RATE = 16000


@pytest.fixture
def config(midi_folder):
    return SynthConfig(
        collections=(str(midi_folder),),
        validation_fraction=0.2,
        test_fraction=0.2,
        num_train=6,
        num_validation=2,
        num_test=2,
        max_seconds=4.0,
        num_submixes=1,
    )


@pytest.fixture
def cache(tmp_path_factory):
    return tmp_path_factory.getbasetemp() / "pieces-cache"


def prepare_synth(config, output_dir, **options):
    return prepare(synth.SOURCE, config, (), output_dir, **options)


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_preparing_again_gives_the_same_bytes(tmp_path, config, cache):
    config = dataclasses.replace(config, num_validation=0)
    first = prepare_synth(config, tmp_path / "a", workers=0, num_shards=2, cache_dir=cache)
    prepare_synth(config, tmp_path / "b", workers=2, num_shards=2, cache_dir=cache)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert sorted(first) == ["test", "train"]
    assert len(contents(tmp_path / "a")) == 2 + 2 + 2
    assert not multiprocessing.active_children()


def test_another_seed_gives_other_music(tmp_path, config, cache):
    prepare_synth(config, tmp_path / "a", workers=0, cache_dir=cache)
    prepare_synth(dataclasses.replace(config, seed=1), tmp_path / "b", workers=0, cache_dir=cache)
    a, b = (read_recordings(tmp_path / name, "test") for name in "ab")
    assert [r.notes for r in a] != [r.notes for r in b]
    assert {r.extra["piece"] for r in a} <= {
        r.extra["piece"] for r in read_recordings(tmp_path / "a", "test")
    }


def test_no_piece_is_in_two_splits(tmp_path, midi_folder, config, cache, make_tune):
    folder = tmp_path / "music"
    folder.mkdir()
    for seed in range(12):
        write_midi(make_tune(seed), folder / f"tune{seed}.mid")
        write_midi(make_tune(seed, transpose=2), folder / f"again{seed}.mid")
    config = dataclasses.replace(
        config, collections=(str(folder),), num_train=None, num_validation=None, num_test=None
    )
    prepare_synth(config, tmp_path / "out", workers=0, cache_dir=cache)
    tunes = {
        split: {
            r.extra["piece"].removeprefix("tune").removeprefix("again")
            for r in read_recordings(tmp_path / "out", split)
        }
        for split in synth.SPLITS
    }
    assert set.union(*tunes.values()) == {f"{seed}.mid" for seed in range(12)}
    assert sum(len(found) for found in tunes.values()) == 12
    # The same music in another collection goes where it went.
    again = dataclasses.replace(config, collections=(str(folder), str(midi_folder)))
    pieces, _ = synth.split_pieces(again, cache_dir=cache)
    for split, members in pieces.items():
        numbers = {int("".join(c for c in piece.id.split(".")[0] if c.isdigit())) for piece in members}
        assert numbers == {int(name.removesuffix(".mid")) for name in tunes[split]}


def test_labels_are_what_was_rendered(tmp_path, config, cache, monkeypatch):
    rendered = []
    real = make_synthesizer

    class Recorder:
        def __init__(self, *arguments):
            self.synthesizer = real(*arguments)
            self.is_sounding = self.synthesizer.is_sounding
            self.backend = self.synthesizer.backend

        def render(self, notes, **options):
            rendered.append(notes)
            return self.synthesizer.render(notes, **options)

    monkeypatch.setattr(synth, "make_synthesizer", Recorder)
    config = dataclasses.replace(config, num_train=0, num_validation=0, num_submixes=0)
    prepare_synth(config, tmp_path, workers=0, cache_dir=cache)
    found = read_recordings(tmp_path, "test")
    assert len(found) == 2
    labels = [
        row
        for r in found
        for row in zip(*(getattr(r.notes, c) for c in ("onset_seconds", "pitch")), strict=True)
    ]
    played = [
        row
        for n in rendered
        for row in zip(*(getattr(n, c) for c in ("onset_seconds", "pitch")), strict=True)
    ]
    assert sorted(labels) == sorted(played)


def test_every_note_starts_a_sound_of_its_pitch(config, cache):
    # One voice on a piano: at each onset, the energy at the label's pitch rises.
    config = dataclasses.replace(
        config, instrumentation="random", programs=(0,), max_parts=1, keep_drums=False, num_submixes=0
    )
    (recording,) = synthetic_recordings(config, "test", 1, cache_dir=cache)
    samples = recording.load_audio(RATE)
    assert abs(len(samples) / RATE - (recording.notes.end_seconds + config.tail_seconds)) < 0.01
    rises = []
    for onset, pitch in zip(recording.notes.onset_seconds, recording.notes.pitch, strict=True):
        tone = np.exp(-2j * np.pi * 440 * 2 ** ((int(pitch) - 69) / 12) * np.arange(1280) / RATE)
        start = round(onset * RATE)
        before = np.pad(samples, (1280, 1280))[start : start + 1280]
        after = np.pad(samples, (1280, 1280))[start + 1280 : start + 2560]
        rises.append(abs(after @ tone) > 2 * abs(before @ tone))
    assert np.mean(rises) > 0.8
    assert len(rises) >= 8


def test_submixes_and_stems_add_up(config, cache):
    config = dataclasses.replace(config, num_submixes=2, include_stems=True)
    pieces, _ = synth.split_pieces(config, cache_dir=cache)
    (job, *_) = synth.make_jobs(config, "train", pieces["train"])
    recordings = {r.id.removeprefix(job.id): r for r in synth.make_recordings(job)}
    stems = [r for suffix, r in recordings.items() if suffix.startswith("+stem")]
    assert set(recordings) == {"", "+mix1", "+mix2", *(f"+stem{i}" for i in range(len(stems)))}
    full = recordings[""].notes
    assert all(len(stem.notes.instruments) == 1 for stem in stems)
    assert full == synth.Notes.concatenate([stem.notes for stem in stems]).sorted()
    for suffix in ("+mix1", "+mix2"):
        mix = recordings[suffix].notes
        assert 0 < len(mix.instruments) < len(stems)
        chosen = [stem.notes for stem in stems if stem.notes.instruments[0] in mix.instruments]
        assert mix == synth.Notes.concatenate(chosen).sorted()
    lengths = {r.audio.num_samples for r in recordings.values()}
    assert len(lengths) == 1


def test_more_recordings_than_pieces_are_other_arrangements(tmp_path, config, cache):
    config = dataclasses.replace(config, num_train=0, num_validation=0, num_test=7, num_submixes=0)
    prepare_synth(config, tmp_path, workers=0, cache_dir=cache)
    found = list(read_recordings(tmp_path, "test"))
    pieces = {r.extra["piece"] for r in found}
    assert len(found) == len({r.id for r in found}) == 7 > len(pieces)
    # All pieces come once before any comes again.
    assert [r.extra["rendition"] for r in found] == sorted(r.extra["rendition"] for r in found)
    same = [r for r in found if r.extra["piece"] == found[0].extra["piece"]]
    assert same[0].notes != same[1].notes
    assert [p.name for p in tmp_path.glob("*train*")] == []


def test_finished_splits_are_left_alone(tmp_path, config, cache):
    prepare_synth(config, tmp_path, workers=0, cache_dir=cache)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "synth-test.manifest.json").unlink()
    made = []
    real = synth.make_recordings
    source = dataclasses.replace(synth.SOURCE, make=lambda job: made.append(job.split) or real(job))
    prepare(source, config, (), tmp_path, workers=0, cache_dir=cache)
    assert set(made) == {"test"}
    after = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {path for path in before if before[path] == after[path]} == {
        path for path in before if "-test" not in path.name
    }


def test_another_configuration_does_not_overwrite_by_accident(tmp_path, config, cache):
    prepare_synth(config, tmp_path, workers=0, cache_dir=cache)
    other = dataclasses.replace(config, max_seconds=3.0)
    with pytest.raises(PrepareError, match=r"max_seconds was 4\.0, is 3\.0"):
        prepare_synth(other, tmp_path, workers=0, cache_dir=cache)
    manifests = prepare_synth(other, tmp_path, workers=0, cache_dir=cache, overwrite=True)
    assert manifests["train"].config["max_seconds"] == 3.0


def test_a_broken_file_among_many_is_skipped_and_listed(tmp_path, config, make_tune):
    folder = tmp_path / "music"
    folder.mkdir()
    for seed in range(8):
        write_midi(make_tune(seed), folder / f"tune{seed}.mid")
    (folder / "broken.mid").write_bytes(b"not MIDI")
    config = dataclasses.replace(config, collections=(str(folder),))
    with pytest.raises(PieceError, match=r"broken\.mid"):
        prepare_synth(config, tmp_path / "out", workers=0, cache_dir=tmp_path / "cache", strict=True)
    manifests = prepare_synth(config, tmp_path / "out", workers=0, cache_dir=tmp_path / "cache")
    (skipped,) = manifests["train"].skipped
    assert skipped.item == "broken.mid"
    assert "MIDI" in skipped.reason


def test_music_without_enough_notes_is_skipped_or_fails(tmp_path, config, cache):
    config = dataclasses.replace(config, min_notes=45, max_seconds=60.0, keep_drums=False, max_parts=1)
    with pytest.raises(PrepareError, match=r"None of .* could be used; the first: .*min_notes is 45"):
        prepare_synth(config, tmp_path / "out", workers=0, cache_dir=cache)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(PrepareError, match="min_notes is 45"):
        prepare_synth(config, tmp_path / "out", workers=0, cache_dir=cache, strict=True)


def test_manifest_counts_what_is_there(tmp_path, config, cache):
    manifest = prepare_synth(config, tmp_path, workers=0, cache_dir=cache)["train"]
    found = list(read_recordings(tmp_path, "train"))
    assert manifest.num_recordings == len(found) == 12
    assert manifest.num_notes == sum(len(r.notes) for r in found)
    assert manifest.seconds == pytest.approx(sum(len(r.load_audio(RATE)) for r in found) / RATE)
    assert manifest.programs["drums"] == sum(int(r.notes.is_drum.sum()) for r in found)
    assert manifest.num_chunks == 12
    assert manifest.config["collections"] == list(config.collections)


def test_recordings_in_memory_are_those_on_disk(tmp_path, config, cache):
    config = dataclasses.replace(config, augmentation=AugmentationConfig(), num_submixes=0)
    prepare_synth(config, tmp_path, workers=0, cache_dir=cache)
    in_memory = synthetic_recordings(config, "validation", 1, cache_dir=cache)
    on_disk = read_recordings(tmp_path, "validation")
    assert len(in_memory) == 1
    assert in_memory[0].id == on_disk[0].id
    np.testing.assert_allclose(in_memory[0].notes.onset_seconds, on_disk[0].notes.onset_seconds)
    samples = in_memory[0].load_audio(RATE)
    np.testing.assert_allclose(samples, on_disk[0].load_audio(RATE), atol=1.01 / 32768)
    np.testing.assert_array_equal(samples, in_memory[0].load_audio(RATE))


def test_every_stem_gets_one_of_the_soundfonts(config, cache, tmp_path):
    from mt3.audio.synthesis import default_soundfont

    copies = [tmp_path / "a.sf2", tmp_path / "b.sf2"]
    for copy in copies:
        copy.symlink_to(default_soundfont())
    config = dataclasses.replace(config, soundfonts=tuple(map(str, copies)))
    pieces, _ = synth.split_pieces(config, cache_dir=cache)
    chosen = [
        (soundfont.name, round(gain, 6))
        for job in synth.make_jobs(config, "train", pieces["train"])
        for _, soundfont, gain in synth.stem_notes(job)
    ]
    assert {name for name, _ in chosen} == {"a.sf2", "b.sf2"}
    assert len({gain for _, gain in chosen}) == len(chosen)
    assert all(10 ** (-8 / 20) <= gain <= 1 for _, gain in chosen)


def test_a_missing_soundfont_is_told_before_any_work(tmp_path, config, cache):
    config = dataclasses.replace(config, soundfonts=(str(tmp_path / "missing.sf2"),))
    with pytest.raises(ValueError, match=r"missing\.sf2"):
        prepare_synth(config, tmp_path / "out", workers=0, cache_dir=cache)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"collections": ()}, "collections is empty"),
        ({"test_fraction": 0.6, "validation_fraction": 0.5}, "leave music to train on"),
        ({"instrumentation": "x"}, "choose one of"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SynthConfig(**changes)


def test_lists_become_tuples():
    assert SynthConfig(programs=[0, 1], collections=["x"]) == SynthConfig(programs=(0, 1), collections=("x",))


def test_registry_finds_the_source():
    assert find_source("synth") is synth.SOURCE
    assert synth.SOURCE.config is SynthConfig
    with pytest.raises(ValueError, match="'slak' is unknown; choose one of synth, slakh"):
        find_source("slak")


def test_preparation_needs_no_tensorflow(tmp_path, midi_folder):
    script = f"""
import json, sys
for name in ("tensorflow", "seqio", "apache_beam", "note_seq", "music21"):
    sys.modules[name] = None
from mt3.data.prepare import prepare
from mt3.data.sources.synth import SOURCE, SynthConfig
music = ({str(midi_folder)!r},)
config = SynthConfig(collections=music, num_train=1, num_validation=0, num_test=0, max_seconds=2.0)
manifests = prepare(SOURCE, config, (), {str(tmp_path / "out")!r}, workers=0, cache_dir={str(tmp_path)!r})
print(json.dumps([manifests["train"].num_recordings, "jax" in sys.modules]))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [1, False]


@pytest.mark.parametrize("workers", [0, 2])
def test_ordered_map_keeps_the_order(workers):
    items = list(range(50))
    assert list(parallel.ordered_map(abs, items, workers=workers, chunk_size=3)) == items
    assert list(parallel.ordered_map(abs, [], workers=workers)) == []
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_ordered_map_passes_errors_on_and_ends_its_workers(workers):
    with pytest.raises(TypeError):
        list(parallel.ordered_map(abs, [1, "two", 3], workers=workers))
    assert not multiprocessing.active_children()
