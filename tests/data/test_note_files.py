"""Notes of MIDI and CSV files, and of files in archives. JAMS: tests/symbolic/test_jams_reading.py."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from mt3.data.file_tree import open_tree
from mt3.data.note_files import read_csv, read_note_file
from mt3.inference.formats import write_notes
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.note_columns import NoteFileError
from mt3.symbolic.notes import Notes

REAL = Path("/work/shared/data/real")
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is not there")

NOTES = Notes.from_rows(
    [(0.25, 0.75, 60, 80, 5, False), (0.25, 1.0, 64, 0, 40, False), (1.5, 1.625, 36, 100, 0, True)]
)


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
