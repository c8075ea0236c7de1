"""Scoring files: pairs by name, faults, processes."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mt3.evaluation.file_scoring import score_files
from mt3.evaluation.results import EvaluationError, Skipped, read_results
from mt3.inference.formats import read_notes, write_notes
from mt3.symbolic.notes import Notes

SCALE = Notes.from_rows([(t, t + 0.5, 60 + t, 100, 0, False) for t in range(4)])


@pytest.fixture
def folders(tmp_path):
    """Two folders of MIDI: a and sub/b are in both, c and d in one each."""
    for folder, names in (("reference", ("a", "sub/b", "c")), ("estimate", ("a", "sub/b", "d"))):
        for name in names:
            path = tmp_path / folder / f"{name}.mid"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_notes(SCALE if folder == "reference" else SCALE[:2], path)
    (tmp_path / "reference" / "._a.mid").write_bytes(b"left by another system")
    (tmp_path / "reference" / "notes.txt").write_text("no MIDI")
    return tmp_path / "reference", tmp_path / "estimate"


def test_two_files(tmp_path):
    write_notes(SCALE, tmp_path / "true.mid")
    write_notes(SCALE[:3], tmp_path / "guess.json")
    result = score_files(tmp_path / "true.mid", tmp_path / "guess.json")
    assert result.scores["Onset recall"] == 0.75
    assert [recording.id for recording in result.recordings] == ["true"]


def test_two_folders_are_matched_by_name(folders):
    reference, estimate = folders
    result = score_files(*folders)
    assert [recording.id for recording in result.recordings] == ["a", "sub/b"]
    assert result.scores["Onset recall"] == 0.5
    assert result.skipped == (
        Skipped("c", f"{estimate} has no such file of notes."),
        Skipped("d", f"{reference} has no such file of notes."),
    )


def test_pictures_and_sound_beside_the_notes_are_passed_over(folders):
    for suffix in (".png", ".svg", ".musicxml", ".rendering.wav"):
        (folders[1] / f"a{suffix}").write_bytes(b"written from a.mid")
    assert [recording.id for recording in score_files(*folders).recordings] == ["a", "sub/b"]


def test_a_broken_file_is_named_and_skipped(folders):
    (folders[1] / "a.mid").write_bytes(b"RIFF")
    result = score_files(*folders)
    assert [recording.id for recording in result.recordings] == ["sub/b"]
    (broken,) = (skipped for skipped in result.skipped if skipped.id == "a")
    assert str(folders[1] / "a.mid") in broken.reason


def test_strict_refuses_unmatched_and_broken_files(folders):
    with pytest.raises(EvaluationError, match=r"c: .* has no such file of notes"):
        score_files(*folders, strict=True)
    (folders[0] / "c.mid").unlink()
    (folders[1] / "d.mid").unlink()
    (folders[1] / "a.mid").write_bytes(b"RIFF")
    with pytest.raises(EvaluationError, match=r"a: .*a\.mid"):
        score_files(*folders, strict=True)


def test_paths_that_make_no_pairs(folders, tmp_path):
    reference, estimate = folders
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        score_files(reference, tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="two files or two folders"):
        score_files(reference, estimate / "a.mid")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        EvaluationError,
        match=r"\(3 files of notes, such as a\) and .*empty \(0 files of notes\) have no name",
    ):
        score_files(reference, tmp_path / "empty")
    write_notes(SCALE, reference / "a.midi")
    with pytest.raises(EvaluationError, match="have one name"):
        score_files(reference, estimate)


def test_a_midi_file_without_notes_scores_zero(folders):
    write_notes(Notes.empty(), folders[1] / "a.mid")
    result = score_files(*folders)
    assert result.recordings[0].scores["Onset F1"] == 0.0


def test_scoring_files_needs_no_jax():
    code = (
        "import sys, mt3.evaluation.file_scoring;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'jax', 'flax', 'scipy', 'mir_eval', 'sklearn', 'tensorflow', 'pretty_midi', 'note_seq'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def write_pair(folder, name, reference_suffix, estimate_suffix):
    """The scale on both sides, the estimate without its last note."""
    for side, suffix, notes in (
        ("reference", reference_suffix, SCALE),
        ("estimate", estimate_suffix, SCALE[:3]),
    ):
        path = folder / side / f"{name}{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix == ".jams":
            columns = (notes.onset_seconds, notes.duration_seconds, notes.pitch)
            rows = zip(*(column.tolist() for column in columns), strict=True)
            data = [{"time": time, "duration": duration, "value": pitch} for time, duration, pitch in rows]
            path.write_text(json.dumps({"annotations": [{"namespace": "note_midi", "data": data}]}))
        else:
            write_notes(notes, path)
    return folder / "reference", folder / "estimate"


def test_formats_may_differ(tmp_path):
    pairs = [(".jams", ".mid"), (".mid", ".json"), (".csv", ".pb"), (".pbtxt", ".csv"), (".MIDI", ".jams")]
    for number, suffixes in enumerate(pairs):
        folders = write_pair(tmp_path, f"piece{number}", *suffixes)
    result = score_files(*folders)
    assert [recording.id for recording in result.recordings] == [f"piece{number}" for number in range(5)]
    assert [recording.scores["Onset + offset recall"] for recording in result.recordings] == [0.75] * 5
    assert result.skipped == ()


def test_two_files_of_one_name_are_refused_where_they_have_a_counterpart(tmp_path):
    reference, estimate = write_pair(tmp_path, "a", ".mid", ".mid")
    write_notes(SCALE, estimate / "a.json")
    with pytest.raises(
        EvaluationError, match=r"a\.json and .*a\.mid have one name: keep one of them, or say"
    ):
        score_files(reference, estimate)
    assert score_files(reference, estimate, estimate_format="json").scores["Onset recall"] == 1.0
    assert score_files(reference, estimate, estimate_format="midi").scores["Onset recall"] == 0.75
    # As datasets have them: tables that belong to no piece.
    for suffix in (".json", ".csv"):
        (reference / f"dataset{suffix}").write_text("{}")
    result = score_files(reference, estimate, estimate_format="midi")
    assert [skipped.id for skipped in result.skipped] == ["dataset"]
    assert score_files(reference, estimate, reference_format="midi", estimate_format="midi").skipped == ()


def test_an_unknown_format_is_named(folders):
    with pytest.raises(ValueError, match="'midy' is none of midi"):
        score_files(*folders, estimate_format="midy")


def test_a_format_may_be_said_of_single_files(tmp_path):
    write_notes(SCALE, tmp_path / "true.txt", "csv")
    write_notes(SCALE, tmp_path / "guess.mid")
    result = score_files(tmp_path / "true.txt", tmp_path / "guess.mid", reference_format="csv")
    assert result.scores["Onset F1"] == 1.0


def test_many_lonely_files_are_said_shortly(tmp_path, caplog):
    folders = write_pair(tmp_path, "a", ".mid", ".mid")
    for number in range(25):
        (folders[0] / f"lonely{number}.mid").touch()
    result = score_files(*folders)
    assert len(result.skipped) == 25
    assert len(caplog.messages) == 21
    assert caplog.messages[-1] == "Skipped 5 more."


def test_processes_give_the_same_results_and_files(tmp_path, piece):
    for number in range(12):
        for side, notes in zip(("reference", "estimate"), piece(number), strict=True):
            path = tmp_path / side / f"{number}.json"
            path.parent.mkdir(exist_ok=True)
            write_notes(notes, path)
    (tmp_path / "estimate" / "3.json").write_text("{}")
    folders = (tmp_path / "reference", tmp_path / "estimate")
    here = score_files(*folders, workers=0, output_directory=tmp_path / "here")
    there = score_files(*folders, workers=2, output_directory=tmp_path / "there")
    assert here == there
    assert [skipped.id for skipped in here.skipped] == ["3"]
    written = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("here", "there")
    ]
    assert written[0] == written[1]


def test_results_and_both_sides_are_kept(tmp_path):
    (tmp_path / "reference" / "sub").mkdir(parents=True)
    (tmp_path / "estimate" / "sub").mkdir(parents=True)
    early = SCALE.shift(-0.25)
    write_notes(SCALE, tmp_path / "reference" / "sub" / "a.json")
    write_notes(early, tmp_path / "estimate" / "sub" / "a.json")
    result = score_files(tmp_path / "reference", tmp_path / "estimate", output_directory=tmp_path / "results")
    folder = tmp_path / "results"
    assert read_results(folder) == result
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == [
        "references/sub%2Fa.json",
        "results.csv",
        "results.json",
        "transcriptions/sub%2Fa.json",
        "transcriptions/sub%2Fa.mid",
    ]
    assert read_notes(folder / "references" / "sub%2Fa.json") == SCALE
    assert read_notes(folder / "transcriptions" / "sub%2Fa.json") == early
    # MIDI has no times before 0: what sounds then is cut off.
    assert read_notes(folder / "transcriptions" / "sub%2Fa.mid").onset_seconds.tolist() == pytest.approx(
        [0.0, 0.75, 1.75, 2.75], abs=1e-3
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_is_not_blamed_on_a_file(tmp_path, workers):
    folders = write_pair(tmp_path, "a", ".mid", ".mid")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "transcriptions").write_text("in the way")
    with pytest.raises(OSError, match="transcriptions"):
        score_files(*folders, workers=workers, output_directory=tmp_path / "results")


ODD = {
    "zero_length": Notes.from_rows([(1.0, 1.0, 60, 100, 0, False)]),
    "backwards": Notes.from_rows([(1.0, 0.5, 60, 100, 0, False)]),
    "negative": Notes.from_rows([(-2.0, -1.0, 60, 100, 0, False)]),
    "none": Notes.empty(),
}


@pytest.mark.parametrize("reference", ODD)
@pytest.mark.parametrize("estimate", [*ODD, "scale"])
def test_odd_notes_have_defined_scores(tmp_path, reference, estimate):
    odd = {**ODD, "scale": SCALE}
    write_notes(odd[reference], tmp_path / "true.json")
    write_notes(odd[estimate], tmp_path / "guess.json")
    for paths in (("true.json", "guess.json"), ("guess.json", "true.json")):
        result = score_files(*(tmp_path / path for path in paths), metrics=["all"])
        values = np.array(list(result.scores.values()))
        assert np.isfinite(values).all()
        assert result.scores["Onset F1"] == float(reference == estimate == "negative")


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".csv", b"onset_seconds,offset_seconds,pitch\n0,1,128\n", "pitch of note 0 is '128'"),
        (".csv", b"onset_seconds,offset_seconds,pitch\n0,inf,60\n", "offset_seconds of note 0 is 'inf'"),
        (".csv", b"onset_seconds,offset_seconds,pitch\n0,1e10,60\n", "offset_seconds of estimate note 0"),
        (".pbtxt", b"notes { pitch: 128 velocity: 1 end_time: 1 }", "pitch of note 0 is 128"),
        (".mid", b"", "guess.mid is empty"),
        (".json", b"\x00", "is not JSON"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, suffix, content, message):
    write_notes(SCALE, tmp_path / "true.mid")
    (tmp_path / f"guess{suffix}").write_bytes(content)
    with pytest.raises(EvaluationError, match=message) as error:
        score_files(tmp_path / "true.mid", tmp_path / f"guess{suffix}")
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_half_a_million_notes(tmp_path):
    count = 500_000
    onset = np.arange(count) * 0.06
    notes = Notes(onset, onset + 0.04, np.arange(count) % 88 + 20, *np.full((2, count), 1), np.zeros(count))
    for name in ("true.pb", "guess.pb"):
        write_notes(notes, tmp_path / name)
    result = score_files(tmp_path / "true.pb", tmp_path / "guess.pb")
    assert set(result.scores.values()) == {0.0, 1.0}  # 0: drums, of which there are none
    assert result.scores["Onset + offset F1"] == 1.0


def test_half_a_million_notes_at_one_place_are_one_line(tmp_path):
    many = SCALE[np.zeros(500_000, np.int64)]
    for name in ("true.pb", "guess.pb"):
        write_notes(many, tmp_path / name)
    with pytest.raises(EvaluationError, match="250000000000 pairs of one pitch and time"):
        score_files(tmp_path / "true.pb", tmp_path / "guess.pb")
