"""What a page says of runs."""

import dataclasses

import pytest

from mt3.evaluation.metrics import Comparison, confusion_matrix
from mt3.evaluation.report_page.audio import AudioOptions
from mt3.evaluation.report_page.page_data import make_page
from mt3.evaluation.report_page.runs import read_runs
from mt3.evaluation.results import EvaluationResult, RecordingResult
from mt3.evaluation.system_comparison import compare

SILENT = AudioOptions(max_recordings=0)


@pytest.fixture(scope="module")
def runs(run_directories):
    return read_runs(run_directories)


@pytest.fixture(scope="module")
def page(runs):
    return make_page(runs, title="Two systems", audio=SILENT)


def test_means_intervals_and_differences(page, runs):
    first, second = (run.result for run in runs)
    row = next(row for row in page.data.metrics if row.name == "Onset F1")
    assert row.is_headline
    assert [value.mean for value in row.values] == [first.scores["Onset F1"], second.scores["Onset F1"]]
    assert (row.values[0].low, row.values[0].high) == first.intervals["Onset F1"]
    paired = compare(first, second).differences["Onset F1"]
    assert row.differences[0] is None
    assert dataclasses.astuple(row.differences[1]) == (paired.difference, *paired.interval)


def test_headlines_come_first_and_nothing_is_lost(page, runs):
    flags = [row.is_headline for row in page.data.metrics]
    assert flags == sorted(flags, reverse=True)
    assert {row.name for row in page.data.metrics} == set(runs[0].result.scores)


def test_recordings(page, runs):
    ids = [recording.id for recording in page.data.recordings]
    assert ids == [recording.id for recording in runs[0].result.recordings]
    scores = page.data.scores["Frame F1"]
    assert scores[1][2] == pytest.approx(runs[1].result.recordings[2].scores["Frame F1"], abs=1e-5)
    blocks = [recording.notes for recording in page.data.recordings]
    assert blocks[3] == (None, None)
    assert {name for pair in blocks[:3] for name in pair} == set(page.blocks)


def test_what_is_missing_is_said(page):
    run = page.data.runs[0]
    assert run.skipped == (("broken", "its audio ends <too> soon"),)
    assert [id for id, _ in run.without_notes] == ["without notes"]
    assert run.num_recordings == 4
    assert dict(run.facts)["invalid events"] == "8"
    assert dict(run.facts)["data: slakh: split"] == "test"
    assert dict(run.facts)["metrics"] == "onset, frame"
    assert "configuration" not in dict(run.facts)


def test_breakdowns_and_confusions_are_sums_over_recordings(page, runs):
    notes = [runs[1].notes(recording.id) for recording in runs[1].result.recordings]
    sizes = [(len(reference), len(estimate)) for reference, estimate in filter(None, notes)]
    for breakdown in page.data.breakdowns:
        if breakdown.title != "Pitch":
            assert sum(sum(group.reference[1]) for group in breakdown.groups) == sum(
                size[0] for size in sizes
            )
            assert sum(sum(group.estimate[1]) for group in breakdown.groups) == sum(size[1] for size in sizes)
    matrices = [confusion_matrix(Comparison(*pair), "midi_class") for pair in filter(None, notes)]
    total = matrices[0] + matrices[1] + matrices[2]
    assert page.data.confusions[1].labels == total.names
    assert page.data.confusions[1].counts == tuple(map(tuple, total.counts.tolist()))


def test_means_by_dataset(page, runs):
    own = runs[0].result
    assert page.data.runs[0].datasets.keys() == {"slakh", "urmp"}
    assert page.data.runs[0].datasets["urmp"] == own.recordings[2].scores
    frame = [own.recordings[index].scores["Frame F1"] for index in (0, 1, 3)]
    assert page.data.runs[0].datasets["slakh"]["Frame F1"] == pytest.approx(sum(frame) / 3)
    assert any(score["dataset"] == "slakh" and score["source"] for score in page.data.published)


def test_runs_without_recordings_in_common(runs):
    alone = EvaluationResult((RecordingResult("other", {"Onset F1": 0.5}, 1, 1),))
    page = make_page([runs[0], dataclasses.replace(runs[1], result=alone)], title="No pairs", audio=SILENT)
    row = next(row for row in page.data.metrics if row.name == "Onset F1")
    assert (row.values[1].mean, row.values[1].low, row.differences[1]) == (0.5, None, None)
    assert page.data.scores["Onset F1"][1] == (None, None, None, None, 0.5)
    assert page.data.confusions[1] is None


def test_sound_goes_to_the_worst_and_the_best_first(runs):
    options = AudioOptions(max_recordings=2, max_megabytes=0.4)
    page = make_page(runs, title="Sound", audio=options)
    heard = [recording.id for recording in page.data.recordings if recording.clips]
    # The long one does not fit.
    assert len(heard) == 1
    assert "a/long" not in heard
    assert len(page.data.remarks) == 1
    assert page.data.remarks[0].startswith("No sound for a/long: about")


def test_damaged_notes_are_said(tmp_path, run_directories):
    import shutil

    shutil.copytree(run_directories[0], tmp_path / "run")
    (tmp_path / "run" / "references" / "short.json").write_text("no notes")
    page = make_page(read_runs([tmp_path / "run"]), title="Damaged", audio=SILENT)
    missing = dict(page.data.runs[0].without_notes)
    assert "is not JSON" in missing["short"]
