"""`mt3 score`: files and folders of notes."""

import json
from pathlib import Path

import pytest

from mt3.evaluation.results import read_results
from mt3.inference.formats import write_notes
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics.json").read_text())
# The command has no options for tracks.
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
    assert f"sub/other: {folders[1]} has no such MIDI file" in lines[1]


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


def test_nothing_in_common(mt3, folders, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "have no name in common" in mt3("score", folders[0], tmp_path / "empty").error()
