"""MusicNet and MusicNetEM in miniature, and the listing of all 330 recordings."""

import csv
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from mt3.data.prepare import prepare
from mt3.data.sources import musicnet, musicnet_em
from mt3.data.sources.base import PlanOptions, SourceError
from mt3.symbolic.notes import Notes

LISTING = Path(__file__).parents[2] / "golden" / "listings" / "musicnet.json"
VALIDATION = [1733, 1765, 1790, 1818, 2160, 2198, 2289, 2300, 2308, 2315, 2336, 2466, 2477, 2504, 2611]
TEST = [1729, 1776, 1813, 1893, 2118, 2186, 2296, 2431, 2432, 2487, 2497, 2501, 2507, 2537, 2621]
WITHOUT_EM_LABELS = [2194, 2211, 2227, 2230, 2292, 2305, 2310]
COLUMNS = ("start_time", "end_time", "instrument", "note", "start_beat", "end_beat", "note_value")
# General MIDI, from 0: violin, cello, bassoon, harpsichord.
PROGRAMS = (40, 42, 70, 6)
# As published: 1759 and 2303 are in the test folders. id -> folder, split.
RECORDINGS = {
    "1727": ("train", "train"),
    "1759": ("test", "train"),
    "1790": ("train", "validation"),
    "2118": ("train", "test"),
    "2303": ("test", "train"),
}


def label_rows(seed, limit=120_000):
    """Notes of different pitches: (start, end) in samples at 44.1 kHz, program from 0, pitch."""
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, limit - 20_000, 16))
    end = start + rng.integers(2000, 20_000, 16)
    return np.stack([start, end, rng.choice(PROGRAMS, 16), rng.permutation(60)[:16] + 30], axis=1)


def musicnet_notes(seed):
    start, end, program, pitch = label_rows(seed).T
    zero = np.zeros(len(start))
    return Notes(start / 44100, end / 44100, pitch, zero, program, zero).sorted()


def write_labels(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for start, end, program, pitch in rows:
            writer.writerow([start, end, program + 1, pitch, 4.0, 0.48, "Dotted Eighth"])


def build_musicnet(folder, recordings=RECORDINGS):
    """The published tree; returns {split: {id: notes}}."""
    expected = {}
    for seed, (id, (part, split)) in enumerate(recordings.items()):
        for kind in ("data", "labels"):
            (folder / f"{part}_{kind}").mkdir(parents=True, exist_ok=True)
        # One at a rate of its own: the labels count samples at 44.1 kHz all the same.
        rate = 22050 if seed == 1 else 44100
        samples = np.random.default_rng(seed).uniform(-0.5, 0.5, rate * 3)
        soundfile.write(folder / f"{part}_data" / f"{id}.wav", samples, rate)
        write_labels(folder / f"{part}_labels" / f"{id}.csv", label_rows(seed).tolist())
        expected.setdefault(split, {})[id] = musicnet_notes(seed)
    return expected


def em_notes(seed):
    """Aligned anew: other times, and velocities."""
    start, end, program, pitch = label_rows(seed + 100).T // np.array([[50], [50], [1], [1]])
    zero = np.zeros(len(start))
    return Notes(start / 960, end / 960, pitch, 64 + zero, program, zero).sorted()


def write_em_midi(path, seed):
    """A track an instrument, each with its program change."""
    rows = label_rows(seed + 100) // np.array([50, 50, 1, 1])
    midi = mido.MidiFile(ticks_per_beat=480)
    for channel, program in enumerate(np.unique(rows[:, 2]).tolist()):
        events = [(0, mido.Message("program_change", channel=channel, program=program))]
        for start, end, _, pitch in rows[rows[:, 2] == program].tolist():
            events.append((start, mido.Message("note_on", channel=channel, note=pitch, velocity=64)))
            events.append((end, mido.Message("note_off", channel=channel, note=pitch)))
        events.sort(key=lambda event: event[0])
        ticks = np.diff([0, *(tick for tick, _ in events)]).tolist()
        track = (message.copy(time=time) for time, (_, message) in zip(ticks, events, strict=True))
        midi.tracks.append(mido.MidiTrack(track))
    midi.save(path)


def build_em(folder, recordings=RECORDINGS):
    """MIDI files named in both ways; returns {split: {id: notes}}."""
    folder.mkdir(parents=True)
    expected = {}
    for seed, (id, (_, split)) in enumerate(recordings.items()):
        write_em_midi(folder / (f"{id}.mid" if seed % 2 else f"{id}_kv_465_{seed}.mid"), seed)
        expected.setdefault(split, {})[id] = em_notes(seed)
    return expected


def packed(folder, path):
    """The folder as an archive that holds it: zip or tar.gz."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, Path(folder.name) / file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            archive.add(folder, folder.name)
    return path


def plan(source, *inputs):
    return source.plan(source.config(), [str(given) for given in inputs], PlanOptions())


def ids(planned):
    return {split: [item.id for item in items] for split, items in planned.items.items()}


def skipped(planned):
    return {skip.item: skip.reason for skip in planned.skipped}


def test_musicnets_archive_goes_all_the_way(tmp_path, check_round_trip):
    expected = build_musicnet(tmp_path / "musicnet")
    archive = packed(tmp_path / "musicnet", tmp_path / "musicnet.tar.gz")
    manifests = check_round_trip("musicnet", [archive], expected)
    assert [recording.id for recording in manifests["train"].recordings] == ["1727", "1759", "2303"]
    programs = {str(program) for notes in expected["train"].values() for program, _ in notes.instruments}
    assert manifests["train"].programs.keys() == programs <= {"40", "42", "70", "6"}
    assert manifests["test"].licences[0].startswith("CC BY 4.0")


def test_musicnet_em_goes_all_the_way(tmp_path, check_round_trip):
    """The audio from one archive, the labels from another, MusicNet's own labels and MIDI files unused."""
    build_musicnet(tmp_path / "musicnet")
    unaligned = tmp_path / "musicnet" / "musicnet_midis" / "Mozart"
    build_em(unaligned, dict.fromkeys(reversed(RECORDINGS), ("", "")))
    archive = packed(tmp_path / "musicnet", tmp_path / "musicnet.tar.gz")
    expected = build_em(tmp_path / "musicnet_em")
    labels = packed(tmp_path / "musicnet_em", tmp_path / "musicnet_em.zip")
    manifests = check_round_trip("musicnet_em", [labels, archive], expected)
    assert "non-commercial" in manifests["train"].licences[0]
    item = plan(musicnet_em.SOURCE, archive, labels).items["test"][0]
    (recording,) = musicnet_em.SOURCE.make(pickle.loads(pickle.dumps(item)))
    assert set(recording.notes.velocity.tolist()) == {64}


def test_labels_count_samples_at_44100_hz(tmp_path):
    build_musicnet(tmp_path)
    item = plan(musicnet.SOURCE, tmp_path).items["train"][1]
    (recording,) = musicnet.SOURCE.make(item)
    assert recording.id == "1759"
    assert len(recording.load_audio(16000)) == 48000
    np.testing.assert_allclose(recording.notes.onset_seconds, musicnet_notes(1).onset_seconds, atol=1e-12)
    assert not recording.notes.velocity.any()
    assert recording.extra == {}


@pytest.fixture(scope="module")
def full_tree(tmp_path_factory):
    """All of MusicNet, names only."""
    folder = tmp_path_factory.mktemp("full")
    listing = json.loads(LISTING.read_text())
    for part, numbers in listing.items():
        for kind, suffix in (("data", "wav"), ("labels", "csv")):
            (folder / f"{part}_{kind}").mkdir()
            for number in numbers:
                (folder / f"{part}_{kind}" / f"{number}.{suffix}").touch()
    return folder, sorted(number for numbers in listing.values() for number in numbers)


def counts(planned):
    return {f"{planned.dataset}/{split}": len(items) for split, items in planned.items.items()}


def test_all_of_musicnet_is_split_as_published(full_tree):
    folder, numbers = full_tree
    found = plan(musicnet.SOURCE, folder)
    assert counts(found) == {"musicnet/train": 300, "musicnet/validation": 15, "musicnet/test": 15}
    assert counts(found) == dict(musicnet.SOURCE.published_counts)
    listed = ids(found)
    assert listed["validation"] == list(map(str, VALIDATION))
    assert listed["test"] == list(map(str, TEST))
    assert sorted(int(id) for of_split in listed.values() for id in of_split) == numbers
    assert not found.skipped


def test_all_of_musicnet_em_is_split_as_published(full_tree, tmp_path):
    folder, numbers = full_tree
    for number in numbers:
        if number not in WITHOUT_EM_LABELS:
            (tmp_path / f"{number}.mid").write_bytes(b"x")
    found = plan(musicnet_em.SOURCE, tmp_path, folder)
    assert counts(found) == {"musicnet_em/train": 293, "musicnet_em/validation": 15, "musicnet_em/test": 15}
    assert counts(found) == dict(musicnet_em.SOURCE.published_counts)
    assert ids(found)["validation"] == list(map(str, VALIDATION))
    assert ids(found)["test"] == list(map(str, TEST))
    assert skipped(found) == dict.fromkeys(map(str, WITHOUT_EM_LABELS), "MusicNetEM has no labels of it")
    assert not any(skip.is_fault for skip in found.skipped)


def test_incomplete_recordings_are_named(tmp_path):
    build_musicnet(tmp_path)
    (tmp_path / "train_data" / "1727.wav").unlink()
    (tmp_path / "train_labels" / "2118.csv").unlink()
    found = plan(musicnet.SOURCE, tmp_path)
    assert ids(found) == {"train": ["1759", "2303"], "validation": ["1790"]}
    assert skipped(found) == {
        "1727": "there is no audio file 1727.wav",
        "2118": "there is no labels file 2118.csv",
    }


def test_recordings_without_one_midi_file_are_named(tmp_path):
    build_musicnet(tmp_path / "musicnet", {**RECORDINGS, "2194": ("train", "train")})
    labels = tmp_path / "em"
    build_em(labels)
    (labels / "1759.mid").rename(labels / "1800.mid")
    write_em_midi(labels / "1790_other.mid", 9)
    packed(labels, tmp_path / "musicnet_em.zip")  # beside what it unpacked to: no second file
    found = plan(musicnet_em.SOURCE, tmp_path)
    assert ids(found) == {"train": ["1727", "2303"], "test": ["2118"]}
    reasons = skipped(found)
    assert reasons.keys() == {"1759", "1790", "1800", "2194"}
    assert reasons["1759"] == "there is no MIDI file 1759.mid or 1759_*.mid"
    assert reasons["1790"].startswith("it has 2 MIDI files (")
    assert "1790_other.mid" in reasons["1790"]
    assert reasons["1800"] == "there is no audio file 1800.wav"
    assert {skip.item for skip in found.skipped if not skip.is_fault} == {"2194"}


def test_what_is_no_musicnet_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"is no MusicNet: .*\(0 have\) .*name musicnet\.tar\.gz"):
        plan(musicnet.SOURCE, tmp_path)
    build_musicnet(tmp_path / "musicnet")
    build_em(tmp_path / "musicnet_midis" / "Mozart")
    with pytest.raises(
        SourceError, match=r"\(there are 5\), and MusicNetEM's labels, .*\(there are 0; the un"
    ):
        plan(musicnet_em.SOURCE, tmp_path)


def test_broken_files_are_skipped_by_name(tmp_path):
    build_musicnet(tmp_path / "musicnet")
    (tmp_path / "musicnet" / "train_labels" / "1727.csv").write_text("start_time,end_time\n1,2\n")
    (tmp_path / "musicnet" / "test_data" / "2303.wav").write_bytes(b"RIFF no more")
    options = {"workers": 0, "splits": ["train"]}
    config = musicnet.MusicNetConfig()
    manifest = prepare(musicnet.SOURCE, config, [tmp_path], tmp_path / "a", **options)["train"]
    assert [recording.id for recording in manifest.recordings] == ["1759"]
    reasons = {skip.item: skip.reason for skip in manifest.skipped}
    assert reasons.keys() == {"1727", "2303"}
    assert "1727.csv: the header line has no instrument, no note." in reasons["1727"]
    assert "2303.wav is no WAV" in reasons["2303"]

    build_em(tmp_path / "em")
    (tmp_path / "em" / "1759.mid").write_bytes(b"MThd no more")
    labels = packed(tmp_path / "em", tmp_path / "em.zip")
    inputs = [labels, tmp_path / "musicnet"]
    config = musicnet_em.MusicNetEmConfig()
    manifest = prepare(musicnet_em.SOURCE, config, inputs, tmp_path / "b", **options)["train"]
    assert [recording.id for recording in manifest.recordings] == ["1727"]
    reasons = {skip.item: skip.reason for skip in manifest.skipped}
    assert reasons.keys() == {"1759", "2303"}
    assert reasons["1759"].startswith(f"{labels}!em/1759.mid: ")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,x,1,60", r"line 3: '0, x, 1, 60' lacks whole numbers for start_time, end_time, instrument, note"),
        ("0,10,1", "line 3: '0, 10, 1' lacks whole numbers"),
        ("0,10,0,60", r"line 3: instrument is 0; it must be 1\.\.128"),
        ("0,10,129,60", "line 3: instrument is 129"),
    ],
)
def test_broken_labels_are_named(tmp_path, row, message):
    path = tmp_path / "1727.csv"
    path.write_text(f"start_time,end_time,instrument,note\n0,10,1,60\n{row}\n")
    with pytest.raises(ValueError, match=message) as error:
        musicnet.read_labels(path)
    assert str(path) in str(error.value)


def test_notes_that_cannot_be_are_dropped_and_counted(tmp_path):
    path = tmp_path / "1727.csv"
    rows = [
        (441, 882, 40, 60),
        (441, 441, 40, 61),
        (882, 441, 40, 62),
        (-1, 441, 40, 63),
        (441, 882, 40, 128),
    ]
    write_labels(path, rows)
    notes, dropped = musicnet.read_labels(path)
    assert notes == Notes.from_rows([(0.01, 0.02, 60, 0, 40, False)])
    assert dropped == {"zero_length": 2, "negative_onset": 1, "out_of_range": 1}


def test_labels_without_notes_are_refused(tmp_path):
    build_musicnet(tmp_path, {"1727": ("train", "train")})
    write_labels(tmp_path / "train_labels" / "1727.csv", [])
    with pytest.raises(ValueError, match=r"1727\.csv has no notes"):
        list(musicnet.SOURCE.make(plan(musicnet.SOURCE, tmp_path).items["train"][0]))
