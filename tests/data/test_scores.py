"""Scores of music21's corpus as pieces, against music21's own MIDI and hand-worked cases."""

import numpy as np
import pytest

from mt3.data import scores
from mt3.data.pieces import PieceError


@pytest.fixture(scope="module")
def corpus():
    pytest.importorskip("music21")
    return scores.score_files


def find(files, name):
    return next(path for path in files if path.name == name)


def test_collections_are_in_the_corpus(corpus):
    counts = {name: len(corpus(name)) for name in scores.COLLECTIONS}
    assert counts["bach_chorales"] > 350
    assert counts["string_quartets"] > 30
    assert counts["folk_songs"] > 20
    assert counts["fiddle_tunes"] > 1000


def test_chorale_by_hand(corpus):
    # BWV 269, "Aus meines Herzens Grunde": the first four notes of each voice, as printed
    # (a crotchet's upbeat, then the bar; G major, the soprano's G-G-D-B).
    (piece,) = scores.parse_score("bach_chorales", find(corpus("bach_chorales"), "bwv269.mxl"))
    assert piece.id == "bach_chorales/bwv269"
    starts = [piece[piece.part == part].notes.sorted().pitch[:4].tolist() for part in range(4)]
    assert starts[0] == [67, 67, 74, 71]
    assert starts[3][0] == 43
    assert set(piece.notes.program.tolist()) == {52}
    assert piece.notes.onset_seconds.min() == 0


def test_sounding_notes_are_those_of_music21s_midi(corpus, tmp_path):
    import music21

    from mt3.symbolic.conversions import read_midi

    path = find(corpus("string_quartets"), "movement4.mxl")
    (piece,) = scores.parse_score("string_quartets", path)
    midi = tmp_path / "x.mid"
    music21.converter.parse(path, forceSource=True, storePickle=False).write("midi", fp=midi)
    theirs = read_midi(midi)
    ours = piece.notes.replace(program=0)
    # Pitches and how often each is struck; music21 writes grace notes in its own way.
    for pitch in range(30, 100):
        assert abs(int((ours.pitch == pitch).sum()) - int((theirs.pitch == pitch).sum())) <= 3
    assert abs(len(ours) - len(theirs)) <= 0.02 * len(theirs)


def write_abc(tmp_path, body, header="L:1/4\nQ:1/4=60\nM:4/4\nK:C\n"):
    path = tmp_path / "tune.abc"
    path.write_text(f"X:1\nT:Tune\n{header}{body}\n")
    return path


def rows(piece):
    notes = piece.notes
    return [
        (round(float(a), 3), round(float(b), 3), int(p))
        for a, b, p in zip(notes.onset_seconds, notes.offset_seconds, notes.pitch, strict=True)
    ]


def test_ties_are_joined_and_chord_symbols_are_silent(tmp_path, corpus):
    path = write_abc(tmp_path, '"G7"C D E2-|E2 F2|')
    (piece,) = scores.parse_score("folk_songs", path)
    assert rows(piece) == [(0, 1, 60), (1, 2, 62), (2, 6, 64), (6, 8, 65)]


def test_ties_of_chords_are_joined_note_by_note(tmp_path, corpus):
    import music21

    chords = [music21.chord.Chord(names, quarterLength=4) for names in (["C4", "E4"], ["C4", "F4"])]
    chords[0].notes[0].tie = music21.tie.Tie("start")
    chords[1].notes[0].tie = music21.tie.Tie("stop")
    part = music21.stream.Part([music21.tempo.MetronomeMark(number=60), *chords])
    path = tmp_path / "x.musicxml"
    music21.stream.Score([part]).write("musicxml", fp=path)
    (piece,) = scores.parse_score("folk_songs", path)
    assert sorted(rows(piece)) == [(0, 4, 64), (0, 8, 60), (4, 8, 65)]


def test_grace_notes_come_before_the_beat(tmp_path, corpus):
    (piece,) = scores.parse_score("folk_songs", write_abc(tmp_path, "C D {EF}G A|"))
    # Two graces of an eighth of a beat each before the third beat, at 1 beat a second.
    assert sorted(rows(piece)) == [
        (0, 1, 60),
        (1, 2, 62),
        (1.75, 1.875, 64),
        (1.875, 2.0, 65),
        (2, 3, 67),
        (3, 4, 69),
    ]


def test_a_file_of_tunes_holds_a_piece_each(tmp_path, corpus):
    path = tmp_path / "tunes.abc"
    tune = "X:{}\nT:Tune\nL:1/4\nM:4/4\nK:C\nC D E F|\n\n"
    path.write_text("".join(tune.format(number) for number in (1, 2, 3)))
    pieces = scores.parse_score("folk_songs", path)
    assert [piece.id for piece in pieces] == [f"folk_songs/tunes-{i:04d}" for i in (1, 2, 3)]


def test_tempo_changes():
    quarters = np.array([[0.0, 1.0], [4.0, 6.0], [8.0, 9.0]])
    # 60 per minute for four quarters, then 120, then 30 from quarter 8 on.
    seconds = scores._to_seconds(quarters, [(4.0, 120.0), (8.0, 30.0)], 60.0)
    np.testing.assert_allclose(seconds, [[0, 1], [4, 5], [6, 8]])


def test_unreadable_score_is_named(tmp_path, corpus):
    path = tmp_path / "broken.mxl"
    path.write_bytes(b"no zip")
    with pytest.raises(PieceError, match=r"broken\.mxl: music21 cannot parse it"):
        scores.parse_score("bach_chorales", path)


def test_without_music21_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr(scores.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PieceError, match="pip install music21"):
        scores.score_files("bach_chorales")
