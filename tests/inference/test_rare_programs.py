import numpy as np

from mt3.inference.rare_programs import reassign_rare_programs
from mt3.symbolic.notes import Notes


def notes_of(*parts):
    """Of (onset, pitch, program) each, sorted; drums where the program is None."""
    rows = [
        (onset, onset + 0.5, pitch, 100, program or 0, program is None) for onset, pitch, program in parts
    ]
    return Notes.from_rows(sorted(rows))


def reassigned(notes, share, confidence=None):
    confidence = np.ones(len(notes), np.float32) if confidence is None else np.asarray(confidence)
    return reassign_rare_programs(notes, confidence, share)


# A bass below and a piano above, and a violin that plays one note of each.
BASS = [(index * 0.5, 36 + index % 5, 33) for index in range(40)]
PIANO = [(index * 0.5 + 0.1, 72 + index % 5, 0) for index in range(40)]
STRAYS = [(5.3, 37, 40), (6.3, 74, 40)]


def test_strays_go_to_who_plays_there():
    notes = notes_of(*BASS, *PIANO, *STRAYS)
    smoothed = reassigned(notes, 0.05)
    assert set(smoothed.program.tolist()) == {0, 33}
    for onset, pitch, program in ((5.3, 37, 33), (6.3, 74, 0)):
        row = np.flatnonzero((notes.onset_seconds == onset) & (notes.pitch == pitch))
        assert smoothed.program[row].tolist() == [program]
    others = notes.program != 40
    assert smoothed[others] == notes[others]
    assert smoothed.replace(program=0) == notes.replace(program=0)


def test_time_matters():
    """The same pitches, one instrument after the other."""
    early = [(index * 0.5, 60 + index % 5, 0) for index in range(40)]
    late = [(index * 0.5 + 60, 60 + index % 5, 73) for index in range(40)]
    smoothed = reassigned(notes_of(*early, *late, (10.2, 62, 40), (70.2, 62, 40)), 0.05)
    assert set(smoothed.program[smoothed.onset_seconds < 30].tolist()) == {0}
    assert set(smoothed.program[smoothed.onset_seconds > 30].tolist()) == {73}


def test_one_of_the_family_is_likelier():
    """The stray is a piccolo (72): a pipe, as the flute (73) is; the viola (41) plays the same."""
    viola = [(index * 0.5, 60 + index % 5, 41) for index in range(40)]
    flute = [(index * 0.5, 60 + index % 5, 73) for index in range(40)]
    smoothed = reassigned(notes_of(*viola, *flute, (10.2, 62, 72)), 0.05)
    assert np.bincount(smoothed.program)[[41, 73]].tolist() == [40, 41]


def test_what_is_not_rare_stays():
    notes = notes_of(*BASS, *PIANO, *STRAYS)
    assert reassigned(notes, 2 / 82) == notes
    assert reassigned(notes, 0.0) == notes


def test_doubtful_notes_count_less():
    notes = notes_of(*BASS, *PIANO, *[(index * 2.0, 55, 40) for index in range(8)])
    assert 40 in reassigned(notes, 0.05).program
    doubts = np.where(notes.program == 40, 0.1, 1.0)
    assert 40 not in reassigned(notes, 0.05, doubts).program


def test_one_program_is_always_left():
    notes = notes_of((0.0, 60, 0), (1.0, 60, 1), (2.0, 60, 1), (3.0, 60, 2))
    assert set(reassigned(notes, 0.9).program.tolist()) == {1}


def test_drums_are_left_alone_and_do_not_count():
    notes = notes_of((0.0, 38, None), *BASS, *[(index * 0.1, 42, None) for index in range(200)])
    assert reassigned(notes, 0.3) == notes
    only_drums = notes[notes.is_drum]
    assert reassigned(only_drums, 0.3) == only_drums
    assert len(reassigned(Notes.empty(), 0.3)) == 0


def test_more_rare_notes_than_are_looked_at_at_a_time():
    rng = np.random.default_rng(0)
    common = [(float(onset), 60, 0) for onset in rng.uniform(0, 1000, 30000)]
    rare = [
        (float(onset), 60, int(program))
        for onset, program in zip(rng.uniform(0, 1000, 1500), rng.integers(1, 100, 1500), strict=True)
    ]
    assert set(reassigned(notes_of(*common, *rare), 0.01).program.tolist()) == {0}
