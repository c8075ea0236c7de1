import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.symbolic.note_cleaning import PedalChanges, apply_sustain
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import (
    DEFAULT_VELOCITY,
    EOS_ID,
    VocabularyConfig,
    bin_to_velocity,
    map_programs,
    velocity_to_bin,
)


def _tokenizer(case):
    config = VocabularyConfig(
        num_velocity_bins=case["num_velocity_bins"], program_granularity=case["program_granularity"]
    )
    return Tokenizer(config, ties=case["ties"], onsets_only=case["onsets_only"])


def test_target_ids_equal_the_published_ones(read_golden, notes_of):
    golden = read_golden("tokenization.json")
    recordings = []
    for sequence in golden["sequences"]:
        notes = notes_of(sequence["notes"])
        changes = [change for change in sequence["control_changes"] if change["number"] == 64]
        columns = ([change[name] for change in changes] for name in ("time", "value", "instrument"))
        recordings.append(apply_sustain(notes, PedalChanges.from_controller(*columns)))
    assert len(golden["cases"]) == 235
    for case in golden["cases"]:
        tokenizer = _tokenizer(case)
        events = tokenizer.prepare(recordings[case["sequence"]])
        targets = tokenizer.encode(events, case["start_frame"], case["num_frames"])
        assert targets.dtype == np.int32
        assert targets.tolist() == case["targets"], {k: v for k, v in case.items() if k != "targets"}


def test_segments_at_once_equal_segments_one_by_one(read_golden, notes_of):
    notes = notes_of(read_golden("tokenization.json")["sequences"][0]["notes"])
    tokenizer = Tokenizer(VocabularyConfig(1, program_granularity="full"))
    events = tokenizer.prepare(notes)
    starts, lengths = [300, 0, 1200, 5000], [256, 100, 512, 256]
    one_by_one = [tokenizer.encode(events, *where).tolist() for where in zip(starts, lengths, strict=True)]
    assert [ids.tolist() for ids in tokenizer.encode_segments(events, starts, lengths)] == one_by_one
    assert tokenizer.encode_segments(events, [], 256) == []


def test_notes_that_ended_with_the_last_event_are_not_tied_afterwards():
    """The published code goes on listing them."""
    tokenizer = Tokenizer(VocabularyConfig(1, program_granularity="full"))
    events = tokenizer.prepare(Notes.from_rows([(0.5, 1.0, 60, 80, 0, False)]))
    tie, end = 1131 + 3, EOS_ID
    assert tokenizer.encode(events, 256, 256).tolist() == [tie, end]
    # Before its end it is: at 0.8 s (frame 100), 20 steps from its end.
    assert tokenizer.encode(events, 100, 256).tolist() == [1135, 1064, tie, 23, 1135 - 3, 1064, end]


def test_segments_longer_than_the_longest_shift():
    config = VocabularyConfig(1, max_shift_seconds=1, program_granularity="full")
    tokenizer = Tokenizer(config, ties=False)
    notes = Notes.from_rows([(2.5, 3.0, 60, 80, 0, False), (3.5, 4.0, 61, 80, 0, False)])
    ids = tokenizer.encode(tokenizer.prepare(notes), 0, 1000)
    shifts = [i - 3 for i in ids.tolist() if 3 <= i <= 103]
    assert shifts == [100, 100, 50, 100, 100, 100, 100, 100, 100, 50, 100, 100, 100, 100]
    decoded = tokenizer.decode([(0.0, ids)]).notes
    assert decoded.onset_seconds.tolist() == [2.5, 3.5]
    assert decoded.offset_seconds.tolist() == [3.0, 4.0]


def test_unknown_velocity_is_an_onset():
    tokenizer = Tokenizer(VocabularyConfig(127, program_granularity="full"))
    events = tokenizer.prepare(Notes.from_rows([(0.5, 1.0, 60, 0, 0, False)]))
    decoded = tokenizer.decode([(0.0, tokenizer.encode(events, 0, 256))])
    assert decoded.notes.velocity.tolist() == [DEFAULT_VELOCITY]


def test_an_empty_recording_is_empty_everywhere():
    for tokenizer in (Tokenizer(), Tokenizer(ties=False), Tokenizer(ties=False, onsets_only=True)):
        events = tokenizer.prepare(Notes.empty())
        ids = tokenizer.encode(events, 0, 256)
        assert len(ids) == 1 + tokenizer.ties
        assert len(tokenizer.decode([(0.0, ids)]).notes) == 0
        assert len(tokenizer.decode([]).notes) == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((-0.1, 1.0, 60, 80, 0, False), "starts at -0.1 s"),
        ((0.0, 1.0, 128, 80, 0, False), r"pitch 128 is outside 0\.\.127"),
        ((0.0, 1.0, 60, 80, -1, False), r"program -1 is outside 0\.\.127"),
        ((0.0, np.inf, 60, 80, 0, False), "offset_seconds holds inf"),
    ],
)
def test_notes_out_of_range_are_refused(row, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer().prepare(Notes.from_rows([row]))


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="set ties to False"):
        Tokenizer(ties=True, onsets_only=True)
    with pytest.raises(ValueError, match="frames_per_second is 0"):
        Tokenizer(frames_per_second=0)
    tokenizer = Tokenizer()
    with pytest.raises(ValueError, match="the first frame is 0"):
        tokenizer.encode(tokenizer.prepare(Notes.empty()), -1, 256)


def test_settings_survive_json():
    tokenizer = Tokenizer(VocabularyConfig(1, program_granularity="midi_class"), frames_per_second=62.5)
    assert Tokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict()))) == tokenizer
    assert tokenizer.num_embeddings == 1536


# Notes of the property tests are valid for a vocabulary when, at its program
# granularity, (a) no two notes of one pitch and program overlap: each starts no
# earlier than the one before ends; (b) onset and offset round to different
# steps; (c) no two drum hits of one key start together; (d) velocities are known.
# Times need not lie on the grid.


@st.composite
def _valid_notes(draw, granularity):
    rows = []
    pitched = st.tuples(st.integers(0, 127), st.integers(0, 127))
    for program, pitch in draw(st.lists(pitched, max_size=12)):
        program = int(map_programs(program, granularity))
        if any(row[2] == pitch and row[4] == program for row in rows):
            continue
        clock = draw(st.integers(0, 250))
        for _ in range(draw(st.integers(1, 4))):
            # A common fraction of a step, so that rounding changes no duration.
            clock += draw(st.integers(0, 60))
            onset, clock = clock, clock + draw(st.integers(1, 400))
            rows.append((onset, clock, pitch, draw(st.integers(1, 127)), program, False))
    hits = st.tuples(st.integers(0, 600), st.integers(0, 127))
    for onset, pitch in draw(st.lists(hits, max_size=8, unique=True)):
        rows.append((onset, onset + 1, pitch, draw(st.integers(1, 127)), 0, True))
    fraction = draw(st.floats(0, 0.45))
    notes = Notes.from_rows(draw(st.permutations(rows)))
    return notes.replace(
        onset_seconds=(notes.onset_seconds + fraction) / 100,
        offset_seconds=(notes.offset_seconds + fraction) / 100,
    )


def _segments(tokenizer, notes, num_frames):
    """Target ids of the whole recording, cut every `num_frames`, with start times."""
    events = tokenizer.prepare(notes)
    end_frame = math.ceil(notes.end_seconds * tokenizer.frames_per_second) + 2
    starts = np.arange(0, end_frame, num_frames)
    targets = tokenizer.encode_segments(events, starts, num_frames)
    return list(zip((starts / tokenizer.frames_per_second).tolist(), targets, strict=True))


def _on_grid(notes, config):
    """What tokens can tell of notes."""
    bins = velocity_to_bin(notes.velocity, config.num_velocity_bins)
    onset, offset = np.rint(notes.onset_seconds * 100), np.rint(notes.offset_seconds * 100)
    return notes.replace(
        onset_seconds=onset / 100,
        offset_seconds=np.where(notes.is_drum, onset + 1, offset) / 100,
        velocity=bin_to_velocity(bins, config.num_velocity_bins),
        program=np.where(notes.is_drum, 0, map_programs(notes.program, config.program_granularity)),
    ).sorted()


@pytest.mark.parametrize("granularity", ["flat", "midi_class", "full"])
@pytest.mark.parametrize("ties", [True, False])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_valid_notes_survive(granularity, ties, data):
    config = VocabularyConfig(
        num_velocity_bins=data.draw(st.sampled_from([1, 16, 127])), program_granularity=granularity
    )
    tokenizer = Tokenizer(config, ties=ties)
    notes = data.draw(_valid_notes(granularity))
    segments = _segments(tokenizer, notes, data.draw(st.integers(2, 600)))
    decoded = tokenizer.decode(data.draw(st.permutations(segments)))
    assert (decoded.invalid_events, decoded.dropped_events) == (0, 0)
    assert decoded.notes.sorted() == _on_grid(notes, config)


@settings(deadline=None, max_examples=60)
@given(notes=_valid_notes("full"), num_frames=st.integers(2, 600))
def test_onsets_survive_where_only_they_are_told(notes, num_frames):
    tokenizer = Tokenizer(ties=False, onsets_only=True)
    notes = notes[~notes.is_drum]
    decoded = tokenizer.decode(_segments(tokenizer, notes, num_frames))
    assert (decoded.invalid_events, decoded.dropped_events) == (0, 0)
    onsets = np.stack([np.rint(notes.onset_seconds * 100), notes.pitch], 1).tolist()
    found = np.stack([np.rint(decoded.notes.onset_seconds * 100), decoded.notes.pitch], 1).tolist()
    assert sorted(found) == sorted(onsets)


@settings(deadline=None, max_examples=60)
@given(
    notes=_valid_notes("full"),
    num_parts=st.integers(1, 4),
    ties=st.booleans(),
    num_frames=st.integers(2, 600),
)
def test_the_merge_of_parts_is_the_whole(notes, num_parts, ties, num_frames):
    """Parts of one piece, each with programs of its own, merged segment by segment."""
    config = VocabularyConfig(16, program_granularity="full")
    tokenizer = Tokenizer(config, ties=ties)
    # A segment grid for all: a silent end that every part reaches.
    end = Notes.from_rows([(notes.end_seconds, notes.end_seconds + 0.01, 0, 1, 0, True)])
    part = np.where(notes.is_drum, 0, notes.program % num_parts)
    parts = [Notes.concatenate([notes[part == index], end]) for index in range(num_parts)]
    streams = [_segments(tokenizer, one, num_frames) for one in parts]
    merged = [
        (segments[0][0], tokenizer.merge([ids for _, ids in segments]))
        for segments in zip(*streams, strict=True)
    ]
    decoded = tokenizer.decode(merged)
    assert (decoded.invalid_events, decoded.dropped_events) == (0, 0)
    whole = Notes.concatenate([notes, *[end] * num_parts])
    assert decoded.notes.sorted() == _on_grid(whole, config)


def test_merging_one_example_changes_nothing(read_golden):
    for case in read_golden("tokenization.json")["cases"]:
        # Where programs are not told apart the tie section may repeat a pitch; merged it does not.
        if case["program_granularity"] == "full":
            merged = _tokenizer(case).merge([np.array(case["targets"])])
            assert merged.tolist() == case["targets"]


def test_padding_after_the_end_is_not_read():
    tokenizer = Tokenizer(VocabularyConfig(1, program_granularity="full"))
    events = tokenizer.prepare(Notes.from_rows([(0.5, 1.0, 60, 80, 0, False)]))
    ids = tokenizer.encode(events, 0, 256)
    padded = np.append(ids, [0, 0, 700])
    decoded = tokenizer.decode([(0.0, padded)])
    assert (len(decoded.notes), decoded.invalid_events) == (1, 0)
    assert tokenizer.merge([padded, ids[:0]]).tolist() == ids.tolist()
