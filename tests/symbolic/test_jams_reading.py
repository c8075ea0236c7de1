"""Notes of JAMS files, and of columns of labels."""

import json

import numpy as np
import pytest

from mt3.symbolic.jams_reading import read_jams
from mt3.symbolic.note_columns import NoteFileError, pitch_of_hz
from mt3.symbolic.notes import Notes


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
        read_jams(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_pitch_of_hz():
    np.testing.assert_allclose(pitch_of_hz([440.0, 27.5, 8372.018]), [69, 21, 120], atol=1e-6)
    assert np.isnan(pitch_of_hz([0.0, -1.0, np.nan, np.inf])).all()
