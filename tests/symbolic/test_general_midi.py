import pytest

from mt3.symbolic.general_midi import FAMILIES, PROGRAM_NAMES, family_name, program_name


def test_names_stand_where_general_midi_puts_them():
    """Compared by the words that all spellings of the standard's names share."""
    pretty_midi = pytest.importorskip("pretty_midi")
    assert len(PROGRAM_NAMES) == len(set(PROGRAM_NAMES)) == 128
    assert len(FAMILIES) == 16
    different = [
        program
        for program in range(128)
        if not _words(program_name(program)) & _words(pretty_midi.program_to_instrument_name(program))
    ]
    # Overdriven/Guitar and the like share words; these are spelled differently.
    assert different == [7]  # Clavi, Clavinet


def _words(name):
    return {word.strip("()s").lower() for word in name.split()} - {"1", "2", ""}


def test_families_hold_eight_programs():
    assert family_name(0) == family_name(7) == "Piano"
    assert family_name(8) == "Chromatic Percussion"
    assert family_name(33) == "Bass"
    assert family_name(127) == "Sound Effects"


def test_drums_are_drums_whatever_the_program():
    assert program_name(5, is_drum=True) == family_name(5, is_drum=True) == "Drums"


@pytest.mark.parametrize("program", [-1, 128])
def test_programs_outside_are_refused(program):
    with pytest.raises(ValueError, match=r"outside 0\.\.127"):
        program_name(program)
    with pytest.raises(ValueError, match=r"outside 0\.\.127"):
        family_name(program)
