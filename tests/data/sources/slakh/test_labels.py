"""What the stems of Slakh2100 are labelled as, and the correction of bass."""

import pytest

from mt3.data.slakh_stems import INSTRUMENT_CLASSES, instrument_class
from mt3.data.sources.base import PlanOptions
from mt3.data.sources.slakh import SOURCE, SlakhConfig

EXCEPTION = "scarbee_jay_bass_slap_both.nkm"

# Class -> (program of its labels, General MIDI programs that belong to it).
FACTS = {
    "Acoustic Piano": (0, "0,1,3,6,7"),
    "Electric Piano": (4, "2,4,5"),
    "Chromatic Percussion": (8, "8-15"),
    "Organ": (16, "16-23"),
    "Acoustic Guitar": (24, "24-25"),
    "Clean Electric Guitar": (26, "26-28"),
    "Distorted Electric Guitar": (29, "29-31"),
    "Acoustic Bass": (32, "32,35"),
    "Electric Bass": (33, "33,34,36-39"),
    "Violin": (40, "40"),
    "Viola": (41, "41"),
    "Cello": (42, "42"),
    "Contrabass": (43, "43"),
    "Orchestral Harp": (46, "46"),
    "Timpani": (47, "47"),
    "String Ensemble": (48, "44,45,48,49"),
    "Synth Strings": (50, "50-51"),
    "Choir and Voice": (52, "52-54"),
    "Orchestral Hit": (55, "55"),
    "Trumpet": (56, "56,59"),
    "Trombone": (57, "57"),
    "Tuba": (58, "58"),
    "French Horn": (60, "60"),
    "Brass Section": (61, "61-63"),
    "Soprano/Alto Sax": (64, "64-65"),
    "Tenor Sax": (66, "66"),
    "Baritone Sax": (67, "67"),
    "Oboe": (68, "68"),
    "English Horn": (69, "69"),
    "Bassoon": (70, "70"),
    "Clarinet": (71, "71"),
    "Pipe": (73, "72-79"),
    "Synth Lead": (80, "80-87"),
    "Synth Pad": (88, "88-95"),
}


def numbers_in(ranges):
    """ "1-3,7" -> [1, 2, 3, 7]."""
    found = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


LABELLED = {
    program: (name, label) for name, (label, ranges) in FACTS.items() for program in numbers_in(ranges)
}


def make_one(root, **config):
    """The recording of the one track, in the test split."""
    (item,) = SOURCE.plan(SlakhConfig(**config), [str(root)], PlanOptions()).items["test"]
    (recording,) = SOURCE.make(item)
    return recording


def pitches(recording):
    """By program."""
    notes = recording.notes
    return {
        program: sorted(notes.pitch[notes.program == program].tolist()) for program, _ in notes.instruments
    }


@pytest.mark.parametrize("program", range(129))
def test_class_of_each_program(program):
    found = instrument_class(program)
    assert (found and (found.name, found.program)) == LABELLED.get(program)
    assert instrument_class(program, is_drum=True).name == "Drums"


def test_there_are_34_classes_and_drums():
    assert len(FACTS) == 34
    assert [one.name for one in INSTRUMENT_CLASSES] == [*FACTS, "Drums"]
    assert sum(len(numbers_in(ranges)) for _, ranges in FACTS.values()) == len(LABELLED) == 96


def test_stems_are_labelled_by_their_class(testing, write_stem_midi):
    """All 128 programs; MIDI files whose own program and channel say something else."""
    stems = {f"S{n:03d}": {"program_num": n, "notes": ((10, 90, n),)} for n in range(128)}
    stems["S128"] = {"program_num": 128, "is_drum": True, "notes": ((5, 95, 36),)}
    stems["S129"] = {"program_num": 0, "is_drum": True, "notes": ((6, 96, 38),)}
    root = testing(stems, suffix=".wav", rate=16000, seconds=0.1)
    for path in root.rglob("S0*.mid"):
        write_stem_midi(path, stems[path.stem]["notes"], 9 if path.stem == "S001" else 2, 127)
    recording = make_one(root, octave_correction=False)
    pitched, drums = (recording.notes[recording.notes.is_drum == is_drum] for is_drum in (False, True))
    found = dict(zip(pitched.pitch.tolist(), pitched.program.tolist(), strict=True))
    assert found == {program: label for program, (_, label) in LABELLED.items()}
    assert (drums.pitch.tolist(), drums.program.tolist()) == ([36, 38], [0, 0])
    assert recording.extra["classes"] == [*FACTS, "Drums"]
    assert set(recording.extra["skipped_stems"]) == {f"S{program:03d}" for program in range(96, 128)}
    assert recording.extra["skipped_stems"]["S104"] == "program 104 has no class"


BASSES = [
    {"program_num": 35, "notes": ((0, 100, 40), (200, 300, 43)), "plugin_name": "upright.nkm"},
    {"program_num": 33, "notes": ((0, 100, 50),), "plugin_name": "finger.nkm"},
    {"program_num": 36, "notes": ((0, 100, 60),), "plugin_name": EXCEPTION},
    {"program_num": 39, "notes": ((0, 100, 70), (200, 300, 11), (400, 500, 12))},
    {"program_num": 43, "notes": ((0, 100, 45),)},
    {"program_num": 31, "notes": ((0, 100, 55),)},
    {"program_num": 40, "notes": ((0, 100, 56),)},
    {"program_num": 33, "notes": ((0, 100, 36),), "is_drum": True},
]


def test_bass_is_lowered_by_an_octave_but_for_the_exception(testing):
    recording = make_one(testing(BASSES))
    assert pitches(recording) == {0: [36], 29: [55], 32: [28, 31], 33: [0, 38, 58, 60], 40: [56], 43: [45]}
    assert recording.extra["corrections"] == {"bass_octave": 5, "out_of_range": 1}


def test_every_bass_program_is_lowered(testing):
    stems = [{"program_num": program, "notes": ((0, 100, program + 20),)} for program in range(31, 41)]
    recording = make_one(testing(stems, seconds=0.1))
    assert pitches(recording) == {29: [51], 32: [40, 43], 33: [41, 42, 44, 45, 46, 47], 40: [60]}


def test_bass_is_left_where_asked(testing):
    root = testing(BASSES)
    recording = make_one(root, octave_correction=False)
    assert pitches(recording)[32] == [40, 43]
    assert pitches(recording)[33] == [11, 12, 50, 60, 70]
    assert recording.extra["corrections"] == {}
    recording = make_one(root, octave_exceptions=["finger.nkm"])
    assert pitches(recording)[33] == [0, 48, 50, 58]


def test_the_pedal_lengthens_notes_but_not_drums(testing):
    import mido

    root = testing([0, {"program_num": 128, "is_drum": True}])
    for name, channel in (("S00", 4), ("S01", 4)):
        path = next(root.rglob(f"{name}.mid"))
        midi = mido.MidiFile(ticks_per_beat=480)
        events = [("control_change", {"control": 64, "value": 127}, 10), ("note_on", {"note": 60}, 86)]
        events += [("note_off", {"note": 60}, 96), ("control_change", {"control": 64, "value": 0}, 192)]
        midi.tracks.append([mido.Message(kind, channel=channel, time=t, **f) for kind, f, t in events])
        midi.save(path)
    notes = make_one(root).notes
    assert notes.is_drum.tolist() == [False, True]
    assert notes.onset_seconds.tolist() == pytest.approx([0.1, 0.1])
    assert notes.offset_seconds.tolist() == pytest.approx([0.4, 0.2])
