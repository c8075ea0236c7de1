"""A researcher's own recordings."""

import json
import pickle
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mt3.audio.io import write_audio
from mt3.data.manifests import SkippedItem
from mt3.data.sources.base import PlanOptions, SourceError
from mt3.data.sources.folder import SOURCE, FolderConfig, draw_splits, read_split_file
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes

REAL = Path("/work/shared/data/real")
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is not there")

# At the ticks of a MIDI file, 2000 a second, so that they can be compared exactly.
BAND = Notes.from_rows(
    [
        (0.1235, 0.5115, 60, 80, 0, False),
        (0.3145, 1.2175, 43, 71, 33, False),
        (0.3145, 0.4145, 36, 100, 0, True),
        (0.7215, 0.9135, 60, 64, 0, False),
    ]
)
VOICE = Notes.from_rows([(0.2137, 0.6291, 57, 0, 52, False), (0.6313, 1.1719, 59, 0, 52, False)])
GUITAR = Notes.from_rows([(0.1173, 0.9137, 52, 0, 0, False), (0.3391, 0.8713, 64, 0, 0, False)])


def write_sound(path, seconds=1.5, rate=22050):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.2, 0.2, round(seconds * rate)).astype(np.float32)
    write_audio(path, samples, rate)


def write_csv(path, notes, header="onset_s,offset_s,midi_pitch,velocity,program,is_drum"):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = (notes.onset_seconds, notes.offset_seconds, notes.pitch, notes.velocity, notes.program)
    rows = [[*map(str, row)] for row in zip(*(column.tolist() for column in columns), strict=True)]
    lines = [
        ",".join([*row[:3], "" if row[3] == "0" else row[3], row[4], str(int(is_drum))])
        for row, is_drum in zip(rows, notes.is_drum, strict=True)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")


def write_jams(path, notes):
    data = [
        {"time": onset, "duration": offset - onset, "value": pitch + 0.2, "confidence": None}
        for onset, offset, pitch in zip(
            *(c.tolist() for c in (notes.onset_seconds, notes.offset_seconds, notes.pitch)), strict=True
        )
    ]
    path.write_text(json.dumps({"annotations": [{"namespace": "note_midi", "data": data}]}))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Five recordings in subfolders, of all kinds of labels."""
    folder = tmp_path_factory.mktemp("recordings")
    write_sound(folder / "band" / "live.wav")
    write_midi(BAND, folder / "band" / "live.mid")
    write_sound(folder / "band" / "studio.take 2.FLAC")
    write_midi(BAND, folder / "band" / "studio.take 2.MIDI")
    write_sound(folder / "voice.ogg")
    write_csv(folder / "voice.notes.csv", VOICE)
    write_sound(folder / "voice2.flac")
    write_csv(folder / "voice2.csv", VOICE, "onset_seconds,offset_seconds,pitch,velocity,program,is_drum")
    write_sound(folder / "solo" / "guitar.mp3")
    write_jams(folder / "solo" / "guitar.jams", GUITAR)
    return folder


EXPECTED = {
    "band/live": BAND,
    "band/studio.take 2": BAND,
    "solo/guitar": GUITAR,
    "voice": VOICE,
    "voice2": VOICE,
}
SPLITS = {
    "train": ["band/live", "solo/guitar", "voice2"],
    "validation": ["voice"],
    "test": ["band/studio.take 2"],
}


@pytest.fixture
def split_file(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(SPLITS))
    return str(path)


def plan(*inputs, **config):
    return SOURCE.plan(FolderConfig(**config), [str(given) for given in inputs], PlanOptions())


def ids(made):
    return {split: [item.id for item in items] for split, items in made.items.items()}


def make_all(made):
    """id -> recording."""
    items = [item for of in made.items.values() for item in of]
    return {
        item.id: recording for item in items for recording in SOURCE.make(pickle.loads(pickle.dumps(item)))
    }


def same_notes(found, expected):
    for column in ("pitch", "velocity", "program", "is_drum"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    np.testing.assert_allclose(found.onset_seconds, expected.onset_seconds, atol=1e-9)
    np.testing.assert_allclose(found.offset_seconds, expected.offset_seconds, atol=1e-9)


def test_audio_and_labels_of_one_name_are_a_recording(recordings, split_file):
    made = plan(recordings, dataset="mine", split_file=split_file, licence="CC0")
    assert made.dataset == "mine"
    assert ids(made) == SPLITS
    assert not made.skipped
    found = make_all(made)
    assert found.keys() == EXPECTED.keys()
    for id, recording in found.items():
        same_notes(recording.notes, EXPECTED[id].sorted())
        assert (recording.id, recording.dataset, recording.licence) == (id, "mine", "CC0")
        assert id in SPLITS[recording.split]
        assert abs(len(recording.load_audio(16000)) - 24000) < 2500  # MP3 pads
    assert found["voice"].extra == {"audio_file": "voice.ogg", "label_file": "voice.notes.csv"}


def test_archives_are_read_like_folders(recordings, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(recordings.rglob("*.*")):
            archive.write(path, path.relative_to(recordings))
    found = make_all(plan(tmp_path / "all.zip"))
    assert found.keys() == {f"all/{id}" for id in EXPECTED}
    for id, notes in EXPECTED.items():
        same_notes(found[f"all/{id}"].notes, notes.sorted())
    assert len(found["all/voice2"].load_audio(16000)) == 24000


def test_programs(recordings):
    found = make_all(plan(recordings, default_program=24))
    assert set(found["solo/guitar"].notes.program) == {24}
    assert set(found["voice"].notes.program) == {52}
    found = make_all(plan(recordings, program=26, default_program=24))
    assert found["band/live"].notes.instruments == [(26, False), (0, True)]
    assert found["solo/guitar"].notes.instruments == [(26, False)]


def test_what_has_no_partner_is_named(recordings, tmp_path):
    write_sound(tmp_path / "alone.wav")
    write_csv(tmp_path / "table.csv", VOICE)
    made = plan(recordings, tmp_path)
    assert sum(map(len, made.items.values())) == 5
    assert {skip.item: skip.reason for skip in made.skipped} == {
        "alone.wav": "there is no label file alone (.mid, .midi, .jams, .notes.csv, .csv)",
        "table.csv": "there is no audio file table (.wav, .flac, .mp3, .ogg, .aif, .aiff)",
    }
    assert all(skip.is_fault for skip in made.skipped)


def test_what_has_several_partners_is_named_and_can_be_chosen(tmp_path):
    for suffix in (".wav", ".flac"):
        write_sound(tmp_path / f"a{suffix}")
    write_csv(tmp_path / "a.csv", VOICE)
    write_sound(tmp_path / "b.wav")
    write_csv(tmp_path / "b.notes.csv", VOICE)
    write_midi(BAND, tmp_path / "b.mid")
    write_sound(tmp_path / "c.wav")
    write_csv(tmp_path / "c.csv", VOICE)
    made = plan(tmp_path)
    assert ids(made) == {"train": ["c"]}
    assert [(skip.item, skip.reason) for skip in made.skipped] == [
        ("a", "has several audio files (a.flac, a.wav); choose by FolderConfig.audio_pattern"),
        ("b", "has several label files (b.mid, b.notes.csv); choose by FolderConfig.labels"),
    ]
    assert set(make_all(plan(tmp_path, labels="csv"))) == {"b", "c"}
    midi = plan(tmp_path, labels="midi")
    assert set(make_all(midi)) == {"b"}
    wav = plan(tmp_path, labels="csv", audio_pattern="*.wav")
    assert set(make_all(wav)) == {"a", "b", "c"}
    only_c = plan(tmp_path, labels="csv", audio_pattern="c.*")
    assert set(make_all(only_c)) == {"c"}
    assert [skip.is_fault for skip in only_c.skipped] == [False, False]


def test_a_seeded_split_does_not_move_when_recordings_are_added():
    config = FolderConfig(validation_fraction=0.2, test_fraction=0.1)
    few = draw_splits([f"take{number}" for number in range(100)], config)
    many = draw_splits([f"take{number}" for number in range(2000)], config)
    assert all(many[id] == split for id, split in few.items())
    counts = Counter(many.values())
    # 2000 draws: 4 standard deviations.
    assert abs(counts["validation"] - 400) < 72
    assert abs(counts["test"] - 200) < 54
    other = draw_splits(many, FolderConfig(validation_fraction=0.2, test_fraction=0.1, seed=1))
    assert 0.4 < np.mean([other[id] == split for id, split in many.items()]) < 0.7
    # Held-out recordings stay held out when more are taken for validation.
    more = draw_splits(many, FolderConfig(validation_fraction=0.4, test_fraction=0.1))
    assert {id for id, split in many.items() if split == "test"} == {
        i for i, s in more.items() if s == "test"
    }
    assert {id for id, split in many.items() if split == "validation"} < {
        id for id, split in more.items() if split == "validation"
    }


def test_small_sets_have_something_to_train_on():
    for number in range(20):
        for size in (1, 2, 3):
            names = [f"{number}.{take}" for take in range(size)]
            split_of = draw_splits(names, FolderConfig(validation_fraction=0.5, test_fraction=0.49))
            assert list(split_of.values()).count("train") >= 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.csv", "split,id,remark\ntrain,a/b,x\nvalidation, c.WAV,\ntest,d e,\n"),
        ("s.json", '{"a/b": "train", "c": "validation", "d e": "test"}'),
        ("s.json", '{"train": ["a/b.flac"], "validation": ["c"], "test": ["d e"]}'),
    ],
)
def test_forms_of_split_files(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_split_file(tmp_path / name) == {"a/b": "train", "c": "validation", "d e": "test"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.csv", "id,split\na,dev\n", "puts 'a' in 'dev'; splits are train, validation, test"),
        ("s.csv", "id,split\na\n", "puts 'a' in ''"),
        ("s.csv", "a,train\n", "first line must name the columns id and split"),
        ("s.csv", "id,split\na,train\na.wav,test\n", "puts 'a' in 'train' and in 'test'"),
        ("s.json", '{"a": ["b"]}', "puts 'b' in 'a'"),
        ("s.json", '["a"]', "must be an object"),
        ("s.json", "{", "cannot be used"),
        ("missing.csv", None, "cannot be used: .*No such file"),
    ],
)
def test_split_files_that_cannot_be_are_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=message) as error:
        read_split_file(tmp_path / name)
    assert name in str(error.value)


def test_split_file_and_folder_are_compared(recordings, tmp_path):
    path = tmp_path / "splits.csv"
    path.write_text("id,split\nvoice,test\nband/live,train\nlost,train\nalone,train\n")
    write_sound(tmp_path / "alone.wav")
    made = plan(recordings, tmp_path, split_file=str(path))
    assert ids(made) == {"train": ["band/live"], "test": ["voice"]}
    unlisted = "the split file does not list it"
    # The split file lies in the input, and is no label file.
    assert list(made.skipped) == [
        SkippedItem("alone.wav", "there is no label file alone (.mid, .midi, .jams, .notes.csv, .csv)"),
        SkippedItem("band/studio.take 2", unlisted, is_fault=False),
        SkippedItem("solo/guitar", unlisted, is_fault=False),
        SkippedItem("voice2", unlisted, is_fault=False),
        SkippedItem("lost", "the split file lists it, but there is no such pair of audio and labels"),
    ]
    path.write_text("id,split\nother,test\n")
    with pytest.raises(SourceError, match=r"lists none of the 5 recordings, such as 'band/live'"):
        plan(recordings, split_file=str(path))


def test_configuration_tells_when_files_change(tmp_path):
    for id in ("a", "b"):
        write_sound(tmp_path / "in" / f"{id}.wav")
        write_csv(tmp_path / "in" / f"{id}.csv", VOICE)
    first = plan(tmp_path / "in").config
    assert plan(tmp_path / "in").config == first
    assert str(tmp_path) not in json.dumps(first)
    (tmp_path / "in").rename(tmp_path / "moved")
    assert plan(tmp_path / "moved").config == first
    labels = tmp_path / "moved" / "a.csv"
    labels.write_text(labels.read_text().replace(",57,", ",56,"))
    assert plan(tmp_path / "moved").config != first


def test_broken_and_impossible_labels(tmp_path):
    for id in ("broken", "impossible", "partly", "silent"):
        write_sound(tmp_path / f"{id}.wav")
    header = "onset_s,offset_s,pitch\n"
    (tmp_path / "broken.mid").write_bytes(b"MThd")
    (tmp_path / "impossible.csv").write_text(f"{header}1.0,1.0,60\n-1,1,60\n")
    (tmp_path / "partly.csv").write_text(f"{header}1.0,1.0,60\n0.5,1,60\n")
    (tmp_path / "silent.csv").write_text(header)
    items = {item.id: item for of in plan(tmp_path).items.values() for item in of}
    with pytest.raises(ValueError, match=r"broken\.mid is a broken MIDI file"):
        SOURCE.make(items["broken"])
    with pytest.raises(ValueError, match=r"impossible\.csv: none .* \(1 negative_onset, 1 zero_length\)"):
        SOURCE.make(items["impossible"])
    (partly,) = SOURCE.make(items["partly"])
    assert (len(partly.notes), partly.extra["corrections"]) == (1, {"zero_length": 1})
    (silent,) = SOURCE.make(items["silent"])
    assert len(silent.notes) == 0
    assert "corrections" not in silent.extra


def test_input_without_recordings_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"holds no audio file .*\.wav.* beside a label file"):
        plan(tmp_path)
    write_sound(tmp_path / "x.wav")
    with pytest.raises(SourceError, match=r"\(\.mid, \.midi\)\. x\.wav: there is no label file x"):
        plan(tmp_path, labels="midi")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dataset": "a/b"}, "letters, digits"),
        ({"labels": "xml"}, "choose auto, midi, jams, csv"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "leave recordings to train on"),
        ({"test_fraction": -0.1}, "0 or more"),
        ({"program": 128}, r"program is 128; it must be 0\.\.127"),
    ],
)
def test_configurations_that_cannot_be_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        FolderConfig(**config)


@needs_real
def test_real_recordings():
    made = plan(REAL, labels="csv")
    names = sorted(REAL.glob("*/*.notes.csv"))
    found = make_all(made)
    assert set(found) == {str(path.relative_to(REAL)).removesuffix(".notes.csv") for path in names}
    assert [skip.item for skip in made.skipped] == ["MANIFEST.csv"]
    for id, recording in found.items():
        table = np.genfromtxt(REAL / f"{id}.notes.csv", delimiter=",", names=True)
        table = np.nan_to_num(table.view((float, 6)) if table.ndim else table)
        order = np.lexsort((table[:, 1], table[:, 5], table[:, 4], table[:, 2], table[:, 0]))
        notes = recording.notes
        columns = (notes.onset_seconds, notes.offset_seconds, notes.pitch, notes.velocity, notes.program)
        assert "corrections" not in recording.extra
        np.testing.assert_array_equal(np.stack([*columns, notes.is_drum], 1), table[order])
        assert recording.audio.source == REAL / f"{id}.flac"
    sample = found["madmom_stereo_sample/stereo_sample"]
    assert sample.notes.end_seconds < len(sample.load_audio(16000)) / 16000 < 5
    both = plan(REAL)
    assert [skip.item for skip in both.skipped] == ["GuitarSet/00_BN1-129-Eb_comp_mic", "MANIFEST.csv"]


def test_round_trip(check_round_trip, recordings, split_file):
    expected = {split: {id: EXPECTED[id] for id in of} for split, of in SPLITS.items()}
    config = FolderConfig(dataset="mine", split_file=split_file, licence="CC0")
    check_round_trip("folder", [str(recordings)], expected, config)
