"""Lists of instruments: what names mean, what is offered for unknown ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.symbolic.general_midi import FAMILIES, PROGRAM_NAMES
from mt3.symbolic.instrument_names import Instruments, map_instruments, parse_instruments


@pytest.mark.parametrize(
    ("text", "programs", "drums"),
    [
        ("violin", [40], False),
        ("Violins, 33", [33, 40], False),
        ("piano,bass,drums", [*range(8), *range(32, 40)], True),
        ("drums", [], True),
        ("percussion", [], True),
        ("saxes", [64, 65, 66, 67], False),
        ("alto-saxophone", [65], False),
        ("voice", [52, 53, 54], False),
        ("choir", [52, 53, 54], False),
        ("French Horn", [60], False),
        ("church organ", [19], False),
        ("organ", range(16, 24), False),
        ("strings", [*range(40, 46), *range(48, 52)], False),
        ("lead 2 (sawtooth)", [81], False),
        ("0, 127,", [0, 127], False),
        (" guitar ,guitar", range(24, 32), False),
    ],
)
def test_names_numbers_and_everyday_words(text, programs, drums):
    assert parse_instruments(text) == Instruments(tuple(programs), drums)


@pytest.mark.parametrize("program", range(128))
def test_every_program_has_its_own_name(program):
    assert parse_instruments(PROGRAM_NAMES[program]).programs == (program,)


@pytest.mark.parametrize("index", range(16))
def test_families_hold_their_programs(index):
    """But for bowed strings, which everyday words gather from two families."""
    if FAMILIES[index] != "Strings":
        assert parse_instruments(FAMILIES[index]).programs == tuple(range(8 * index, 8 * index + 8))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pianno", "No instrument is called 'pianno'; try piano, "),
        ("drums, saxofone", "called 'saxofone'; try saxophone"),
        ("qqqq", "try piano, strings, drums, or a program's number"),
        ("128", r"Program 128 is outside 0\.\.127; programs count from 0"),
        ("-1", r"Program -1 is outside"),
        ("", "'' names no instrument; give some, such as piano,bass,drums"),
        (" , ", "names no instrument"),
    ],
)
def test_what_is_unknown_is_explained(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_instruments(text)
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=30))
def test_any_text_is_a_list_or_one_line(text):
    message, instruments = "", None
    try:
        instruments = parse_instruments(text)
    except ValueError as error:
        message = str(error)
    assert bool(message) == (instruments is None)
    assert len(message.splitlines()) <= 1


def test_granularities_of_models():
    instruments = Instruments((1, 33, 41, 42), True)
    assert map_instruments(instruments, "full") == instruments
    assert map_instruments(instruments, "midi_class") == Instruments((0, 32, 40), True)
    assert map_instruments(instruments, "flat") == Instruments((0,), True)
    assert map_instruments(Instruments((), True), "flat") == Instruments((), True)


@pytest.mark.parametrize(
    ("programs", "drums", "message"),
    [((128,), False, "128 is outside"), ((3, 2), False, "must increase"), ((), False, "at least one")],
)
def test_instruments_are_checked(programs, drums, message):
    with pytest.raises(ValueError, match=message):
        Instruments(programs, drums)
