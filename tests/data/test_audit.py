"""Faults of prepared datasets: each planted one is found, and a clean dataset has none."""

import dataclasses
import json

import numpy as np
import pytest

from mt3.data import audit
from mt3.data.audit import CHECKS, audit_dataset
from mt3.data.audit_recordings import LoadedRecording, out_of_range
from mt3.data.manifests import RecordingInfo, manifest_path, read_manifest
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.records import encode_recording, read_recordings
from mt3.data.tfrecords import frame_record
from mt3.symbolic.notes import Notes

RATE = 16000
NUM_RECORDINGS = {"train": 3, "validation": 2, "test": 2}


def music(seed):
    """About 10 s: a melody, a slower bass and drums, at irregular times."""
    rng = np.random.default_rng(seed)
    onset = 0.5 + np.cumsum(rng.uniform(0.08, 0.25, 60))
    rows = [(t, t + 0.07, p, 80, 0, False) for t, p in zip(onset, rng.integers(55, 90, 60), strict=True)]
    rows += [
        (t, t + 0.3, p, 70, 33, False) for t, p in zip(onset[::4], rng.integers(36, 50, 15), strict=True)
    ]
    rows += [(t, t + 0.1, 38, 90, 0, True) for t in onset[::5]]
    return Notes.from_rows([(float(t), float(end), int(p), *rest) for t, end, p, *rest in rows]).sorted()


def render(notes, *, harmonics=4, rng=None):
    """Decaying tones and noise bursts, on a faint hiss; a second longer than the notes."""
    rng = rng or np.random.default_rng(0)
    samples = rng.normal(0, 2e-4, round((notes.end_seconds + 1) * RATE)).astype(np.float32)
    time = np.arange(RATE // 2) / RATE
    for onset, pitch, is_drum in zip(notes.onset_seconds, notes.pitch, notes.is_drum, strict=True):
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * frequency * k * time) / k for k in range(1, harmonics + 1))
        sound = rng.normal(0, 0.5, len(time)) * np.exp(-60 * time) if is_drum else tone * np.exp(-9 * time)
        first = round(onset * RATE)
        samples[first : first + len(time)] += (0.1 * sound)[: len(samples) - first]
    return samples


def recording(name, split, notes, samples):
    return Recording(name, notes, EncodedAudio.encode(samples, RATE), "set", split, "CC0")


@pytest.fixture(scope="module")
def clean():
    """split -> recordings, without faults."""
    splits = {}
    for number, (split, count) in enumerate(NUM_RECORDINGS.items()):
        pieces = [music(10 * number + index) for index in range(count)]
        splits[split] = [recording(f"{split}{i}", split, n, render(n)) for i, n in enumerate(pieces)]
    return splits


def write(directory, splits):
    for split, items in splits.items():
        with RecordWriter(directory, "set", split, num_shards=2 if split == "train" else 1) as writer:
            for item in items:
                writer.write(item)


def check(directory, **options):
    return audit_dataset(directory, **{"workers": 0, "progress": False, **options})


def found(report):
    return {(finding.check, finding.split, finding.recording) for finding in report.findings}


def test_a_clean_dataset_has_no_findings(tmp_path, clean):
    write(tmp_path, clean)
    counts = {f"set/{split}": number for split, number in NUM_RECORDINGS.items()}
    report = check(tmp_path, published_counts=counts)
    assert report.findings == ()
    assert report.splits == NUM_RECORDINGS
    assert (report.dataset, report.num_recordings) == ("set", 7)
    assert {(lag.split, lag.recording) for lag in report.lags} == {
        (split, item.id) for split, items in clean.items() for item in items
    }
    assert all(abs(lag.seconds) <= 0.03 and lag.strength > 15 for lag in report.lags)
    assert report.lines()[0] == (
        f"set in {tmp_path}: train 3, validation 2, test 2 recordings; 0 errors, 0 warnings"
    )


# What is planted, before writing: (recording) -> recording. All are planted in train1.


def with_notes(item, *rows):
    return dataclasses.replace(item, notes=Notes.concatenate([item.notes, Notes.from_rows(rows)]).sorted())


def with_first(item, **columns):
    """With columns of the first note replaced."""
    changed = {}
    for name, value in columns.items():
        changed[name] = getattr(item.notes, name).copy()
        changed[name][0] = value
    return dataclasses.replace(item, notes=item.notes.replace(**changed))


def with_samples(item, change):
    samples = item.load_audio(RATE).copy()
    change(samples)
    return dataclasses.replace(item, audio=EncodedAudio.encode(samples, RATE))


def with_audio(item, **values):
    return dataclasses.replace(item, audio=dataclasses.replace(item.audio, **values))


def truncated_flac(item):
    return with_audio(item, data=item.audio.data[: len(item.audio.data) // 2])


def odd_pcm(item):
    return with_audio(item, data=bytes(2 * item.audio.num_samples + 1), format="pcm16")


def without_samples(item):
    return with_audio(item, data=b"")


def of_another_length(item):
    return with_audio(item, num_samples=item.audio.num_samples + 500)


def silenced(item):
    return with_samples(item, lambda samples: samples.fill(0.0005))


def silenced_in_part(item):
    def change(samples):
        samples[3 * RATE : 5 * RATE] = 0

    return with_samples(item, change)


def ends_early(item):
    seconds = item.notes.onset_seconds.max() - 0.01
    samples = item.load_audio(RATE)[: round(seconds * RATE)]
    return dataclasses.replace(item, audio=EncodedAudio.encode(samples, RATE))


def held_long(item):
    return with_first(item, offset_seconds=60.0, pitch=100)


def of_no_length(item):
    return with_first(item, offset_seconds=item.notes.onset_seconds[0])


def of_negative_length(item):
    return with_first(item, offset_seconds=item.notes.onset_seconds[0] - 0.1)


def before_the_start(item):
    return with_notes(item, (-0.2, 0.1, 60, 80, 0, False))


def at_no_time(item):
    return with_notes(item, (float("nan"), 1.0, 60, 80, 0, False))


def overlapping(item):
    return with_notes(item, (1.0, 1.5, 20 + 81, 80, 4, False), (1.4, 2.0, 20 + 81, 80, 4, False))


def struck_twice(item):
    return with_notes(item, *[(item.notes.onset_seconds[item.notes.is_drum][0], 9.0, 38, 80, 0, True)])


def pitch_too_high(item):
    return with_notes(item, (1.0, 1.1, 128, 80, 0, False))


def negative_pitch(item):
    return with_notes(item, (1.0, 1.1, -1, 80, 0, False))


def velocity_too_high(item):
    return with_notes(item, (1.0, 1.1, 60, 200, 5, False))


def an_octave_off(item):
    return with_notes(item, *[(t, t + 0.05, 18, 80, 34, False) for t in item.notes.onset_seconds[::8]])


def without_notes(item):
    return dataclasses.replace(item, notes=Notes.empty())


def late_sound(item):
    return dataclasses.replace(item, notes=item.notes.shift(-0.2))


def early_sound(item):
    return dataclasses.replace(item, notes=item.notes.shift(0.2))


def late_strings(item):
    strings = item.notes.replace(program=48, is_drum=False)
    return dataclasses.replace(item, notes=strings[~item.notes.is_drum].shift(-0.2))


def of_other_music(item):
    return dataclasses.replace(item, notes=music(99))


IN_A_RECORDING = {
    truncated_flac: "unreadable",
    odd_pcm: "unreadable",
    without_samples: "unreadable",
    of_another_length: "audio_length",
    silenced: "silent",
    silenced_in_part: "notes_in_silence",
    ends_early: "after_the_end",
    held_long: "held_after_the_end",
    of_no_length: "note_times",
    of_negative_length: "note_times",
    before_the_start: "note_times",
    at_no_time: "note_times",
    overlapping: "overlaps",
    struck_twice: "overlaps",
    pitch_too_high: "out_of_range",
    negative_pitch: "out_of_range",
    velocity_too_high: "out_of_range",
    an_octave_off: "unusual_pitches",
    without_notes: "no_notes",
    late_sound: "misaligned",
    early_sound: "misaligned",
    late_strings: "misaligned",
    of_other_music: "unfitting",
}


@pytest.mark.parametrize("plant", IN_A_RECORDING, ids=lambda plant: plant.__name__)
def test_a_fault_of_a_recording_is_found_there_alone(tmp_path, clean, plant):
    name = IN_A_RECORDING[plant]
    first, second, *others = clean["train"]
    write(tmp_path, {"train": [first, plant(second), *others]})
    report = check(tmp_path)
    assert found(report) == {(name, "train", "train1")}
    (finding,) = report.findings
    assert finding.severity == ("warning" if plant is late_strings else CHECKS[name].severity)
    assert "\n" not in finding.message
    assert len(report.errors) + len(report.warnings) == 1
    assert finding.message in report.text()


def test_a_few_notes_in_silence_are_a_warning(tmp_path, clean):
    first, *_ = clean["train"]
    silence = np.zeros(2 * RATE, np.float32)
    samples = np.concatenate([first.load_audio(RATE), silence])
    longer = dataclasses.replace(first, audio=EncodedAudio.encode(samples, RATE))
    start = len(samples) / RATE - 1.9
    write(tmp_path, {"train": [with_notes(longer, (start, start + 0.3, 60, 1, 0, False))]})
    (finding,) = check(tmp_path).findings
    assert (finding.check, finding.severity) == ("notes_in_silence", "warning")
    assert finding.value == pytest.approx(2.0, abs=0.1)


def test_programs_that_do_not_exist_are_found():
    # Our own records cannot hold them, those of others can.
    notes = Notes.from_rows([(0.0, 1.0, 60, 80, program, False) for program in (0, -1, 127, 128)])
    info = RecordingInfo("r", 1.0, 4, 1, 0, 0)
    (problem,) = out_of_range(LoadedRecording(info, "r", notes=notes))
    assert (problem.value, problem.message) == (2, "2 notes of program outside 0..127, the first -1")


@pytest.mark.parametrize("plant", [late_sound, early_sound], ids=lambda plant: plant.__name__)
def test_the_worst_lag_is_listed_first_and_the_bound_can_be_moved(tmp_path, clean, plant):
    first, second, third = clean["train"]
    write(tmp_path, {"train": [first, second, plant(third)]})
    report = check(tmp_path)
    assert report.lags[0].recording == "train2"
    expected = 0.2 if plant is late_sound else -0.2
    assert report.lags[0].seconds == pytest.approx(expected, abs=0.03)
    assert report.findings[0].value == abs(report.lags[0].seconds)
    assert check(tmp_path, max_lag_seconds=0.3).findings == ()
    with pytest.raises(ValueError, match=r"max_lag_seconds is 1\.5"):
        check(tmp_path, max_lag_seconds=1.5)


# What is planted in the splits before writing: (splits) -> what is found.


def a_copy(splits):
    copied = dataclasses.replace(splits["train"][0], id="copy", split="test")
    splits["test"].append(copied)
    return {("duplicates", "test", "copy")}


def the_same_id(splits):
    splits["test"][1] = dataclasses.replace(splits["test"][1], id="train2")
    return {("duplicates", "test", "train2")}


def the_same_audio(splits):
    item = splits["validation"][0]
    fewer = item.notes[np.arange(len(item.notes)) != 20]
    splits["test"].append(dataclasses.replace(item, id="again", split="test", notes=fewer))
    return {("duplicates", "test", "again")}


def the_same_music_later(splits):
    notes = splits["train"][1].notes.shift(0.37)
    splits["validation"].append(recording("later", "validation", notes, render(notes, harmonics=2)))
    return {("duplicates", "validation", "later")}


def one_id_twice(splits):
    splits["train"][2] = dataclasses.replace(splits["train"][2], id="train0")
    return {("repeated_ids", "train", "train0")}


@pytest.mark.parametrize(
    "plant",
    [a_copy, the_same_id, the_same_audio, the_same_music_later, one_id_twice],
    ids=lambda plant: plant.__name__,
)
def test_recordings_that_are_there_twice_are_found(tmp_path, clean, plant):
    splits = {split: list(items) for split, items in clean.items()}
    expected = plant(splits)
    write(tmp_path, splits)
    report = check(tmp_path)
    assert found(report) == expected
    assert len(report.errors) == 1


def test_a_copy_says_of_what_it_is_one(tmp_path, clean):
    splits = {split: list(items) for split, items in clean.items()}
    a_copy(splits)
    write(tmp_path, splits)
    assert check(tmp_path).findings[0].message == "it is train/train0, too: the same audio and labels"


def test_equal_pitches_at_other_times_are_other_music(tmp_path, clean):
    notes = clean["train"][1].notes
    slower = notes.replace(onset_seconds=notes.onset_seconds * 1.2, offset_seconds=notes.offset_seconds * 1.2)
    slow = recording("slow", "test", slower, render(slower))
    write(tmp_path, {"train": clean["train"], "test": [slow]})
    assert check(tmp_path).findings == ()


# What is planted in the files of the train split.


def edit_manifest(directory, change):
    path = manifest_path(directory, "set", "train")
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def shard_paths(directory):
    return [directory / shard.file for shard in read_manifest(directory, "train").shards]


def missing_shard(directory):
    shard_paths(directory)[1].unlink()
    return {("shards", "train", "")}


def damaged_record(directory):
    path = shard_paths(directory)[1]  # of train1 alone
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return {("shards", "train", ""), ("unreadable", "train", "train1")}


def truncated_shard(directory):
    path = shard_paths(directory)[0]  # of train0 and train2
    path.write_bytes(path.read_bytes()[:-10])
    return {("shards", "train", ""), ("unreadable", "train", "train2")}


def a_record_too_many(directory):
    item = next(iter(read_recordings(directory, "train")))
    with shard_paths(directory)[0].open("ab") as file:
        file.write(frame_record(encode_recording(item)))
    return {("shards", "train", "")}


def other_checksum(directory):
    edit_manifest(directory, lambda values: values["shards"][0].update(sha256="0" * 64))
    return {("shards", "train", "")}


def other_count_of_a_shard(directory):
    edit_manifest(directory, lambda values: values["shards"][0].update(num_recordings=3))
    return {("shards", "train", ""), ("manifest", "train", "")}


def other_totals(directory):
    edit_manifest(directory, lambda values: values.update(num_notes=values["num_notes"] + 1))
    return {("manifest", "train", "")}


def other_row(directory):
    edit_manifest(directory, lambda values: values["recordings"][1].update(id="x"))
    return {("unlisted", "train", "x")}


def other_seconds(directory):
    def change(values):
        values["recordings"][2]["seconds"] += 1
        values["seconds"] += 1

    edit_manifest(directory, change)
    return {("audio_length", "train", "train2")}


def no_such_shard(directory):
    edit_manifest(directory, lambda values: values["recordings"][1].update(shard=7))
    return {("manifest", "train", ""), ("manifest", "train", "train1")}


def other_programs(directory):
    edit_manifest(directory, lambda values: values["programs"].update({"33": 1, "40": 2}))
    return {("programs", "train", "")}


def unreadable_manifest(directory):
    manifest_path(directory, "set", "train").write_text("{")
    return {("manifest", "train", "")}


@pytest.mark.parametrize(
    "plant",
    [
        missing_shard,
        damaged_record,
        truncated_shard,
        a_record_too_many,
        other_checksum,
        other_count_of_a_shard,
        other_totals,
        other_row,
        other_seconds,
        no_such_shard,
        other_programs,
        unreadable_manifest,
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_fault_of_the_files_is_found(tmp_path, clean, plant):
    write(tmp_path, {"train": clean["train"], "test": clean["test"]})
    expected = plant(tmp_path)
    report = check(tmp_path)
    assert found(report) == expected
    assert all(finding.severity == "error" and "\n" not in finding.message for finding in report.findings)
    # The others are audited all the same.
    assert {"test0", "test1"} <= {lag.recording for lag in report.lags}


def test_other_counts_than_the_published_ones_are_a_warning(tmp_path, clean):
    with RecordWriter(tmp_path, "urmp", "validation") as writer:
        for item in clean["validation"]:
            writer.write(item)
        writer.skip("broken", "it is broken")
    (finding,) = check(tmp_path).findings
    assert (finding.check, finding.severity, finding.split) == ("published_count", "warning", "validation")
    assert finding.message == (
        "2 recordings, the published dataset has 9 (left out or skipped: 1, see the manifest)"
    )
    assert check(tmp_path, published_counts={"urmp/validation": 2}).findings == ()
    assert audit.published_counts_of("unknown") == {}


def test_workers_find_the_same(tmp_path, clean):
    first, second, third = clean["train"]
    write(tmp_path, {"train": [late_sound(first), truncated_flac(second), third], "test": clean["test"]})
    assert check(tmp_path, workers=2) == check(tmp_path)


def test_a_dataset_prepared_again_is_read_again(tmp_path, clean):
    write(tmp_path, {"test": [without_notes(item) for item in clean["test"]]})
    assert {finding.check for finding in check(tmp_path).findings} == {"no_notes"}
    write(tmp_path, {"test": clean["test"]})
    assert check(tmp_path).findings == ()


def test_only_splits_that_are_asked_for(tmp_path, clean):
    write(tmp_path, {"train": [without_notes(item) for item in clean["train"]], "test": clean["test"]})
    report = check(tmp_path, splits=["test"])
    assert (report.splits, report.findings) == ({"test": 2}, ())
    with pytest.raises(ValueError, match="'validation' of 'set' is not prepared"):
        check(tmp_path, splits=["validation"])


def test_one_of_several_datasets_must_be_named(tmp_path, clean):
    for name in ("one", "two"):
        with RecordWriter(tmp_path, name, "test") as writer:
            writer.write(clean["test"][0])
    with pytest.raises(ValueError, match="name one of one, two"):
        check(tmp_path)
    assert check(tmp_path, name="two").dataset == "two"
    with pytest.raises(ValueError, match="three"):
        check(tmp_path, name="three")


def test_the_text_counts_what_it_does_not_show(tmp_path, clean):
    items = [without_notes(dataclasses.replace(clean["test"][0], id=f"r{i}")) for i in range(4)]
    write(tmp_path, {"test": [*items, late_sound(clean["test"][1])]})
    assert check(tmp_path).lines(max_examples=2) == [
        f"set in {tmp_path}: test 5 recordings; 1 errors, 4 warnings",
        "error misaligned (1): sound and labels at different times",
        f"  test/test1: {check(tmp_path).errors[0].message}",
        "warning no_notes (4): no notes at all",
        "  test/r0: it has no notes",
        "  test/r1: it has no notes",
        "  and 2 more",
        "largest lags of the sound behind its labels (ms, strength, onsets):",
        check(tmp_path).lines()[-1],
    ]
    assert check(tmp_path).lines()[-1].split()[0] in ("+180", "+190", "+200")


def test_every_check_is_tested():
    planted = {*IN_A_RECORDING.values(), "duplicates", "repeated_ids", "published_count"}
    planted |= {"shards", "manifest", "programs", "unlisted"}
    assert planted == set(CHECKS)
