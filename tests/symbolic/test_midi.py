import contextlib
import io
import os

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mido import Message, MetaMessage

from mt3.symbolic.conversions import MidiError, read_midi, write_midi
from mt3.symbolic.notes import Notes


def _file(*tracks, ticks_per_beat=100, type=1):
    """Bytes of a MIDI file; of each track the messages, with delta times in ticks."""
    midi = mido.MidiFile(type=type, ticks_per_beat=ticks_per_beat)
    midi.tracks.extend(mido.MidiTrack([*track, MetaMessage("end_of_track")]) for track in tracks)
    content = io.BytesIO()
    midi.save(file=content)
    return content.getvalue()


def _on(pitch, time=0, velocity=80, channel=0):
    return Message("note_on", note=pitch, time=time, velocity=velocity, channel=channel)


def _off(pitch, time=0, channel=0):
    return Message("note_off", note=pitch, time=time, channel=channel)


def _program(program, time=0, channel=0):
    return Message("program_change", program=program, time=time, channel=channel)


def _pedal(value, time=0, channel=0):
    return Message("control_change", control=64, value=value, time=time, channel=channel)


def _times(notes):
    return list(
        zip(notes.onset_seconds.tolist(), notes.offset_seconds.tolist(), notes.pitch.tolist(), strict=True)
    )


# Without a tempo a tick of these files lasts 5 ms.


def test_a_note_on_of_velocity_zero_ends_a_note():
    notes = read_midi(_file([_on(60), _on(60, 100, velocity=0), _on(62), _off(62, 50)]))
    assert _times(notes) == [(0.0, 0.5, 60), (0.5, 0.75, 62)]
    assert notes.velocity.tolist() == [80, 80]


def test_a_note_off_ends_all_notes_of_its_key_and_no_other():
    notes = read_midi(_file([_on(60), _on(60, 20), _on(61), _off(60, 80), _off(60, 100), _off(61, 10)]))
    assert _times(notes) == [(0.0, 0.5, 60), (0.1, 0.5, 60), (0.1, 1.05, 61)]


def test_a_note_struck_at_the_tick_at_which_another_of_its_key_ends_goes_on():
    notes = read_midi(_file([_on(60), _on(60, 20), _off(60), _off(60, 20)]))
    assert _times(notes) == [(0.0, 0.1, 60), (0.1, 0.2, 60)]


def test_notes_never_ended_last_to_the_end_of_their_track():
    notes = read_midi(_file([_on(60), _on(62, 100), _off(62, 100)], [_off(1, 900)]))
    assert _times(notes) == [(0.0, 1.0, 60), (0.5, 1.0, 62)]


def test_tempo_changes_in_any_track_hold_for_all():
    tempos = [
        MetaMessage("set_tempo", tempo=1_000_000, time=100),
        MetaMessage("set_tempo", tempo=250_000, time=100),
    ]
    notes = read_midi(_file([_on(60, 50), _off(60, 100), _on(62, 100), _off(62, 100)], tempos))
    # 100 ticks take 0.5 s, the next 100 1 s, then 0.25 s each.
    assert _times(notes) == [(0.25, 1.0, 60), (1.625, 1.875, 62)]


def test_tracks_of_a_type_2_file_have_their_own_tempo():
    fast = [MetaMessage("set_tempo", tempo=250_000), _on(60, 100), _off(60, 100)]
    notes = read_midi(_file(fast, [_on(62, 100), _off(62, 100)], type=2))
    assert _times(notes) == [(0.25, 0.5, 60), (0.5, 1.0, 62)]


def test_smpte_time_knows_no_tempo():
    content = bytearray(_file([MetaMessage("set_tempo", tempo=1), _on(60, 40), _off(60, 80)]))
    content[12:14] = bytes([256 - 25, 40])  # 25 frames a second of 40 ticks
    assert _times(read_midi(bytes(content))) == [(0.04, 0.12, 60)]


def test_programs_change_within_a_track():
    notes = read_midi(_file([_program(5), _on(60), _program(9, 50), _off(60, 50), _on(62), _off(62, 50)]))
    assert notes.program.tolist() == [5, 9]


def test_a_track_without_program_changes_follows_its_channel():
    control = [_program(5), _program(7, 100), _program(40, channel=1)]
    notes = read_midi(_file(control, [_on(60, 50), _off(60, 25), _on(62, 25), _off(62, 50)]))
    assert notes.program.tolist() == [5, 7]


def test_a_track_with_program_changes_keeps_its_own():
    tracks = [[_program(program), _on(60 + program), _off(60 + program, 5)] for program in (3, 1, 2)]
    notes = read_midi(_file(*tracks))
    assert (notes.pitch - 60).tolist() == notes.program.tolist() == [1, 2, 3]


def test_channel_ten_is_drums():
    notes = read_midi(_file([_program(5, channel=9), _on(38, channel=9), _off(38, 10, channel=9)]))
    assert (notes.is_drum.tolist(), notes.program.tolist()) == ([True], [0])


def test_the_pedal_of_a_channel_holds_for_both_hands():
    """Two tracks of one channel, the pedal in one of them."""
    right = [_pedal(127), _on(60), _off(60, 20), _pedal(0, 80)]
    left = [_on(40), _off(40, 20)]
    assert _times(read_midi(_file(right, left))) == [(0.0, 0.5, 40), (0.0, 0.5, 60)]
    assert _times(read_midi(_file(right, left), apply_sustain=False)) == [(0.0, 0.1, 40), (0.0, 0.1, 60)]


def test_instruments_that_share_a_channel_do_not_share_the_pedal():
    piano = [_program(0), _pedal(127), _on(60), _off(60, 20), _pedal(0, 80)]
    flute = [_program(73), _on(80), _off(80, 20)]
    assert _times(read_midi(_file(piano, flute))) == [(0.0, 0.5, 60), (0.0, 0.1, 80)]


def test_a_pedal_in_a_track_without_notes_holds_for_its_channel():
    control = [_pedal(127), _pedal(0, 100)]
    notes = read_midi(_file(control, [_on(60), _off(60, 20)], [_on(62, channel=1), _off(62, 20, channel=1)]))
    assert _times(notes) == [(0.0, 0.5, 60), (0.0, 0.1, 62)]


def test_files_without_notes_are_empty(tmp_path):
    assert read_midi(_file([])) == Notes.empty()
    assert read_midi(_file([_pedal(127), _program(3)])) == Notes.empty()
    write_midi(Notes.empty(), tmp_path / "empty.mid")
    assert read_midi(tmp_path / "empty.mid") == Notes.empty()


def test_sources_may_be_paths_bytes_or_files(tmp_path):
    content = _file([_on(60), _off(60, 100)])
    path = tmp_path / "a.mid"
    path.write_bytes(content)
    with path.open("rb") as file:
        assert read_midi(path) == read_midi(str(path)) == read_midi(content) == read_midi(file)


_GOOD = _file([_on(60), _off(60, 100), _on(62), _off(62, 100)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "does not start with 'MThd'"),
        (b"MThd", "broken MIDI file"),
        (_GOOD[:-8], "broken MIDI file"),
        (_GOOD[:12] + b"\x00\x00" + _GOOD[14:], "0 ticks per quarter note"),
        (_GOOD.replace(b"MTrk", b"Junk"), "broken MIDI file"),
    ],
)
def test_files_that_are_no_midi_are_named(tmp_path, content, reason):
    path = tmp_path / "piece.mid"
    path.write_bytes(content)
    with pytest.raises(MidiError, match=rf"piece\.mid.*{reason}"):
        read_midi(path)


def test_a_path_that_does_not_exist_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_midi(tmp_path / "none.mid")


@settings(deadline=None, max_examples=100)
@given(position=st.integers(14, len(_GOOD) - 1), byte=st.integers(0, 255))
def test_damaged_files_are_read_or_refused(position, byte):
    content = bytearray(_GOOD)
    content[position] = byte
    with contextlib.suppress(MidiError):
        read_midi(bytes(content))


# Notes that MIDI files of ours can hold exactly: known velocities, program 0 for
# drums, times on the grid of ticks, of a tick's length at least. Overlaps, even
# equal notes, are allowed.


@st.composite
def _notes(draw, max_size=40):
    row = st.tuples(
        st.integers(0, 4000),
        st.integers(1, 3000),
        st.integers(0, 127) | st.just(60),
        st.integers(1, 127),
        st.integers(0, 127) | st.just(0),
        st.booleans(),
    )
    rows = draw(st.lists(row, max_size=max_size))
    return Notes.from_rows(
        (onset / 2000, (onset + length) / 2000, pitch, velocity, 0 if is_drum else program, is_drum)
        for onset, length, pitch, velocity, program, is_drum in rows
    )


@settings(deadline=None, max_examples=100)
@given(notes=_notes())
def test_what_is_written_is_read_back(notes):
    content = io.BytesIO()
    write_midi(notes, content)
    assert read_midi(content.getvalue()) == notes.sorted()


@settings(deadline=None, max_examples=50)
@given(
    times=st.lists(st.tuples(st.floats(0, 10_000), st.floats(0.001, 100)), max_size=20),
)
def test_times_survive_to_half_a_tick(times):
    """Of notes on pitches of their own, in files of hours."""
    rows = [(onset, onset + length, index, 80, 0, False) for index, (onset, length) in enumerate(times)]
    notes = Notes.from_rows(rows)
    content = io.BytesIO()
    write_midi(notes, content)
    read = read_midi(content.getvalue())
    read = read[np.argsort(read.pitch)]
    np.testing.assert_allclose(read.onset_seconds, notes.onset_seconds, rtol=0, atol=0.000251)
    np.testing.assert_allclose(read.offset_seconds, notes.offset_seconds, rtol=0, atol=0.000251)


def _orchestra(num_programs):
    rows = [(0.0, 1.0, 60, 80, program, False) for program in range(num_programs)]
    rows += [(1.0, 2.0, 60, 80, program, False) for program in range(num_programs)]
    return Notes.from_rows([*rows, (0.0, 0.5, 38, 90, 0, True)])


def test_tracks_are_named_and_on_channels_of_their_own():
    content = io.BytesIO()
    write_midi(_orchestra(15), content)
    content.seek(0)
    tracks = mido.MidiFile(file=content).tracks[1:]
    assert [track.name for track in tracks][::7] == ["Acoustic Grand Piano", "Clavi", "Tubular Bells"]
    assert tracks[-1].name == "Drums"
    channels = [{m.channel for m in track if m.type == "note_on"} for track in tracks]
    assert channels == [{channel} for channel in [*range(9), *range(10, 16), 9]]


def test_more_programs_than_channels_sound_right_in_order_of_time(tmp_path):
    """A player merges the tracks: the program in force at each onset must be the note's."""
    notes = _orchestra(40)
    path = tmp_path / "orchestra.mid"
    write_midi(notes, path)
    assert read_midi(path) == notes.sorted()
    program, struck = {}, []
    for message in mido.MidiFile(path):
        if message.type == "program_change":
            program[message.channel] = message.program
        elif message.type == "note_on" and message.channel != 9:
            struck.append(program[message.channel])
    assert struck == [*range(40), *range(40)]


def test_pretty_midi_reads_the_same():
    pretty_midi = pytest.importorskip("pretty_midi")
    rng = np.random.default_rng(0)
    onset = np.arange(200) * 0.05
    is_drum = rng.random(200) < 0.2
    program = np.where(is_drum, 0, rng.choice([0, 24, 33], 200))
    pitch, velocity = 30 + np.arange(200) % 60, rng.integers(1, 128, 200)
    notes = Notes(onset, onset + 0.4, pitch, velocity, program, is_drum)
    content = io.BytesIO()
    write_midi(notes, content)
    content.seek(0)
    midi = pretty_midi.PrettyMIDI(content)
    rows = [
        (note.start, note.end, note.pitch, note.velocity, instrument.program, instrument.is_drum)
        for instrument in midi.instruments
        for note in instrument.notes
    ]
    read = Notes.from_rows(rows).sorted()
    assert read.replace(onset_seconds=0.0, offset_seconds=0.0) == notes.replace(
        onset_seconds=0.0, offset_seconds=0.0
    )
    np.testing.assert_allclose(read.onset_seconds, notes.onset_seconds, rtol=0, atol=1e-9)
    np.testing.assert_allclose(read.offset_seconds, notes.offset_seconds, rtol=0, atol=1e-9)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "piece.mid"
    path.write_bytes(b"old")

    def full_disk(self, content):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_midi(_orchestra(3), path)
    assert os.listdir(tmp_path) == ["piece.mid"]  # noqa: PTH208
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((-1.0, 1.0, 60, 80, 0, False), "from 0 s on"),
        ((0.0, np.nan, 60, 80, 0, False), "finite"),
        ((0.0, 1.0, 128, 80, 0, False), "pitch 128"),
        ((0.0, 1.0, 60, 128, 0, False), "velocity 128"),
    ],
)
def test_notes_that_midi_cannot_hold_are_refused(row, message):
    with pytest.raises(ValueError, match=message):
        write_midi(Notes.from_rows([row]), io.BytesIO())


def test_unknown_velocities_are_audible():
    content = io.BytesIO()
    write_midi(Notes.from_rows([(0.0, 1.0, 60, 0, 0, False)]), content)
    assert read_midi(content.getvalue()).velocity.tolist() == [100]
