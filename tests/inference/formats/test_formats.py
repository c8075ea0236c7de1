"""Every format round-trips; faults are named."""

import json
import pathlib

import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.files import atomic_path
from mt3.inference import formats
from mt3.inference.formats import (
    FORMATS,
    READ_FORMATS,
    WRITTEN_FORMATS,
    FormatError,
    OutputOptions,
    format_of,
    output_path,
    read_document,
    read_json,
    read_notes,
    write_notes,
    write_transcription,
)
from mt3.inference.transcription import Transcription
from mt3.symbolic.notes import Notes

BOTH_WAYS = [name for name in WRITTEN_FORMATS if name in READ_FORMATS]
NOTES = Notes.from_rows(
    [
        (1.0, 2.0, 60, 100, 0, False),
        (0.1, 0.30000000000000004, 72, 1, 40, False),
        (0.5, 0.55, 38, 127, 0, True),
    ]
)

_midi = st.integers(0, 127)
_rows = st.builds(
    lambda onset, length, pitch, velocity, program, is_drum: (
        onset,
        onset + length,
        pitch,
        velocity,
        0 if is_drum else program,
        is_drum,
    ),
    *(st.floats(0, 1e5), st.floats(0, 100), _midi, _midi, _midi, st.booleans()),
)


@pytest.mark.parametrize("name", [name for name in BOTH_WAYS if name != "midi"])
@settings(deadline=None, max_examples=25)
@given(rows=st.lists(_rows, max_size=20))
def test_notes_come_back_exactly_and_in_order(name, rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("notes") / f"piece{FORMATS[name].suffix}"
    notes = Notes.from_rows(rows)
    write_notes(notes, path)
    assert read_notes(path) == notes


def test_midi_comes_back_to_its_ticks(tmp_path):
    path = tmp_path / "piece.mid"
    write_notes(NOTES, path)
    notes, expected = read_notes(path).sorted(), NOTES.sorted()
    for column in ("pitch", "velocity", "program", "is_drum"):
        assert np.array_equal(getattr(notes, column), getattr(expected, column))
    assert notes.onset_seconds == pytest.approx(expected.onset_seconds, abs=1e-3)
    assert notes.offset_seconds == pytest.approx(expected.offset_seconds, abs=1e-3)


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_no_notes_come_back_as_none(name, tmp_path):
    path = tmp_path / f"empty{FORMATS[name].suffix}"
    write_notes(Notes.empty(), path)
    assert len(read_notes(path)) == 0


def test_the_json_document_is_the_documented_one(tmp_path):
    path = tmp_path / "piece.json"
    write_notes(NOTES[:1], path, metadata={"source": "piece.wav", "dropped_events": 2})
    assert json.loads(path.read_text()) == {
        "format": "mt3.notes",
        "version": 1,
        "metadata": {"source": "piece.wav", "dropped_events": 2},
        "notes": [
            {
                "onset_seconds": 1.0,
                "offset_seconds": 2.0,
                "pitch": 60,
                "velocity": 100,
                "program": 0,
                "is_drum": False,
            }
        ],
    }
    assert read_json(path)[1] == {"source": "piece.wav", "dropped_events": 2}


def test_the_csv_file_is_the_documented_one(tmp_path):
    path = tmp_path / "piece.csv"
    write_notes(NOTES[2:], path)
    assert path.read_text() == (
        "onset_seconds,offset_seconds,pitch,velocity,program,is_drum\n0.5,0.55,38,127,0,1\n"
    )


def test_what_is_unknown_may_be_missing(tmp_path):
    path = tmp_path / "piece.csv"
    path.write_text("pitch,onset_seconds,offset_seconds,velocity,remark\n60,0.5,1,,loud?\n")
    assert read_notes(path) == Notes.from_rows([(0.5, 1.0, 60, 0, 0, False)])


def test_jams_is_read_and_not_written(tmp_path):
    path = tmp_path / "piece.jams"
    data = [{"time": 0.5, "duration": 0.25, "value": 60.1}]
    path.write_text(json.dumps({"annotations": [{"namespace": "note_midi", "data": data}]}))
    assert read_notes(path) == Notes.from_rows([(0.5, 0.75, 60, 0, 0, False)])
    with pytest.raises(FormatError, match=r"piece\.jams: jams is only read; write midi, json"):
        write_notes(NOTES, path)


def test_a_format_may_be_named(tmp_path):
    path = tmp_path / "piece.txt"
    write_notes(NOTES, path, "csv")
    assert read_notes(path, "csv") == NOTES
    assert format_of(tmp_path / "PIECE.MIDI") == "midi"


@pytest.mark.parametrize(("path", "name"), [("piece.mp3", None), ("piece", None), ("piece.mid", "mp3")])
def test_unknown_formats_are_named(path, name, tmp_path):
    with pytest.raises(FormatError, match=r"\.midi?|midi, json"):
        write_notes(NOTES, tmp_path / path, name)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.json", "", "is not JSON"),
        ("a.json", "\xff", "is not JSON"),
        ("a.json", "[]", "not of notes"),
        ("a.json", '{"scores": 1}', "not of notes"),
        ("a.json", '{"format": "mt3.notes", "version": 2, "notes": []}', "version 2"),
        ("a.json", '{"format": "mt3.notes", "version": 1, "notes": [1]}', "list of objects"),
        ("a.json", '{"format": "mt3.notes", "version": 1, "notes": [], "metadata": 1}', "an object"),
        (
            "a.json",
            '{"format": "mt3.notes", "version": 1, "notes": [{"onset_seconds": NaN}]}',
            "onset_seconds of note 0 is nan; it must be a finite",
        ),
        ("a.csv", "", "header line has no onset_seconds, no offset_seconds, no pitch"),
        ("a.csv", "onset_seconds,offset_seconds,pitch\n0,1,60.5\n", "pitch of note 0 is '60.5'"),
        ("a.csv", "onset_seconds,offset_seconds,pitch\n0,1,60\n0,1,128\n", "pitch of note 1 is '128'"),
        (
            "a.csv",
            "onset_seconds,offset_seconds,pitch,is_drum\n0,1,60,maybe\n",
            "is_drum of note 0 is 'maybe'",
        ),
        ("a.csv", "onset_seconds,offset_seconds,pitch\n0\n", "offset_seconds of note 0 is None"),
        ("a.pb", "\x0f\x0f", "is not a NoteSequence"),
        (
            "a.pb",
            "\x42\x03\x08\x80\x01",
            "pitch of note 0 is 128; it must be a whole number",
        ),
        ("a.pbtxt", "notes {", "is not a NoteSequence in text form"),
        ("a.pbtxt", "notes { velocity: 128 }", "velocity of note 0 is 128"),
        ("a.mid", "RIFF", "a.mid"),
        ("a.jams", '{"annotations": []}', "has no notes"),
    ],
)
def test_broken_files_are_named_with_their_fault(file, content, message, tmp_path):
    path = tmp_path / file
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as caught:
        read_notes(path)
    assert file in str(caught.value)


def test_files_of_another_encoding_are_named(tmp_path):
    for name in ("a.json", "a.csv", "a.pbtxt"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(FormatError, match=name):
            read_notes(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        read_notes(tmp_path / "none.json")


@pytest.mark.parametrize("name", [name for name in WRITTEN_FORMATS if not FORMATS[name].needs_audio])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(name, tmp_path, monkeypatch):
    path = tmp_path / f"piece{FORMATS[name].suffix}"
    write_notes(NOTES, path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_notes(Notes.empty(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_values_that_json_lacks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_notes(NOTES, tmp_path / "piece.json", metadata={"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_atomic_path_is_beside_its_target(tmp_path):
    with atomic_path(tmp_path / "file") as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("done")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_text() == "done"


def test_every_suffix_belongs_to_one_format():
    suffixes = [suffix for entry in formats.FORMATS.values() for suffix in entry.suffixes]
    assert len(suffixes) == len(set(suffixes))


CONFIDENCE = np.array([0.25, 0.93, 1.0], np.float32)
HEARD = Transcription(NOTES, CONFIDENCE, 1, 2, 30, 0, 2.5)


@pytest.mark.parametrize("name", ["json", "csv"])
@settings(deadline=None, max_examples=25)
@given(confidence=st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3))
def test_confidence_comes_back_exactly(name, confidence, tmp_path_factory):
    heard = Transcription(NOTES, np.array(confidence, np.float32), 0, 0, 0, 0, 2.5)
    path = write_transcription(heard, tmp_path_factory.mktemp("notes") / "piece", name)
    document = read_document(path)
    assert document.notes == NOTES
    assert document.confidence is not None
    assert document.confidence.tolist() == heard.confidence.tolist()


@pytest.mark.parametrize("name", ["json", "csv"])
def test_confidence_may_be_left_out(name, tmp_path):
    options = OutputOptions(confidence=False)
    path = write_transcription(HEARD, tmp_path / "piece", name, options=options)
    assert read_document(path).confidence is None
    assert "confidence" not in path.read_text()


def test_a_transcription_says_what_it_is_of(tmp_path):
    path = write_transcription(
        HEARD, tmp_path / "piece.1", "json", audio=tmp_path / "song.wav", metadata={"model": "small"}
    )
    assert path == tmp_path / "piece.1.json"
    document = json.loads(path.read_text())
    assert document["metadata"] == {
        "duration_seconds": 2.5,
        "num_events": 30,
        "invalid_events": 1,
        "dropped_events": 2,
        "truncated_segments": 0,
        "model": "small",
    }
    assert [note["confidence"] for note in document["notes"]] == [0.25, 0.93, 1.0]


def test_keys_of_other_versions_are_passed_over(tmp_path):
    path = tmp_path / "piece.json"
    note = {"onset_seconds": 0, "offset_seconds": 1, "pitch": 60, "channel": 3}
    path.write_text(json.dumps({"format": "mt3.notes", "version": 1, "tuning": 440, "notes": [note]}))
    document = read_document(path)
    assert document.notes == Notes.from_rows([(0, 1, 60, 0, 0, False)])
    assert document.confidence is None


def test_a_confidence_out_of_range_is_named(tmp_path):
    path = tmp_path / "piece.csv"
    path.write_text("onset_seconds,offset_seconds,pitch,confidence\n0,1,60,0.5\n0,1,61,1.5\n")
    with pytest.raises(FormatError, match=r"confidence of note 1 is '1.5'; it must be a number 0..1"):
        read_notes(path)
    with pytest.raises(ValueError, match=r"there must be one for each of 3 notes"):
        formats.NoteDocument(NOTES, CONFIDENCE[:2])
    with pytest.raises(ValueError, match=r"A confidence is nan; it must lie in 0..1"):
        formats.NoteDocument(NOTES, np.full(3, np.nan, np.float32))


def test_suffixes_are_added_where_they_are_missing(tmp_path):
    assert output_path(tmp_path / "a.b", "midi") == tmp_path / "a.b.mid"
    assert output_path(tmp_path / "a.MIDI", "midi") == tmp_path / "a.MIDI"
    # The rendering of song.wav does not take its place.
    assert output_path(tmp_path / "song.wav", "rendering") == tmp_path / "song.wav.rendering.wav"
    assert format_of(tmp_path / "song.comparison.wav") == "comparison"


@pytest.mark.parametrize("name", [name for name in WRITTEN_FORMATS if name not in READ_FORMATS])
def test_what_is_only_written_is_not_read(name, tmp_path):
    with pytest.raises(FormatError, match=rf"{name} is only written; read midi, json"):
        read_notes(tmp_path / f"piece{FORMATS[name].suffix}")


def test_what_is_missing_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FormatError, match=r"PIL is not installed: pip install 'mt3\[pictures\]'"):
        write_notes(NOTES, tmp_path / "piece.png")
    assert FORMATS["svg"].missing is None
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_needs_the_recording(tmp_path):
    with pytest.raises(FormatError, match="written from the recording too; name the audio file"):
        write_transcription(HEARD, tmp_path / "piece", "comparison")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"beats_per_measure": 0}, "beats_per_measure is 0; it must lie in 1..32"),
        ({"seconds_per_row": 0}, "seconds_per_row is 0; it must be above 0"),
        ({"sample_rate": 1}, "sample_rate is 1; it must lie in 8000..96000"),
    ],
)
def test_options_out_of_range_are_named(choices, message):
    with pytest.raises(ValueError, match=message):
        OutputOptions(**choices)


def test_a_tempo_map_changes_beats_and_not_times(tmp_path):
    rows = [(0.6 * beat, 0.6 * beat + 0.5, 60 + beat % 7, 80, 0, False) for beat in range(32)]
    notes = Notes.from_rows(rows)
    heard = Transcription(notes, np.ones(32, np.float32), 0, 0, 0, 0, 20.0)
    path = write_transcription(heard, tmp_path / "piece", "midi", options=OutputOptions(tempo_map=True))
    midi = pretty_midi.PrettyMIDI(str(path))
    assert midi.get_tempo_changes()[1] == pytest.approx([100])
    assert read_notes(path).onset_seconds == pytest.approx(notes.onset_seconds, abs=1e-3)
