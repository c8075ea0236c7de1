"""Groups of metrics, and odd input to all of them."""

import numpy as np
import pytest

from mt3.evaluation.metrics import METRIC_GROUPS, METRICS, PUBLISHED_METRICS, Track, expand, score
from mt3.symbolic.notes import Notes

EMPTY = Notes.empty()


def test_groups_stand_for_their_rows():
    assert METRIC_GROUPS["published"] == PUBLISHED_METRICS
    assert set(METRIC_GROUPS["extended"]) == set(METRICS) - set(PUBLISHED_METRICS)
    assert expand(["all"]) == tuple(METRICS)
    assert expand(["frame", "tolerances", "frame", "onset_sweep"]) == ("frame", *METRIC_GROUPS["tolerances"])
    assert not METRICS.keys() & METRIC_GROUPS.keys()
    assert {name for group in METRIC_GROUPS.values() for name in group} == set(METRICS)


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match=r"'loud' is none of onset, .*; nor of the groups published, "):
        expand(["onset", "loud"])


def test_groups_and_rows_give_the_same_scores(piece):
    reference, estimate = piece(5)
    tracks = [Track("piano", 0)]
    scores = score(reference, estimate, metrics=["all"], tracks=tracks)
    single = [score(reference, estimate, metrics=[name], tracks=tracks) for name in METRICS]
    # No two metrics give one name.
    assert sum(map(len, single)) == len(scores)
    assert {name: value for part in single for name, value in part.items()} == scores
    assert {f"piano/{name}" for name in ("Onset F1 (10 ms)", "Fno", "Piano roll F1")} <= scores.keys()
    assert not [name for name in scores if name.startswith("piano/Instrument")]


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        function = getattr(metric.function, "func", metric.function)
        assert function.__doc__, name


def test_onsets_only_leaves_out_what_needs_offsets(piece):
    scores = score(*piece(5), metrics=["extended"], onsets_only=True)
    assert "Onset F1 (10 ms)" in scores
    assert not [name for name in scores if "offset" in name or "roll" in name or "Segment" in name]


def test_a_perfect_transcription(small_pieces):
    right_at_zero = {"Segment broken rate", "Segment cut rate", "Segment late rate"} | {
        "Segment lost rate",
        "Segment lost rate elsewhere",
    }
    seen = set()
    for reference, _ in small_pieces[:50]:
        scores = score(reference, reference, metrics=["extended"])
        has_notes = len(reference[(reference.duration_seconds > 0) & ~reference.is_drum])
        for name, value in scores.items():
            if name in right_at_zero:
                assert value == 0.0, name
            elif has_notes and "AUC" not in name:
                assert value == pytest.approx(1.0), name
            seen.add(name)
    assert len(seen) > 60


def note(onset, offset, *, pitch=60, program=0, is_drum=False):
    return (onset, offset, pitch, 100, program, is_drum)


ODD = {
    "nothing": EMPTY,
    "no length": Notes.from_rows([note(1.0, 1.0), note(1.0, 1.0, pitch=36, is_drum=True)]),
    "ends before it starts": Notes.from_rows([note(2.0, 1.0)]),
    "negative times": Notes.from_rows([note(-3.0, -1.0), note(-3.0, 5.0, pitch=36, is_drum=True)]),
    "pitch 128": Notes.from_rows([note(0.0, 1.0, pitch=128), note(0.0, 1.0, pitch=-1, is_drum=True)]),
    "drums only": Notes.from_rows([note(0.0, 0.1, pitch=38, is_drum=True)]),
    "a drum of program 128": Notes.from_rows([note(0.0, 0.1, pitch=38, program=128, is_drum=True)]),
    "decades": Notes.from_rows([note(-1e9, 1e9), note(1e9, 1e9)]),
    "ordinary": Notes.from_rows([note(0.0, 1.0), note(1.5, 3.5, program=40), note(2.0, 2.1, is_drum=True)]),
}


@pytest.mark.parametrize("reference", ODD)
@pytest.mark.parametrize("estimate", ODD)
def test_odd_notes_have_defined_scores(reference, estimate):
    scores = score(ODD[reference], ODD[estimate], metrics=["all"])
    unbounded = ("Instrument leakage ratio", "Instrument leakage ratio (full)")
    for name, value in scores.items():
        assert np.isfinite(value), name
        assert value >= 0, name
        assert value <= 1 or name in unbounded, name


@pytest.mark.parametrize("metric", METRICS)
def test_impossible_programs_are_named_whatever_is_scored(metric):
    with pytest.raises(ValueError, match="Program 200 is outside"):
        score(EMPTY, Notes.from_rows([note(0.0, 1.0, program=200)]), metrics=[metric])


@pytest.mark.slow
def test_half_a_million_notes():
    rng = np.random.default_rng(0)
    num_notes = 500_000
    onset = rng.uniform(0, 30_000, num_notes)
    reference = Notes(
        onset_seconds=onset,
        offset_seconds=onset + rng.exponential(0.5, num_notes),
        pitch=rng.integers(30, 90, num_notes),
        velocity=rng.integers(40, 128, num_notes),
        program=rng.choice([0, 24, 33, 40, 56], num_notes),
        is_drum=rng.random(num_notes) < 0.2,
    )
    estimate = reference.shift(0.03)[::-1]
    names = ["onset", "onset_program_midi_class", "rolls", "activity", "segments", "confusion", "drums"]
    scores = score(reference, estimate, metrics=names)
    assert scores["Onset F1"] == pytest.approx(1.0)
    assert scores["Program accuracy (full)"] > 0.98
