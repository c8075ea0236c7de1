"""Scores as music21 reads them."""

import collections
import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mt3.inference.formats import NoteDocument, OutputOptions, write_notes
from mt3.inference.formats.music_xml import write_music_xml
from mt3.symbolic.notes import Notes

music21 = pytest.importorskip("music21")


def parsed(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return music21.converter.parse(path, forceSource=True, storePickle=False)


def struck(part):
    """What begins in a part: (offset in quarters, MIDI pitch or None for drums), ties joined."""
    onsets = []
    for element in part.flatten().notes:
        for note in getattr(element, "notes", [element]):
            if note.tie is None or note.tie.type == "start":
                pitch = note.pitch.midi if hasattr(note, "pitch") else None
                onsets.append((float(element.offset), pitch))
    return sorted(onsets, key=str)


def song(seed=0):
    """Eight measures at 100 a minute: piano with both hands, bass, drums, played a little loosely."""
    rng = np.random.default_rng(seed)
    rows = []
    for beat in range(32):
        rows.append((beat, 1.0, 76 + beat % 5, 0, False))
        rows.append((beat + 0.5, 0.5, 72, 0, False))
        rows += [(beat, 0.2, 36 if beat % 2 == 0 else 38, 0, True), (beat + 0.5, 0.2, 42, 0, True)]
        if beat % 4 == 0:
            rows += [(beat, 4.0, 48, 0, False), (beat, 4.0, 40, 0, False), (beat, 4.0, 28, 33, False)]
    beats = np.array([(one[0], one[0] + one[1]) for one in rows])
    times = np.maximum(0.6 * beats + rng.normal(0, 0.008, beats.shape), 0)
    return Notes.from_rows(
        [
            (*time, pitch, 80, program, is_drum)
            for time, (_, _, pitch, program, is_drum) in zip(times, rows, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def score_of_song(tmp_path_factory):
    path = tmp_path_factory.mktemp("score") / "song.musicxml"
    write_notes(song(), path)
    return parsed(path)


def test_there_is_a_part_an_instrument_with_its_name(score_of_song):
    names = [part.partName for part in score_of_song.parts]
    # Music21 makes a part of each staff of the piano.
    assert names == ["Acoustic Grand Piano", "Acoustic Grand Piano", "Electric Bass (finger)", "Drums"]
    programs = [part.getInstrument().midiProgram for part in score_of_song.parts]
    assert programs[:3] == [0, 0, 33]
    clefs = [part.flatten().getElementsByClass("Clef")[0] for part in score_of_song.parts]
    assert [one.sign for one in clefs] == ["G", "F", "F", "percussion"]
    assert clefs[2].octaveChange == -1


def test_every_note_is_where_it_was_played(score_of_song):
    right, left, bass, drums = (struck(part) for part in score_of_song.parts)
    assert right == sorted(
        [(beat + half, pitch) for beat in range(32) for half, pitch in ((0.0, 76 + beat % 5), (0.5, 72))],
        key=str,
    )
    assert left == sorted([(float(beat), pitch) for beat in range(0, 32, 4) for pitch in (40, 48)], key=str)
    assert bass == [(float(beat), 28) for beat in sorted(range(0, 32, 4), key=str)]
    assert collections.Counter(offset for offset, _ in drums) == dict.fromkeys(np.arange(64) / 2, 1)


def test_measures_are_full_and_the_tempo_is_said(score_of_song):
    for part in score_of_song.parts:
        measures = part.getElementsByClass("Measure")
        assert len(measures) == 8
        for measure in measures:
            assert measure.duration.quarterLength == 4
            assert measure.barDuration.quarterLength == 4
    marks = score_of_song.flatten().getElementsByClass("MetronomeMark")
    assert {(mark.offset, mark.number) for mark in marks} == {(0, 100)}


def test_drums_say_which_they_are(score_of_song):
    drums = score_of_song.parts[-1]
    assert all("Unpitched" in note.classes for note in drums.flatten().notes)
    places = [note.displayName for note in drums.flatten().notes][:4]
    assert places == ["F4", "G5", "C5", "G5"]
    assert drums.flatten().notes[1].notehead == "x"


def test_ties_lead_over_barlines(tmp_path):
    # A steady pulse, and above it a note through three measures.
    rows = [(0.5 * k, 0.5 * k + 0.4, 60 + 7 * (k % 4 == 0), 80, 40, False) for k in range(16)]
    notes = Notes.from_rows([*rows, (1.0, 5.5, 84, 80, 73, False)])
    path = tmp_path / "tied.musicxml"
    options = OutputOptions(beats_per_measure=4)
    write_music_xml(NoteDocument(notes, options=options), path)
    flute = parsed(path).parts[1]
    held = list(flute.flatten().notes)
    assert [note.tie.type for note in held] == ["start", *["continue"] * (len(held) - 2), "stop"]
    assert sum(note.quarterLength for note in held) == 9
    assert len(struck(flute)) == 1


def test_triplets_are_bracketed(tmp_path):
    rows = [(0.6 * beat, 0.6 * beat + 0.6, 48, 80, 32, False) for beat in range(16)]
    rows += [(0.2 * k, 0.2 * k + 0.2, 72 + k % 3, 80, 73, False) for k in range(48)]
    path = tmp_path / "triplets.musicxml"
    write_music_xml(NoteDocument(Notes.from_rows(rows), options=OutputOptions(beats_per_measure=4)), path)
    score = parsed(path)
    assert score.flatten().getElementsByClass("MetronomeMark")[0].number == 100
    kinds = [tuplet.get("type") for tuplet in ElementTree.parse(path).iter("tuplet")]
    assert kinds == ["start", "stop"] * 16
    assert [float(note.quarterLength) for note in score.parts[1].flatten().notes] == pytest.approx(
        [1 / 3] * 48
    )


def test_hostile_names_are_words(tmp_path):
    path = tmp_path / "a.musicxml"
    title = '<part id="x">&\x00\ud800"'
    write_music_xml(NoteDocument(song(), options=OutputOptions(title=title)), path)
    assert ElementTree.parse(path).findtext("work/work-title") == '<part id="x">&\ufffd\ufffd"'


def test_no_notes_are_an_empty_score(tmp_path):
    path = tmp_path / "none.musicxml"
    write_notes(Notes.empty(), path)
    (part,) = parsed(path).parts
    assert not list(part.flatten().notes)


def test_times_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs finite times"):
        write_notes(Notes.from_rows([(0, np.inf, 60, 80, 0, False)]), tmp_path / "a.musicxml")


_rows = st.builds(
    lambda onset, length, *rest: (onset, onset + length, *rest),
    *(st.floats(0, 20), st.floats(0, 4), st.integers(30, 90), st.just(80), st.sampled_from([0, 24, 40])),
    st.booleans(),
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(_rows, max_size=30), beats_per_measure=st.sampled_from([None, 2, 3, 5, 7]))
def test_durations_of_every_voice_fill_its_measures(rows, beats_per_measure, tmp_path_factory):
    path = tmp_path_factory.mktemp("score") / "any.musicxml"
    options = OutputOptions(beats_per_measure=beats_per_measure)
    write_music_xml(NoteDocument(Notes.from_rows(rows), options=options), path)
    for part in ElementTree.parse(path).getroot().iter("part"):
        length = 12 * int(part.findtext("measure/attributes/time/beats") or 0)
        for measure in part.iter("measure"):
            now, ends = 0, []
            for element in measure:
                ticks = int(element.findtext("duration") or 0)
                if element.tag == "backup":
                    ends.append(now)
                    now -= ticks
                elif element.tag in ("note", "forward") and element.find("chord") is None:
                    now += ticks
            assert {*ends, now} == {length}
