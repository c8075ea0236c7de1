"""Packed notes, unpacked as packing.py says they are packed."""

import base64
import zlib

import numpy as np
import pytest

from mt3.evaluation.note_errors import find_note_errors
from mt3.evaluation.report_page.packing import pack_notes
from mt3.symbolic.notes import Notes


def unpack(text):
    """Both sides as (onset_ms, duration_ms, pitch, program, velocity, kind)."""
    content = zlib.decompress(base64.b64decode(text))
    counts = np.frombuffer(content, "<u4", 2)
    offset, sides = 8, []
    for count in counts.tolist():
        columns = []
        for dtype in ("<i4", "<u4", "u1", "u1", "u1", "u1"):
            columns.append(np.frombuffer(content, dtype, count, offset))
            offset += count * np.dtype(dtype).itemsize
        sides.append((np.cumsum(columns[0]), *columns[1:]))
    assert offset == len(content)
    return sides


@pytest.mark.parametrize("seed", range(5))
def test_round_trip(piece, seed):
    errors = find_note_errors(*piece(seed))
    sides = zip(
        unpack(pack_notes(errors)),
        ((errors.reference, errors.reference_kind), (errors.estimate, errors.estimate_kind)),
        strict=True,
    )
    for (onset, duration, pitch, program, velocity, kind), (notes, kinds) in sides:
        np.testing.assert_allclose(onset / 1000, notes.onset_seconds, atol=0.0006)
        np.testing.assert_allclose((onset + duration) / 1000, notes.offset_seconds, atol=0.0016)
        assert pitch.tolist() == notes.pitch.tolist()
        assert program.tolist() == np.where(notes.is_drum, 128, notes.program).tolist()
        assert velocity.tolist() == notes.velocity.tolist()
        assert kind.tolist() == kinds.tolist()


def test_times_before_0_and_no_notes():
    notes = Notes.from_rows([(-0.25, 0.5, 60, 80, 0, False)])
    (reference, estimate) = unpack(pack_notes(find_note_errors(notes, Notes.empty())))
    assert (reference[0].tolist(), reference[1].tolist()) == ([-250], [750])
    assert len(estimate[0]) == 0
