"""`mt3 score`: files and folders of notes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mt3.evaluation.results import read_results
from mt3.inference.formats import write_notes
from mt3.symbolic.conversions import read_midi, write_midi
from mt3.symbolic.notes import Notes

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics.json").read_text())
# The tracks of the others are tested in mt3.evaluation.metrics' tests.
PLAIN = [piece for piece in GOLDEN if not piece["tracks"] and not piece["onsets_only"]]


@pytest.fixture
def folders(tmp_path, make_tune):
    """Two folders of MIDI files: `same` and `sub/other` are equal, `half` lacks every second note."""
    for name in ("reference", "estimate"):
        (tmp_path / name / "sub").mkdir(parents=True)
        write_midi(make_tune(), tmp_path / name / "same.mid")
        notes = make_tune(3)
        write_midi(notes[::2] if name == "estimate" else notes, tmp_path / name / "half.mid")
        write_midi(make_tune(5), tmp_path / name / "sub" / "other.mid")
    return tmp_path / "reference", tmp_path / "estimate"


def test_two_files(mt3, folders):
    reference, estimate = (folder / "half.mid" for folder in folders)
    outcome = mt3("score", reference, estimate)
    assert (outcome.code, outcome.err) == (0, "")
    rows = dict(line.rsplit(maxsplit=1) for line in outcome.out.splitlines() if not line.startswith("--"))
    assert rows["Onset precision"] == "1.000"
    assert rows["Onset recall"] == "0.500"
    assert "recordings scored: 1, skipped: 0" in outcome.out


@pytest.mark.parametrize("piece", PLAIN[:3], ids=lambda piece: piece["name"])
def test_json_is_one_object_of_the_published_scores(mt3, tmp_path, piece):
    for name in ("reference", "estimate"):
        write_notes(Notes.from_rows(map(tuple, piece[name])), tmp_path / f"{name}.json")
    outcome = mt3("score", tmp_path / "reference.json", tmp_path / "estimate.json", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    scores = json.loads(outcome.out)
    assert scores == pytest.approx(piece["scores"], abs=1e-6)


def test_folders_are_matched_by_name(mt3, folders, tmp_path):
    outcome = mt3("score", *folders, "--json", "-o", tmp_path / "results")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out)["Onset recall"] == pytest.approx((1 + 0.5 + 1) / 3)
    result = read_results(tmp_path / "results")
    assert [recording.id for recording in result.recordings] == ["half", "same", "sub/other"]
    assert (tmp_path / "results" / "results.csv").exists()


def test_broken_and_lonely_files_are_named_once_and_the_others_scored(mt3, folders):
    (folders[0] / "same.mid").write_bytes(b"no MIDI")
    (folders[1] / "sub" / "other.mid").unlink()
    outcome = mt3("score", *folders, "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["Onset recall"] == pytest.approx(0.5)
    lines = sorted(outcome.err.splitlines())
    assert len(lines) == 2
    assert f"same: {folders[0] / 'same.mid'} is not a MIDI file" in lines[0]
    assert f"sub/other: {folders[1]} has no such file of notes" in lines[1]


def test_strict_fails_at_a_broken_file(mt3, folders):
    (folders[0] / "same.mid").write_bytes(b"no MIDI")
    assert "same.mid is not a MIDI file" in mt3("score", *folders, "--strict").error()


def test_onsets_only(mt3, folders):
    (reference, _), (_, estimate) = folders, folders
    outcome = mt3("score", reference / "same.mid", estimate / "same.mid", "--onsets-only", "--json")
    assert json.loads(outcome.out)["Onset F1"] == 1.0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("same.mid", "none.mid"), "none.mid does not exist"),
        (("none.mid", "same.mid"), "none.mid does not exist"),
        (("same.mid", ""), "must be two files or two folders"),
        (("same.mid", "notes.xyz"), "notes are kept in files that end in .mid"),
    ],
)
def test_what_cannot_be_scored_is_one_line(mt3, folders, names, message):
    (folders[1] / "notes.xyz").touch()
    error = mt3("score", folders[0] / names[0], folders[1] / names[1])
    assert error.code == 1
    assert message in error.err.splitlines()[-1]
    assert "Traceback" not in error.err


def test_metrics_are_chosen_by_name_or_group(mt3, folders):
    outcome = mt3("score", *folders, "--metrics", "onset, frame", "--json")
    words = ("precision", "recall", "F1")
    assert set(json.loads(outcome.out)) == {
        *(f"Onset {word}" for word in words),
        *(f"Frame {word.capitalize()}" for word in words),
    }
    everything = json.loads(mt3("score", *folders, "--metrics", "all", "--json").out)
    assert len(everything) > 60
    assert "Metric 'nonsense' is none of" in mt3("score", *folders, "--metrics", "nonsense").error()


def test_tracks_are_scored_on_their_own(mt3, folders):
    tracks = ("--track", "own=0", "--track", "kit=drums", "--metrics", "onset")
    scores = json.loads(mt3("score", *folders, *tracks, "--json").out)
    assert {name.rpartition("/")[0] for name in scores} == {"", "own", "kit"}
    for wrong in ("piano", "piano=128", "=0", "piano=drum"):
        assert f"--track {wrong}: give NAME=PROGRAM" in mt3("score", *folders, "--track", wrong).error()


def test_means_of_several_files_have_intervals(mt3, folders, tmp_path):
    outcome = mt3("score", *folders, "-o", tmp_path / "results", "--workers", "0")
    assert "Onset recall" in outcome.out
    (row,) = (line for line in outcome.out.splitlines() if line.startswith("Onset recall"))
    assert row.split(maxsplit=2)[2] == "0.833 [0.500, 1.000]"
    assert "95% bootstrap intervals over recordings" in outcome.out
    document = json.loads((tmp_path / "results" / "results.json").read_text())
    assert document["intervals"]["Onset recall"] == pytest.approx([0.5, 1.0])
    assert document["interval_method"]["confidence"] == 0.95
    assert document["settings"]["metrics"]


@pytest.fixture
def other_estimate(folders, tmp_path):
    """A folder that lacks more notes of `half`, and has all others."""
    for path in sorted(folders[1].rglob("*.mid")):
        target = tmp_path / "other" / path.relative_to(folders[1])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    write_midi(read_midi(folders[0] / "half.mid").sorted()[::4], tmp_path / "other" / "half.mid")
    return tmp_path / "other"


def test_two_estimates_are_compared(mt3, folders, other_estimate, tmp_path):
    options = ("--compare", folders[1], other_estimate)
    outcome = mt3("score", folders[0], *options, "-o", tmp_path / "both")
    assert (outcome.code, outcome.err) == (0, "")
    head, _, *rows = outcome.out.splitlines()
    assert head.split() == ["Metric", "estimate", "other", "other", "-", "estimate"]
    (row,) = (row for row in rows if row.startswith("Onset recall"))
    assert row.split(maxsplit=2)[2] == "0.833  0.750  -0.083 [-0.250, +0.000]"
    # The same again, from what was kept.
    again = mt3(
        "score", "--compare", tmp_path / "both" / "A", tmp_path / "both" / "B" / "results.json", "--json"
    )
    document = json.loads(again.out)
    kept = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert document["differences"] == kept["differences"]
    assert document["names"] == ["A", "B"]
    assert document["differences"]["Onset recall"]["difference"] == pytest.approx(-0.25 / 3)
    assert len(read_results(tmp_path / "both" / "B").recordings) == 3


def test_what_cannot_be_compared_is_one_line(mt3, folders, tmp_path):
    assert "takes the place of ESTIMATE" in mt3("score", *folders, "--compare", *folders).error()
    assert "Give REFERENCE and ESTIMATE" in mt3("score", folders[0]).error()
    (tmp_path / "results.json").write_text("{}")
    wrong = mt3("score", "--compare", tmp_path, tmp_path)
    assert "results.json does not hold evaluation results" in wrong.error()


def test_neither_jax_nor_tensorflow_is_started(folders):
    program = (
        "import sys; from mt3.cli.main import app\n"
        "app(['score', *sys.argv[1:], '--json'], standalone_mode=False)\n"
        "print(sorted({'jax', 'tensorflow', 'scipy', 'pretty_midi'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *folders], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_nothing_in_common(mt3, folders, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "have no name in common" in mt3("score", folders[0], tmp_path / "empty").error()
