"""Matching equals mir_eval's pair for pair, and hand-worked cases."""

import mir_eval
import numpy as np
import pytest

from mt3.evaluation import note_matching
from mt3.evaluation.note_matching import Pairs, maximum_matching, offsets_agree, onset_pairs, velocities_agree
from mt3.symbolic.notes import Notes


def note(onset, offset, pitch=60, velocity=100):
    return (onset, offset, pitch, velocity, 0, False)


def as_tuples(pairs):
    return list(zip(pairs.reference.tolist(), pairs.estimate.tolist(), strict=True))


def mir_eval_columns(notes):
    intervals = np.stack([notes.onset_seconds, notes.offset_seconds], axis=1)
    return intervals, mir_eval.util.midi_to_hz(notes.pitch)


@pytest.mark.parametrize("use_offsets", [False, True])
def test_matching_is_that_of_mir_eval(piece, use_offsets):
    contested = 0
    for seed in range(200):
        reference, estimate = piece(seed)
        pairs = onset_pairs(reference, estimate)
        if use_offsets:
            pairs = pairs[offsets_agree(reference, estimate, pairs)]
        expected = mir_eval.transcription.match_notes(
            *mir_eval_columns(reference),
            *mir_eval_columns(estimate),
            offset_ratio=0.2 if use_offsets else None,
        )
        assert as_tuples(maximum_matching(pairs)) == expected, seed
        contested += len(pairs) - len(expected)
    # The pieces must really be ambiguous.
    assert contested > 300


@pytest.mark.parametrize("use_offsets", [False, True])
def test_velocity_matching_is_that_of_mir_eval(piece, use_offsets):
    rejected = 0
    for seed in range(200):
        reference, estimate = piece(seed)
        pairs = onset_pairs(reference, estimate)
        if use_offsets:
            pairs = pairs[offsets_agree(reference, estimate, pairs)]
        matching = maximum_matching(pairs)
        agreed = matching[velocities_agree(reference, estimate, matching)]
        intervals, pitches = mir_eval_columns(reference)
        expected = mir_eval.transcription_velocity.match_notes(
            intervals,
            pitches,
            reference.velocity,
            *mir_eval_columns(estimate),
            estimate.velocity,
            offset_ratio=0.2 if use_offsets else None,
        )
        assert as_tuples(agreed) == expected, seed
        rejected += len(matching) - len(agreed)
    assert rejected > 100


def test_random_graphs_match_like_mir_eval():
    rng = np.random.default_rng(0)
    for _ in range(300):
        num_references, num_estimates = rng.integers(1, 30, 2)
        edges = np.argwhere(rng.random((num_references, num_estimates)) < rng.uniform(0, 0.4))
        graph: dict[int, list[int]] = {}
        for reference, estimate in edges.tolist():
            graph.setdefault(estimate, []).append(reference)
        expected = sorted(mir_eval.util._bipartite_match(graph).items())
        assert as_tuples(maximum_matching(Pairs(edges[:, 0], edges[:, 1]))) == expected


def test_exactly_50_ms_is_within_50_ms_and_51_is_not():
    reference = Notes.from_rows([note(1.1, 2.0), note(3.3, 4.0), note(5.0, 6.0)])
    estimate = Notes.from_rows([note(1.15, 2.0), note(3.25, 4.0), note(5.051, 6.0)])
    assert as_tuples(onset_pairs(reference, estimate)) == [(0, 0), (1, 1)]


def test_pairs_need_one_pitch():
    reference = Notes.from_rows([note(1, 2, 60)])
    estimate = Notes.from_rows([note(1, 2, 61), note(1, 2, 72), note(1, 2, 60)])
    assert as_tuples(onset_pairs(reference, estimate)) == [(0, 2)]


def test_offset_tolerance_is_a_share_of_long_notes_and_50_ms_of_short_ones():
    # Of 2 s: 0.4 s. Of 0.1 s: 0.05 s.
    reference = Notes.from_rows([note(0, 2), note(0, 2), note(0, 0.1), note(0, 0.1)])
    estimate = Notes.from_rows([note(0, 2.4), note(0, 1.59), note(0, 0.15), note(0, 0.16)])
    same = Pairs(np.arange(4), np.arange(4))
    assert offsets_agree(reference, estimate, same).tolist() == [True, False, True, False]


def test_a_greedy_choice_is_given_up_for_a_larger_matching():
    # Estimate 0 could take either reference, estimate 1 only the first.
    candidates = Pairs(np.array([0, 0, 1]), np.array([0, 1, 0]))
    assert as_tuples(maximum_matching(candidates)) == [(0, 1), (1, 0)]


def test_a_long_chain_of_exchanges_needs_no_recursion():
    # Each estimate first takes the reference before its own; the last one has but that choice.
    length = 5000
    own = [(index, index) for index in range(length)]
    before = [(index, index + 1) for index in range(length)]
    references, estimates = np.array(sorted(own + before)).T
    assert len(maximum_matching(Pairs(references, estimates))) == length
    references = np.concatenate([references, [length]])
    estimates = np.concatenate([estimates, [0]])
    assert len(maximum_matching(Pairs(references, estimates))) == length + 1


def test_velocities_are_fitted_by_a_line():
    # 20 + 0.5 velocity for all but the last: louder than the line says.
    velocity = np.arange(10, 120, 10)
    reference = Notes.from_rows(
        [note(t, t + 1, velocity=20 + v // 2) for t, v in enumerate(velocity.tolist())]
    )
    estimate = reference.replace(velocity=velocity)
    same = Pairs(np.arange(len(velocity)), np.arange(len(velocity)))
    assert velocities_agree(reference, estimate, same).all()
    odd = reference.replace(velocity=np.where(np.arange(len(velocity)) == 5, 75, reference.velocity))
    assert velocities_agree(odd, estimate, same).tolist() == [index != 5 for index in range(len(velocity))]


def test_equal_velocities_agree_whatever_they_are():
    reference = Notes.from_rows([note(t, t + 1, velocity=100) for t in range(5)])
    same = Pairs(np.arange(5), np.arange(5))
    assert velocities_agree(reference, reference.replace(velocity=1), same).all()


def test_nothing_to_match():
    empty = Notes.empty()
    one = Notes.from_rows([note(0, 1)])
    for reference, estimate in ((empty, empty), (one, empty), (empty, one)):
        pairs = onset_pairs(reference, estimate)
        assert len(pairs) == len(maximum_matching(pairs)) == 0
        assert len(velocities_agree(reference, estimate, pairs)) == 0


def test_too_many_duplicates_are_refused(monkeypatch):
    monkeypatch.setattr(note_matching, "_MAX_CANDIDATES", 99)
    notes = Notes.from_rows([note(0, 1)] * 10)
    with pytest.raises(ValueError, match="100 pairs of one pitch and time, above the limit of 99"):
        onset_pairs(notes, notes)
