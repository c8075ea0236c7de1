"""Notes of MIDI, JAMS and CSV files."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mt3.data.file_tree import open_tree
from mt3.data.note_files import NoteFileError, pitch_of_hz, read_csv, read_jams, read_note_file
from mt3.inference.formats import write_notes
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes

REAL = Path("/work/shared/data/real")
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is not there")

NOTES = Notes.from_rows(
    [(0.25, 0.75, 60, 80, 5, False), (0.25, 1.0, 64, 0, 40, False), (1.5, 1.625, 36, 100, 0, True)]
)


def jams(path, *annotations):
    """A JAMS file; each annotation is its namespace and data."""
    annotations = [{"namespace": namespace, "data": data} for namespace, data in annotations]
    path.write_text(json.dumps({"annotations": annotations, "file_metadata": {}, "sandbox": {}}))
    return path


def observation(time, duration, value):
    return {"time": time, "duration": duration, "value": value, "confidence": None}


def test_jams_strings_are_merged_and_rounded(tmp_path):
    path = jams(
        tmp_path / "x.jams",
        ("chord", [observation(0.0, 2.0, "G:maj")]),
        ("note_midi", [observation(1.0, 0.5, 60.49), observation(2.0, 0.25, 61.51)]),
        ("note_midi", []),
        ("note_midi", [observation(0.5, 0.5, 40.0)]),
    )
    notes, dropped = read_jams(path, program=24)
    assert notes == Notes.from_rows(
        [(0.5, 1.0, 40, 0, 24, False), (1.0, 1.5, 60, 0, 24, False), (2.0, 2.25, 62, 0, 24, False)]
    )
    assert dropped == {}


def test_jams_data_may_be_an_object_of_lists(tmp_path):
    data = {"time": [1.0, 2.0], "duration": [0.5, 0.25], "value": [60.2, 61.8], "confidence": [None, 1.0]}
    notes, _ = read_jams(jams(tmp_path / "x.jams", ("note_midi", data)))
    assert notes == Notes.from_rows([(1.0, 1.5, 60, 0, 0, False), (2.0, 2.25, 62, 0, 0, False)])


def test_jams_frequencies_become_pitches(tmp_path):
    data = [observation(1.0, 0.5, 441.0), observation(2.0, 0.5, 261.6), observation(3.0, 0.5, 0.0)]
    path = jams(tmp_path / "x.jams", ("note_midi", []), ("note_hz", data))
    notes, dropped = read_jams(path)
    assert notes.pitch.tolist() == [69, 60]
    assert dropped == {"without_pitch": 1}
    with pytest.raises(NoteFileError, match=r"x\.jams has no notes \(pitch_midi\); it annotates note_hz"):
        read_jams(path, namespaces=("pitch_midi",))


def test_midi_notes_of_jams_are_preferred(tmp_path):
    path = jams(
        tmp_path / "x.jams",
        ("note_hz", [observation(0.0, 1.0, 440.0)]),
        ("note_midi", [observation(0.0, 1.0, 50.0)]),
    )
    assert read_jams(path)[0].pitch.tolist() == [50]


def test_notes_that_cannot_be_are_counted_once(tmp_path):
    data = [
        observation(0.0, 1.0, 60.0),
        observation(0.0, 1.0, None),
        observation(0.0, 0.0, 127.6),
        observation(-0.5, 0.25, -3.0),
        observation(-0.5, 1.0, 60.0),
        observation(1.0, 0.0, 60.0),
        observation(1.0, -0.5, 60.0),
    ]
    notes, dropped = read_jams(jams(tmp_path / "x.jams", ("note_midi", data)))
    assert len(notes) == 1
    assert dropped == {"without_pitch": 1, "out_of_range": 2, "negative_onset": 1, "zero_length": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MThd", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        pytest.param(b"[" * 100_000, "not JSON", id="nested"),
        (b"[]", 'lacks a list "annotations"'),
        (b'{"annotations": [1]}', 'lacks a list "annotations"'),
        (b'{"annotations": []}', "has no notes .* annotates nothing"),
        (b'{"annotations": [{"namespace": "note_midi", "data": [{"time": 1}]}]}', "must have a time"),
        (
            b'{"annotations": [{"namespace": "note_midi", '
            b'"data": {"time": [1], "duration": [], "value": []}}]}',
            "must have a time",
        ),
        (
            b'{"annotations": [{"namespace": "note_midi", '
            b'"data": [{"time": null, "duration": 1, "value": 60}]}]}',
            "has no time",
        ),
    ],
)
def test_broken_jams_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "x.jams"
    path.write_bytes(content)
    with pytest.raises(NoteFileError, match=message) as error:
        read_note_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_csv_with_all_columns(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        "onset_s,offset_s,midi_pitch,velocity,program,is_drum\n"
        "1.5000,1.6250,36,100,,1\n0.25,0.75,60,80,5,0\n0.25,1.0,64,,40,0\n"
    )
    assert read_csv(path, program=7) == (NOTES, {})


def test_csv_columns_in_any_order_and_blanks(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(
        b"\xef\xbb\xbfPitch, remark ,offset_seconds,onset_seconds,is_drum\r\n"
        b'60.4,"a, b",2.0,1.0,\r\n\r\n 36 ,c,3.0,2.5,TRUE\r\n60,,1,1\r\n'
    )
    notes, dropped = read_csv(path, program=7)
    assert notes == Notes.from_rows([(1.0, 2.0, 60, 0, 7, False), (2.5, 3.0, 36, 0, 0, True)])
    assert dropped == {"zero_length": 1}


@pytest.mark.parametrize("suffix", [".csv", ".mid"])
def test_reads_what_this_project_writes(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    played = NOTES.replace(velocity=64)
    write_notes(played, path)
    notes, dropped = read_note_file(path, program=7)
    np.testing.assert_allclose(notes.onset_seconds, played.onset_seconds, atol=1e-3)
    np.testing.assert_allclose(notes.offset_seconds, played.offset_seconds, atol=1e-3)
    for column in ("pitch", "velocity", "program", "is_drum"):
        np.testing.assert_array_equal(getattr(notes, column), getattr(played, column))
    assert dropped == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the header line has no onset_seconds, no offset_seconds, no pitch"),
        ("onset_s,offset_s,note\n1,2,60\n", "has no pitch"),
        ("onset_s,offset_s,pitch\n1,2,60\n\n1,x,60\n", "line 4: offset_seconds is 'x'; it must be a number"),
        ("onset_s,offset_s,pitch\n1,2\n", "line 2: pitch is ''"),
        ("onset_s,offset_s,pitch\n1,nan,60\n", "line 2: offset_seconds is 'nan'"),
        ("onset_s,offset_s,pitch,program\n1,2,60,128\n", "line 2: program is 128; .*0..127"),
        ("onset_s,offset_s,pitch,velocity\n1,2,60,0.5\n", r"line 2: velocity is 0\.5"),
        ("onset_s,offset_s,pitch,is_drum\n1,2,60,yes\n", "line 2: is_drum is 'yes'; it must be 0 or 1"),
    ],
)
def test_broken_csv_names_the_line(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(NoteFileError, match=message) as error:
        read_note_file(path)
    assert str(path) in str(error.value)


def test_csv_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xff\xfeabc")
    with pytest.raises(NoteFileError, match=r"x\.csv is no CSV file"):
        read_note_file(path)


def test_files_in_archives_are_read_and_named(tmp_path):
    write_midi(NOTES.replace(velocity=64), tmp_path / "x.mid")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "x.mid", "a/x.mid")
        archive.writestr("a/y.MID", b"RIFF")
        archive.writestr("a/z.jams", b"{}")
    files = open_tree([tmp_path / "all.zip"]).files
    assert read_note_file(files["all/a/x.mid"]) == read_note_file(tmp_path / "x.mid")
    for name in ("a/y.MID", "a/z.jams"):
        with pytest.raises(NoteFileError, match=rf"all\.zip!{name}"):
            read_note_file(files[f"all/{name}"])


def test_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(NoteFileError, match=r"x\.txt: notes are read from files that end in \.mid"):
        read_note_file(tmp_path / "x.txt")


def test_pitch_of_hz():
    np.testing.assert_allclose(pitch_of_hz([440.0, 27.5, 8372.018]), [69, 21, 120], atol=1e-6)
    assert np.isnan(pitch_of_hz([0.0, -1.0, np.nan, np.inf])).all()


@needs_real
def test_real_jams_equals_its_csv():
    folder = REAL / "GuitarSet"
    from_jams, dropped = read_note_file(folder / "00_BN1-129-Eb_comp_mic.jams", program=24)
    from_csv, _ = read_note_file(folder / "00_BN1-129-Eb_comp_mic.notes.csv")
    assert len(from_jams) == len(from_csv) == 133
    assert dropped == {}
    np.testing.assert_allclose(from_jams.onset_seconds, from_csv.onset_seconds, atol=1e-4)
    np.testing.assert_allclose(from_jams.offset_seconds, from_csv.offset_seconds, atol=1e-4)
    for column in ("pitch", "velocity", "program", "is_drum"):
        np.testing.assert_array_equal(getattr(from_jams, column), getattr(from_csv, column))
