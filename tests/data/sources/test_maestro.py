"""MAESTRO in miniature, as zips, folders and Google's TFRecords; and the listing of the whole of v3."""

import csv
import json
import os
import pickle
import struct
import zipfile
from collections import Counter
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from mt3.data import tfrecords
from mt3.data.prepare import prepare
from mt3.data.sources.base import PlanOptions, SourceError
from mt3.data.sources.maestro import SOURCE, MaestroConfig
from mt3.data.tfrecords import encode_example, frame_record
from mt3.symbolic.note_sequence_proto import note_sequence_class
from mt3.symbolic.notes import Notes

SAMPLE = Path("/work/shared/data/layouts/maestro")
LISTING = Path(__file__).parents[2] / "golden" / "listings" / "maestro.json"
COLUMNS = (
    "canonical_composer",
    "canonical_title",
    "split",
    "year",
    "midi_filename",
    "audio_filename",
    "duration",
)
TICKS_PER_SECOND = 960
# id, split, composer, title
RECORDINGS = (
    ("2018/MIDI-Unprocessed_Chamber3_MID--AUDIO_10_R3_2018_wav--1", "train", "Alban Berg", "Sonata Op. 1"),
    ("2004/MIDI-Unprocessed_SMF_02_R1_2004_01-05", "test", "Frédéric Chopin", "Études, Op. 10"),
    ("2018/MIDI-Unprocessed_Recital1-3_wav--2", "train", "Bach / Busoni", '"Ich ruf\' zu Dir", BWV'),
    ("2011/MIDI-Unprocessed_15_R1_2011_MID--AUDIO_R1-D6_Track09", "validation", "A. Scriabin", "№ 5"),
)


def performance(seed):
    """Notes of different pitches (onset, offset, pitch, velocity), a pedal (press, release); in ticks."""
    rng = np.random.default_rng(seed)
    onset = rng.integers(0, 2000, 20)
    rows = np.stack([onset, onset + rng.integers(40, 500, 20), rng.permutation(88)[:20] + 21], axis=1)
    return np.concatenate([rows, rng.integers(1, 128, (20, 1))], axis=1), (700, 1501)


def expected_notes(seed):
    """What a performance sounds like: notes that are let go while the pedal is down last to its release."""
    rows, (press, release) = performance(seed)
    onset, offset, pitch, velocity = rows.T
    offset = np.where((offset >= press) & (offset < release), release, offset)
    zero = np.zeros(len(rows))
    return Notes(onset / TICKS_PER_SECOND, offset / TICKS_PER_SECOND, pitch, velocity, zero, zero).sorted()


def write_performance(path, seed):
    """As MAESTRO's MIDI files are: one channel, here with a program that must not matter."""
    rows, (press, release) = performance(seed)
    events = [(0, mido.Message("program_change", program=5))]
    for tick, value in ((press, 127), (release, 0)):
        events.append((tick, mido.Message("control_change", control=64, value=value)))
    for onset, offset, pitch, velocity in rows.tolist():
        events.append((onset, mido.Message("note_on", note=pitch, velocity=velocity)))
        events.append((offset, mido.Message("note_on", note=pitch, velocity=0)))
    events.sort(key=lambda event: event[0])
    ticks = np.diff([0, *(tick for tick, _ in events)]).tolist()
    track = mido.MidiTrack(message.copy(time=time) for time, (_, message) in zip(ticks, events, strict=True))
    mido.MidiFile(ticks_per_beat=TICKS_PER_SECOND // 2, tracks=[track]).save(path)


def wav_samples(seed):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (44100 * 3, 2))


def metadata_rows(recordings=RECORDINGS):
    return [
        dict(zip(COLUMNS, (composer, title, split, int(id[:4]), f"{id}.midi", f"{id}.wav", 2.5), strict=True))
        for id, split, composer, title in recordings
    ]


def write_metadata(folder, rows, form, version=3):
    path = folder / f"maestro-v{version}.0.0.{form.partition(' ')[0]}"
    if form == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        return
    table = rows
    if form == "json of columns":
        table = {column: {str(i): row[column] for i, row in enumerate(rows)} for column in COLUMNS}
    path.write_text(json.dumps(table), encoding="utf-8")


def build(folder, forms=("csv", "json of columns"), version=3):
    """An extracted download; returns {split: {id: notes}}."""
    expected = {}
    for seed, (id, split, *_) in enumerate(RECORDINGS):
        (folder / id).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{id}.wav", wav_samples(seed), 44100)
        write_performance(folder / f"{id}.midi", seed)
        expected.setdefault(split, {})[id] = expected_notes(seed)
    for form in forms:
        write_metadata(folder, metadata_rows(), form, version)
    return expected


def zipped(folder, path):
    """The folder as an archive that holds it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(folder.name) / file.relative_to(folder))
    return path


def plan(*inputs, **config):
    return SOURCE.plan(MaestroConfig(**config), [str(given) for given in inputs], PlanOptions())


def only_recording(item):
    (recording,) = SOURCE.make(item)
    return recording


def ids(planned):
    return {split: [item.id for item in items] for split, items in planned.items.items()}


EXPECTED_IDS = {
    split: [id for id, of, *_ in RECORDINGS if of == split] for split in ("train", "validation", "test")
}


def test_published_zip_goes_all_the_way(tmp_path, check_round_trip):
    folder = tmp_path / "maestro-v3.0.0"
    expected = build(folder)
    archive = zipped(folder, tmp_path / "maestro-v3.0.0.zip")
    manifests = check_round_trip("maestro", [archive], expected)
    assert manifests["train"].name == "maestrov3"
    assert manifests["train"].config == {"version": 3, "layout": "files"}
    assert manifests["test"].programs == {"0": 20}
    assert manifests["train"].licences == ("CC BY-NC-SA 4.0",)


def test_pedal_and_velocities_are_the_performers(tmp_path):
    build(tmp_path)
    item = pickle.loads(pickle.dumps(plan(tmp_path).items["test"][0]))
    recording = only_recording(item)
    assert recording.notes.velocity.tolist() == expected_notes(1).velocity.tolist()
    np.testing.assert_allclose(recording.notes.offset_seconds, expected_notes(1).offset_seconds, atol=1e-9)
    rows, _ = performance(1)
    # The pedal matters here: some notes are let go well before they end.
    lengthened = recording.notes.offset_seconds[np.argsort(recording.notes.pitch)]
    assert (lengthened > rows[np.argsort(rows[:, 2]), 1] / TICKS_PER_SECOND + 0.02).sum() >= 3
    assert not recording.notes.program.any()
    assert recording.extra == {"composer": "Frédéric Chopin", "title": "Études, Op. 10", "year": 2004}
    assert (recording.dataset, recording.split) == ("maestrov3", "test")
    assert len(recording.load_audio(16000)) == 48000


@pytest.mark.parametrize("form", ["csv", "json of rows", "json of columns"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_all_forms_of_metadata(tmp_path, form, version):
    build(tmp_path, [form], version)
    found = plan(tmp_path)
    assert found.dataset == f"maestrov{version}"
    assert ids(found) == EXPECTED_IDS
    titles = {item.id: (item.composer, item.title) for items in found.items.values() for item in items}
    assert titles == {id: (composer, title) for id, _, composer, title in RECORDINGS}
    assert {item.year for item in found.items["train"]} == {2018}


def test_all_of_version_3_is_listed(tmp_path):
    """Names and splits are the published ones, titles made up to be hard to quote."""
    listing = json.loads(LISTING.read_text())
    recordings = [
        (f"{year}/{name}", split, f"Composer {number % 60}, the {number}th", f'"{name}", №\u2028{number}; \\')
        for split, years in listing.items()
        for year, names in years.items()
        for number, name in enumerate(names)
    ]
    np.random.default_rng(0).shuffle(recordings)
    for id, *_ in recordings:
        (tmp_path / id).parent.mkdir(exist_ok=True)
        (tmp_path / f"{id}.wav").touch()
        (tmp_path / f"{id}.midi").touch()
    rows = metadata_rows(recordings)
    for form in ("csv", "json of rows", "json of columns"):
        write_metadata(tmp_path, rows, form)
        found = plan(tmp_path)
        assert {split: len(items) for split, items in found.items.items()} == {
            "train": 962,
            "validation": 137,
            "test": 177,
        }
        assert not found.skipped
        assert {f"{found.dataset}/{split}": len(items) for split, items in found.items.items()} == dict(
            SOURCE.published_counts
        )
        listed = [item for items in found.items.values() for item in items]
        assert all(item.audio and item.midi for item in listed)
        fields = {(item.id, item.split, item.composer, item.title) for item in listed}
        assert fields == {tuple(recording) for recording in recordings}
        years = Counter(item.year for item in listed)
        assert years == Counter(int(id[:4]) for id, *_ in recordings)
        next(tmp_path.glob("maestro-v3.0.0.*")).unlink()


def test_an_archive_beside_its_folder_is_one_dataset(tmp_path):
    """And so is the archive of the MIDI files alone, which has the metadata, too."""
    folder = tmp_path / "maestro-v3.0.0"
    build(folder)
    zipped(folder, tmp_path / "maestro-v3.0.0.zip")
    with zipfile.ZipFile(tmp_path / "a-maestro-v3.0.0-midi.zip", "w") as archive:
        for file in folder.rglob("*"):
            if file.suffix != ".wav":
                archive.write(file, file.relative_to(tmp_path))
    found = plan(tmp_path)
    assert ids(found) == EXPECTED_IDS
    assert all(item.audio and item.midi for items in found.items.values() for item in items)


def test_missing_files_are_told_when_they_are_needed(tmp_path):
    build(tmp_path)
    (tmp_path / f"{RECORDINGS[0][0]}.wav").unlink()
    (tmp_path / f"{RECORDINGS[1][0]}.midi").unlink()
    found = plan(tmp_path)
    assert ids(found) == EXPECTED_IDS
    with pytest.raises(ValueError, match=r"10_R3_2018_wav--1\.wav is missing; .*maestro-v3\.0\.0\.csv lists"):
        only_recording(found.items["train"][0])
    with pytest.raises(ValueError, match=r"01-05\.midi is missing"):
        only_recording(found.items["test"][0])
    assert len(only_recording(found.items["train"][1]).notes) == 20


def test_broken_files_are_skipped_by_name(tmp_path):
    folder = tmp_path / "maestro-v3.0.0"
    build(folder)
    first, second = (id for id, split, *_ in RECORDINGS if split == "train")
    (folder / f"{first}.midi").write_bytes(b"MThd no more")
    archive = zipped(folder, tmp_path / "maestro-v3.0.0.zip")
    options = {"workers": 0, "splits": ["train"]}
    manifests = prepare(SOURCE, MaestroConfig(), [archive], tmp_path / "a", **options)
    assert [recording.id for recording in manifests["train"].recordings] == [second]
    (skip,) = manifests["train"].skipped
    assert skip.item == first
    assert f"{first}.midi: " in skip.reason
    assert "maestro-v3.0.0.zip" in skip.reason

    write_performance(folder / f"{first}.midi", 0)
    (folder / f"{second}.wav").write_bytes(b"RIFF no more")
    manifests = prepare(SOURCE, MaestroConfig(), [folder], tmp_path / "b", **options)
    assert [recording.id for recording in manifests["train"].recordings] == [first]
    assert f"{second}.wav is no WAV" in manifests["train"].skipped[0].reason


def test_of_several_versions_one_is_chosen(tmp_path):
    for version in (1, 3):
        build(tmp_path / f"maestro-v{version}.0.0", version=version)
    with pytest.raises(SourceError, match=r"holds MAESTRO v1, v3; choose one, .* MaestroConfig\.version = 3"):
        plan(tmp_path)
    assert plan(tmp_path, version=1).dataset == "maestrov1"
    assert plan(tmp_path, version=3).dataset == "maestrov3"
    with pytest.raises(SourceError, match=r"neither maestro-v2\.0\.0\.csv .*\(it holds v1, v3\)"):
        plan(tmp_path, version=2)
    with pytest.raises(ValueError, match="version is 4; it must be 1, 2 or 3"):
        MaestroConfig(version=4)


def test_what_is_no_maestro_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"is no MAESTRO: neither maestro-v\*\.csv"):
        plan(tmp_path)
    write_metadata(tmp_path, metadata_rows(), "csv")
    with pytest.raises(
        SourceError, match=r"MAESTRO v3 lists 4 recordings, but the \.wav and \.midi files of none"
    ):
        plan(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("csv", "a,b\n1,2\n", "recording 1 has no split and no midi_filename and no audio_filename"),
        ("csv", "split,midi_filename,audio_filename\ntrain,a.midi\n", "recording 1 has no audio_filename"),
        ("csv", "split,midi_filename,audio_filename\neval,a.midi,a.wav\n", "the unknown split 'eval'"),
        ("csv", "split,midi_filename,audio_filename\n" + 2 * "test,a.midi,a.wav\n", "lists a twice"),
        ("csv", b"split\n\xff\n", "is no metadata of MAESTRO .UnicodeDecodeError"),
        ("json", '[{"split": "train"', "is no metadata of MAESTRO .JSONDecodeError"),
        ("json", '{"split": {"0": "train"}}', "is no metadata of MAESTRO .KeyError: 'midi_filename'"),
        ("json", "[1]", "is no metadata of MAESTRO .TypeError"),
    ],
)
def test_broken_metadata_is_refused(tmp_path, name, content, message):
    path = tmp_path / f"maestro-v3.0.0.{name}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match=message) as error:
        plan(tmp_path)
    assert str(path) in str(error.value)


# Google's TFRecords


def tfrecord_payload(tmp_path, seed, id, notes=None):
    """An Example as Google's are: a WAV file and a NoteSequence with the pedal as it was moved."""
    soundfile.write(tmp_path / "x.wav", wav_samples(seed), 44100)
    rows, pedal = performance(seed)
    sequence = note_sequence_class()(id=id)
    for onset, offset, pitch, velocity in rows.tolist() if notes is None else notes:
        times = {"start_time": onset / TICKS_PER_SECOND, "end_time": offset / TICKS_PER_SECOND}
        sequence.notes.add(pitch=pitch, velocity=velocity, **times)
    for tick, value in zip(pedal, (127, 0), strict=True):
        sequence.control_changes.add(time=tick / TICKS_PER_SECOND, control_number=64, control_value=value)
    features = {"id": id, "audio": (tmp_path / "x.wav").read_bytes(), "velocity_range": b"\x08\x1e"}
    return encode_example({**features, "sequence": sequence.SerializeToString()})


def shard_name(split, index, count, version=3):
    return f"maestro-v{version}.0.0_ns_wav_{split}.tfrecord-{index:05d}-of-{count:05d}"


def build_tfrecords(folder, tmp_path, version=3):
    """Two shards to train, one to test; returns {split: {id: notes}}."""
    folder.mkdir(exist_ok=True)
    shards = {("train", 0, 2): [0, 1], ("train", 1, 2): [2], ("test", 0, 1): [3]}
    expected = {}
    for (split, index, count), seeds in shards.items():
        records = [frame_record(tfrecord_payload(tmp_path, seed, f"/id/piece{seed}")) for seed in seeds]
        (folder / shard_name(split, index, count, version)).write_bytes(b"".join(records))
        notes = {f"/id/piece{seed}": expected_notes(seed) for seed in seeds}
        expected.setdefault(split, {}).update(notes)
    return expected


def test_googles_tfrecords_go_all_the_way(tmp_path, check_round_trip):
    expected = build_tfrecords(tmp_path / "in", tmp_path)
    manifests = check_round_trip("maestro", [tmp_path / "in"], expected)
    assert manifests["train"].name == "maestrov3"
    assert [r.id for r in manifests["train"].recordings] == [f"/id/piece{seed}" for seed in range(3)]
    assert manifests["train"].config == {"version": 3, "layout": "tfrecords"}


def test_tfrecords_keep_velocities_and_name_their_record(tmp_path):
    build_tfrecords(tmp_path / "in", tmp_path, version=1)
    found = plan(tmp_path / "in")
    assert found.dataset == "maestrov1"
    train = shard_name("train", 0, 2, 1)
    assert ids(found) == {
        "train": [f"{train}#0", f"{train}#1", f"{shard_name('train', 1, 2, 1)}#0"],
        "test": [f"{shard_name('test', 0, 1, 1)}#0"],
    }
    recording = only_recording(pickle.loads(pickle.dumps(found.items["train"][1])))
    assert recording.notes.velocity.tolist() == expected_notes(1).velocity.tolist()
    np.testing.assert_allclose(recording.notes.offset_seconds, expected_notes(1).offset_seconds, atol=1e-9)
    assert recording.extra == {"record": f"{train}#1"}
    np.testing.assert_allclose(recording.load_audio(44100), wav_samples(1).mean(axis=1), atol=1.01 / 32768)


def test_planning_reads_no_audio(tmp_path):
    """A sparse file of two records of a gigabyte: only their lengths are read."""
    path = tmp_path / shard_name("validation", 0, 1)
    length = 1 << 30
    header = struct.pack("<Q", length)
    header += tfrecords.masked_crc(header)
    with path.open("wb") as file:
        for record in range(2):
            file.seek(record * (length + 16))
            file.write(header)
    os.truncate(path, 2 * (length + 16))
    items = plan(tmp_path).items["validation"]
    assert [item.offset for item in items] == [0, length + 16]


def test_offsets_are_those_of_the_records(tmp_path):
    payloads = [b"first", b"", b"x" * 100_000, b"last"]
    path = tmp_path / "x.tfrecord"
    path.write_bytes(b"".join(map(frame_record, payloads)))
    offsets = list(tfrecords.record_offsets(path))
    assert [tfrecords.read_tfrecord_at(path, offset) for offset in offsets] == payloads
    path.write_bytes(path.read_bytes()[:-3])
    assert list(tfrecords.record_offsets(path)) == offsets
    path.write_bytes(path.read_bytes()[: offsets[-1] + 5])
    with pytest.raises(tfrecords.RecordError, match=f"the record at byte {offsets[-1]} is truncated"):
        list(tfrecords.record_offsets(path))
    with pytest.raises(tfrecords.RecordError, match="cannot be read"):
        list(tfrecords.record_offsets(tmp_path / "nothing"))


def test_missing_and_damaged_tfrecords_are_named(tmp_path):
    folder = tmp_path / "in"
    build_tfrecords(folder, tmp_path)
    first, second = (folder / shard_name("train", index, 2) for index in range(2))
    second.unlink()
    content = bytearray(first.read_bytes())
    _, offset = tfrecords.record_offsets(first)
    content[offset] ^= 1
    first.write_bytes(content)
    found = plan(folder)
    assert ids(found)["train"] == [f"{first.name}#0"]
    assert {skip.item: skip.reason for skip in found.skipped} == {
        first.name: f"{first}: the record at byte {offset} is corrupt (wrong checksum of its length); "
        "fetch the file again",
        second.name: "the file is missing; fetch it, too",
    }
    content[offset - 10] ^= 1
    first.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.tfrecord-00000-of-00002: the record at byte 0 is corrupt"):
        only_recording(found.items["train"][0])


def test_records_of_another_kind_are_named(tmp_path):
    path = tmp_path / shard_name("test", 0, 1)
    payloads = [b"\xff\xff", encode_example({"id": "a", "audio": b"RIFF"}), encode_example({"id": 1})]
    payloads.append(encode_example({"id": "a", "audio": b"RIFF", "sequence": b"\xff\xff"}))
    path.write_bytes(b"".join(map(frame_record, payloads)))
    items = plan(tmp_path).items["test"]
    for item, message in zip(
        items,
        ["does not hold a tf.train.Example", "has no 'sequence'", "has no 'id'", "no NoteSequence"],
        strict=True,
    ):
        with pytest.raises(ValueError, match=message) as error:
            only_recording(item)
        assert str(path) in str(error.value)


def test_notes_that_cannot_be_are_dropped_and_counted(tmp_path):
    notes = [(480, 960, 60, 80), (480, 480, 62, 80), (-96, 480, 64, 80), (480, 960, 128, 80)]
    payload = tfrecord_payload(tmp_path, 0, "piece", notes)
    (tmp_path / shard_name("test", 0, 1)).write_bytes(frame_record(payload))
    recording = only_recording(plan(tmp_path).items["test"][0])
    assert recording.notes.pitch.tolist() == [60]
    assert recording.extra["corrections"] == {"negative_onset": 1, "out_of_range": 1, "zero_length": 1}


def test_files_and_tfrecords_together_are_refused(tmp_path):
    build_tfrecords(tmp_path, tmp_path)
    # Google's bucket has the metadata beside the TFRecords.
    write_metadata(tmp_path, metadata_rows(), "csv")
    assert len(plan(tmp_path).items["train"]) == 3
    build(tmp_path)
    with pytest.raises(SourceError, match="holds MAESTRO v3 as audio files and as TFRecords; name one"):
        plan(tmp_path)


def test_tfrecords_in_an_archive_are_refused(tmp_path):
    build_tfrecords(tmp_path / "in", tmp_path)
    archive = zipped(tmp_path / "in", tmp_path / "in.zip")
    with pytest.raises(SourceError, match=r"in an archive; extract TFRecords"):
        plan(archive)


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"{SAMPLE} is not here")
def test_a_real_recording(tmp_path):
    manifests = prepare(SOURCE, MaestroConfig(), [SAMPLE], tmp_path, workers=0, strict=True)
    manifest = manifests["train"]
    assert manifests.keys() == {"train"}
    assert manifest.name == "maestrov2"
    (recording,) = manifest.recordings
    assert recording.id == "2018/MIDI-Unprocessed_Chamber3_MID--AUDIO_10_R3_2018_wav--1"
    assert recording.seconds == pytest.approx(2.0)
    assert manifest.programs == {"0": recording.num_notes}
    assert recording.num_notes > 4000
    assert manifest.config["version"] == 2
