"""The published scores: golden data, mir_eval, hand-worked cases and odd input."""

import json
import pathlib
import subprocess
import sys

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.evaluation.metrics import METRICS, Counts, Track, score
from mt3.symbolic.notes import Notes

GOLDEN = json.loads((pathlib.Path(__file__).parents[2] / "golden" / "metrics.json").read_text())
EMPTY = Notes.empty()


def notes_of(rows):
    return Notes.from_rows(tuple(row) for row in rows)


@pytest.mark.parametrize("index", range(len(GOLDEN)))
def test_golden_scores(index):
    case = GOLDEN[index]
    assert case["columns"] == ["onset", "offset", "pitch", "velocity", "program", "is_drum"]
    scores = score(
        notes_of(case["reference"]),
        notes_of(case["estimate"]),
        onsets_only=case["onsets_only"],
        tracks=case["tracks"],
    )
    assert scores.keys() == case["scores"].keys()
    assert scores == pytest.approx(case["scores"], abs=1e-6)


def mir_eval_columns(notes):
    intervals = np.stack([notes.onset_seconds, notes.offset_seconds], axis=1)
    return intervals, mir_eval.util.midi_to_hz(notes.pitch)


@pytest.mark.filterwarnings("ignore:(Reference|Estimated) notes are empty:UserWarning")
def test_note_scores_are_those_of_mir_eval(piece):
    for seed in range(200):
        reference, estimate = piece(seed)
        scores = score(reference, estimate)
        reference, estimate = reference[~reference.is_drum], estimate[~estimate.is_drum]
        plain = (*mir_eval_columns(reference), *mir_eval_columns(estimate))
        loud = (*plain[:2], reference.velocity, *plain[2:], estimate.velocity)
        for name, module, arguments, offset_ratio in (
            ("Onset", mir_eval.transcription, plain, None),
            ("Onset + offset", mir_eval.transcription, plain, 0.2),
            ("Onset + velocity", mir_eval.transcription_velocity, loud, None),
            ("Onset + offset + velocity", mir_eval.transcription_velocity, loud, 0.2),
        ):
            expected = module.precision_recall_f1_overlap(*arguments, offset_ratio=offset_ratio)[:3]
            found = [scores[f"{name} {word}"] for word in ("precision", "recall", "F1")]
            assert found == pytest.approx(expected, abs=1e-12), (seed, name)


def count_hits_by_instrument(reference, estimate, group):
    """Hits of mir_eval, instrument by instrument; drums by onset only."""
    hits = 0
    keys = [
        (notes.is_drum, np.where(notes.is_drum, 0, group(notes.program))) for notes in (reference, estimate)
    ]
    for is_drum in (False, True):
        for program in range(128):
            parts = [
                notes[(drums == is_drum) & (programs == program)]
                for notes, (drums, programs) in zip((reference, estimate), keys, strict=True)
            ]
            if all(map(len, parts)):
                columns = [column for part in parts for column in mir_eval_columns(part)]
                ratio = None if is_drum else 0.2
                hits += len(mir_eval.transcription.match_notes(*columns, offset_ratio=ratio))
    return hits


@pytest.mark.parametrize(
    ("granularity", "group"),
    [
        ("flat", np.zeros_like),
        ("midi_class", lambda program: program // 8),
        ("full", lambda program: program),
    ],
)
def test_program_scores_match_within_an_instrument_only(piece, granularity, group):
    for seed in range(40):
        reference, estimate = piece(seed)
        scores = score(reference, estimate, metrics=[f"program_{granularity}"])
        hits = count_hits_by_instrument(reference, estimate, group)
        expected = Counts(hits, len(reference), len(estimate)).scores(
            f"Onset + offset + program {{}} ({granularity})"
        )
        assert {name: scores[name] for name in expected} == pytest.approx(expected)


def test_scores_by_hand():
    reference = notes_of(
        [
            (0.0, 1.0, 60, 40, 0, False),  # found, right in all
            (1.0, 2.0, 62, 80, 0, False),  # found, ends 0.5 s late
            (2.0, 3.0, 64, 120, 24, False),  # found, by a piano
            (3.0, 4.0, 65, 100, 24, False),  # missed
            (0.5, 0.6, 36, 100, 0, True),  # found, whatever its end
        ]
    )
    estimate = notes_of(
        [
            (0.04, 1.04, 60, 40, 0, False),
            (0.97, 2.5, 62, 80, 0, False),
            (2.0, 3.1, 64, 120, 1, False),
            (0.52, 3.0, 36, 100, 0, True),
            (3.0, 4.0, 77, 100, 24, False),  # wrong pitch
            (3.5, 3.6, 38, 100, 0, True),  # no such hit
        ]
    )
    scores = score(reference, estimate, tracks=[Track("piano", 0), Track("kit", 0, is_drum=True)])
    expected = {
        "Onset precision": 3 / 4,
        "Onset recall": 3 / 4,
        "Onset + offset precision": 2 / 4,
        "Onset + velocity F1": 3 / 4,
        "Onset + offset + velocity recall": 2 / 4,
        "Onset + offset + program precision (flat)": 3 / 6,
        "Onset + offset + program recall (flat)": 3 / 5,
        "Onset + offset + program precision (midi_class)": 2 / 6,
        "Onset + offset + program recall (full)": 2 / 5,
        "Nondrum onset + offset + program precision (full)": 1 / 4,
        "Drum onset precision (full)": 1 / 2,
        "Drum onset recall (full)": 1.0,
        "Drum onset F1 (midi_class)": 2 / 3,
        "piano/Onset precision": 1.0,
        "piano/Onset + offset F1": 1 / 2,
        "kit/Onset precision": 1 / 2,
        "kit/Frame Recall": 3 / 3 - 1 / 3,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert "kit/Onset + offset F1" not in scores
    assert "kit/Onset + velocity F1" in scores


def test_onsets_only_leaves_out_what_needs_offsets_or_velocities():
    notes = notes_of([(0.0, 1.0, 60, 40, 0, False)])
    scores = score(notes, notes, onsets_only=True, tracks=[Track("piano", 0)])
    assert {
        name for name in scores if "F1 (" not in name and "program" not in name and "Drum" not in name
    } == {
        *("Onset precision", "Onset recall", "Onset F1", "Frame Precision", "Frame Recall", "Frame F1"),
        *("piano/Onset precision", "piano/Onset recall", "piano/Onset F1"),
        *("piano/Frame Precision", "piano/Frame Recall", "piano/Frame F1"),
    }
    assert "Onset + offset + program F1 (flat)" in scores


@pytest.mark.parametrize(("reference_size", "estimate_size"), [(0, 0), (0, 3), (3, 0)])
def test_an_empty_side_scores_zero(reference_size, estimate_size):
    notes = notes_of([(float(t), t + 1.0, 60, 40, 0, t == 1) for t in range(3)])
    scores = score(notes[:reference_size], notes[:estimate_size], tracks=[Track("piano", 0)])
    assert len(scores) == 57
    assert set(scores.values()) == {0.0}


def test_notes_of_no_length_are_not_matched():
    lasting, momentary = (0.0, 1.0, 60, 40, 0, False), (2.0, 2.0, 60, 40, 0, False)
    assert score(notes_of([lasting]), notes_of([lasting, momentary]))["Onset precision"] == 1.0
    assert score(notes_of([lasting, momentary]), notes_of([lasting]))["Onset recall"] == 1.0
    assert score(notes_of([momentary]), notes_of([momentary]))["Onset F1"] == 0.0


def test_times_before_zero_score_like_others():
    reference = notes_of([(0.0, 1.0, 60, 40, 0, False), (1.0, 2.0, 61, 40, 0, False)])
    estimate = notes_of([(0.01, 1.01, 60, 40, 0, False)])
    # A whole number of frames, so that rounding is the same.
    assert score(reference.shift(-4), estimate.shift(-4)) == pytest.approx(score(reference, estimate))


def test_a_pitch_beyond_midi_is_a_wrong_note():
    reference = notes_of([(0.0, 1.0, 127, 40, 0, False)])
    assert score(reference, reference.replace(pitch=128))["Onset precision"] == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e12])
def test_impossible_times_are_named(value):
    notes = notes_of([(0.0, 1.0, 60, 40, 0, False), (0.0, value, 60, 40, 0, False)])
    with pytest.raises(ValueError, match="offset_seconds of estimate note 1 is"):
        score(EMPTY, notes)


def test_unknown_metrics_and_programs_are_named():
    with pytest.raises(ValueError, match="'loudness' is none of onset, onset_offset"):
        score(EMPTY, EMPTY, metrics=["loudness"])
    with pytest.raises(ValueError, match="200"):
        score(EMPTY, notes_of([(0.0, 1.0, 60, 40, 200, False)]))


def test_chosen_metrics_only():
    assert list(score(EMPTY, EMPTY, metrics=["frame"])) == ["Frame Precision", "Frame Recall", "Frame F1"]
    assert "onset" in METRICS


_times = st.integers(0, 400).map(lambda hundredths: hundredths / 100)
_rows = st.tuples(
    *(_times, st.floats(0.01, 3), st.integers(0, 127), st.integers(31, 127)),
    *(st.integers(0, 127), st.booleans()),
).map(lambda row: (row[0], row[0] + row[1], *row[2:]))


@settings(deadline=None, max_examples=50)
@given(st.lists(_rows, min_size=1, max_size=30))
def test_a_transcription_without_faults_scores_one(rows):
    notes = notes_of(rows)
    scores = score(notes, notes)
    for name, value in scores.items():
        of_drums = name.startswith("Drum onset")
        of_pitched = not of_drums and not name.startswith("Onset + offset + program")
        applies = notes.is_drum.any() if of_drums else not notes.is_drum.all() if of_pitched else True
        assert value == pytest.approx(1.0 if applies else 0.0), name


@settings(deadline=None, max_examples=50)
@given(st.lists(_rows, max_size=30), st.lists(_rows, max_size=30))
def test_swapping_the_sides_swaps_precision_and_recall_of_onsets(first, second):
    forward = score(notes_of(first), notes_of(second), metrics=["onset"])
    backward = score(notes_of(second), notes_of(first), metrics=["onset"])
    assert forward["Onset precision"] == backward["Onset recall"]
    assert forward["Onset F1"] == pytest.approx(backward["Onset F1"])
    assert all(0 <= value <= 1 for value in forward.values())


def test_scoring_starts_without_heavy_imports():
    code = (
        "import sys, mt3.evaluation.metrics as m; from mt3.symbolic.notes import Notes;"
        "m.score(Notes.empty(), Notes.empty());"
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'jax', 'flax', 'scipy', 'mir_eval', 'sklearn', 'tensorflow', 'pretty_midi', 'note_seq'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
