"""Two or three segments of 200 steps, each 100 after the one before: the first seam is at 150."""

import dataclasses
import math

from mt3.inference.seams import HeardSegment, SeamJoiner
from mt3.symbolic.sounding_notes import HeardNote


def note(onset, offset, pitch=60, program=0, *, probability=1.0, **flags):
    return HeardNote(onset, offset, pitch, 100, program, False, math.log(probability), **flags)


def hit(onset, pitch=38):
    return HeardNote(onset, onset + 1, pitch, 100, 0, True, 0.0)


def join(*segments):
    """Rows of (onset, offset, pitch, program) by onset."""
    emitted = []
    joiner = SeamJoiner(5, emitted.append)
    for index, notes in enumerate(segments):
        joiner.add(HeardSegment(100 * index, 100 * index + 200, notes))
    joiner.finish()
    return sorted((each.onset_step, each.offset_step, each.pitch, each.program) for each in emitted)


def tied(start, offset, pitch=60, program=0, **flags):
    return note(start, offset, pitch, program, is_adopted=True, **flags)


def test_each_is_believed_on_its_side():
    first = [note(20, 40), note(120, 140, 62), note(160, 180, 64)]
    second = [note(105, 110, 70), note(170, 190, 72)]
    assert join(first, second) == [(20, 40, 60, 0), (120, 140, 62, 0), (170, 190, 72, 0)]


def test_what_both_hear_is_one_note():
    assert join([note(120, 140)], [note(122, 139)]) == [(120, 140, 60, 0)]  # before the seam: the first
    assert join([note(160, 180)], [note(162, 190)]) == [(162, 190, 60, 0)]  # after it: the second
    assert join([note(120, 170)], [note(122, 180)]) == [(120, 180, 60, 0)]  # through it: each its own end
    assert join([note(148, 170)], [note(152, 180)]) == [(148, 180, 60, 0)]  # the seam between the two
    assert join([note(152, 170)], [note(148, 180)]) == [(148, 180, 60, 0)]
    assert join([note(120, 200)], [note(122, 130)]) == [
        (120, 150, 60, 0)
    ]  # no longer than either is believed
    assert len(join([hit(149)], [hit(151)])) == 1


def test_a_note_goes_on_where_both_hear_it():
    heard_whole = note(20, 200, is_open=True)
    assert join([heard_whole], [tied(100, 180)]) == [(20, 180, 60, 0)]
    longer = [tied(100, 300, is_open=True)], [tied(200, 290)]
    assert join([heard_whole], *longer) == [(20, 290, 60, 0)]


def test_a_note_that_only_the_first_hears_ends_as_it_says():
    assert join([note(20, 170)], []) == [(20, 170, 60, 0)]
    assert join([note(20, 200, is_open=True)], []) == [(20, 200, 60, 0)]
    # But not later than the next of its pitch and instrument begins.
    assert join([note(20, 200, is_open=True)], [note(160, 190)]) == [(20, 160, 60, 0), (160, 190, 60, 0)]


def test_a_note_that_one_segment_misses_can_be_carried_on_by_the_next():
    sounding = note(20, 200, is_open=True)
    assert join([sounding], [], [tied(200, 290)]) == [(20, 290, 60, 0)]
    assert join([sounding], [], [], [tied(300, 390)]) == [(20, 200, 60, 0)]  # too late
    # Missed as well: ended where the first one, who is trusted there, hears it sound.
    assert join([sounding], [tied(100, 120)]) == [(20, 150, 60, 0)]
    assert join([sounding], [tied(100, 120)], [tied(200, 290)]) == [(20, 290, 60, 0)]


def test_a_note_that_the_first_hears_end_does_not_go_on():
    assert join([note(20, 140)], [tied(100, 180)]) == [(20, 140, 60, 0)]


def test_a_note_that_only_the_second_hears_is_left_out():
    assert join([], [note(120, 180)]) == []
    assert join([], [tied(100, 180)]) == []
    assert join([], [note(160, 180)]) == [(160, 180, 60, 0)]


def test_ties_of_the_first_segment_are_not_believed():
    assert join([tied(0, 50), note(60, 90)]) == [(60, 90, 60, 0)]


def test_a_sounding_note_keeps_its_instrument():
    assert join([note(20, 200, is_open=True)], [tied(100, 180, program=24)]) == [(20, 180, 60, 0)]


def test_the_instrument_with_more_notes_is_believed():
    """The first hears 24 four times; a later note is 0 for one of the two and 24 for the other."""
    often = [note(10 * index, 10 * index + 5, 70, 24) for index in range(4)]
    for programs in ((0, 24), (24, 0)):
        first, second = (note(120, 140, 62, program) for program in programs)
        assert join([*often, first], [second])[-1] == (120, 140, 62, 24)
    # What a segment is sure of counts more.
    first, second = note(120, 140, 62, 24, probability=0.1), note(121, 140, 62)
    assert join([*often, first], [second])[-1] == (120, 140, 62, 0)


def test_doubtful_notes_are_less_evidence():
    often = [note(10 * index, 10 * index + 5, 70, 24, probability=0.1) for index in range(4)]
    less_often = [note(50 + 10 * index, 55 + 10 * index, 70) for index in range(2)]
    assert join([*often, *less_often, note(120, 140, 62)], [note(121, 140, 62, 24)])[-1][3] == 0


def test_ties_are_no_evidence():
    """A note that lasts is counted once, not with every segment that ties it."""
    struck_twice = [note(10 * index, 10 * index + 5, 70, 24) for index in range(2)]
    held = [tied(100, 300, 80 + index) for index in range(8)]
    first, second = [*struck_twice, note(120, 140, 62)], [*held, note(121, 140, 62, 24)]
    assert join(first, second)[-1] == (120, 140, 62, 24)


def test_three_segments_vote():
    """With 75 % overlap a note is heard by up to four."""
    often = [note(5 * index, 5 * index + 3, 70, program) for index in range(8) for program in (0, 24)]
    emitted = []
    joiner = SeamJoiner(5, emitted.append)
    for index, program in enumerate((0, 24, 24)):
        heard = [note(120, 140, 62, program)]
        joiner.add(HeardSegment(50 * index, 50 * index + 200, heard + (often if index == 0 else [])))
    joiner.finish()
    assert emitted[-1].program == 24


def test_decisions_are_no_evidence():
    """Two instruments as common as each other, of which one is misheard once: the other stays as it is."""
    first = [note(10 * index, 10 * index + 5, 70, 24 * (index % 2)) for index in range(8)]
    second = [note(125, 140, 62, 24), note(160, 170, 63, 24), note(180, 190, 64, 24)]
    joined = join([*first, note(125, 140, 62)], second)
    assert [row[3] for row in joined[-2:]] == [24, 24]


def test_agreeing_leaves_no_overlaps():
    """The second hears one pitch from two instruments, of which one is the other."""
    often = [note(10 * index, 10 * index + 5, 70) for index in range(8)]
    first = [note(120, 160, 64), note(155, 190, 64, 24)]
    second = [note(120, 160, 64), note(155, 190, 64)]
    assert join([*often, *first], second)[-2:] == [(120, 155, 64, 0), (155, 190, 64, 0)]


def test_drums_have_no_instrument_to_agree_on():
    kick = HeardNote(120, 121, 38, 100, 0, True, 0.0)
    assert join([kick], [note(120, 140, 38, 24), note(170, 190, 64, 24)])[-1] == (170, 190, 64, 24)


def test_notes_are_handed_on_when_nothing_can_change_them():
    emitted = []
    joiner = SeamJoiner(5, emitted.append)
    joiner.add(HeardSegment(0, 200, [note(20, 40), note(160, 180, 62)]))
    assert emitted == []
    joiner.add(HeardSegment(100, 300, [note(160, 180, 62)]))
    assert [each.onset_step for each in emitted] == [20]
    joiner.add(HeardSegment(200, 400, []))
    assert [each.onset_step for each in emitted] == [20, 160]


def test_confidence_is_of_the_onset_that_is_believed():
    emitted = []
    joiner = SeamJoiner(5, emitted.append)
    joiner.add(HeardSegment(0, 200, [note(120, 200, probability=0.5, is_open=True)]))
    joiner.add(HeardSegment(100, 300, [note(121, 180, probability=0.9)]))
    joiner.finish()
    (one,) = emitted
    assert math.exp(one.log_prob) == 0.5


def test_segments_are_values():
    segment = HeardSegment(0, 200, [note(1, 2)])
    assert dataclasses.replace(segment, end_step=300).notes == segment.notes
