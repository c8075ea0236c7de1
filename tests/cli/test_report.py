"""`mt3 report`: results directories to a page."""

import dataclasses
import json
import re

import numpy as np
import pytest

from mt3.audio.io import write_audio
from mt3.cli.report import audio_of_data, audio_of_files
from mt3.data.record_writer import RecordWriter
from mt3.data.recording_sets import RecordingSet, SetPart
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.records import read_recordings
from mt3.evaluation.report_page.runs import read_runs
from mt3.evaluation.results import EvaluationResult, RecordingResult, write_results
from mt3.symbolic.conversions import write_midi

RATE = 16000


@pytest.fixture
def results(mt3, tmp_path, make_tune):
    """What `mt3 score -o` wrote of two systems, of which one leaves out every second note."""
    for name, step in (("reference", 1), ("whole", 1), ("half", 2)):
        (tmp_path / name / "sub").mkdir(parents=True)
        write_midi(make_tune()[::step], tmp_path / name / "first.mid")
        write_midi(make_tune(3)[::step], tmp_path / name / "sub" / "second.mid")
    for name in ("whole", "half"):
        outcome = mt3("score", tmp_path / "reference", tmp_path / name, "-o", tmp_path / "results" / name)
        assert outcome.code == 0, outcome
    return tmp_path / "results"


def page_data(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="page-data">(.*?)</script>', text, re.DOTALL)[1])


def clips(data):
    return [(row["id"], clip["source"], clip["run"]) for row in data["recordings"] for clip in row["clips"]]


def test_two_systems(mt3, results, tmp_path):
    outcome = mt3(
        "report", results / "half", results / "whole", "-o", tmp_path / "report", "--title", "Halves"
    )
    assert (outcome.code, outcome.err) == (0, "")
    path = tmp_path / "report" / "index.html"
    assert outcome.out.startswith(f"{path}: 2 runs, ")
    data = page_data(path)
    assert data["title"] == "Halves"
    assert [run["name"] for run in data["runs"]] == ["half", "whole"]
    onset = next(row for row in data["metrics"] if row["name"] == "Onset recall")
    assert [value["mean"] for value in onset["values"]] == [0.5, 1.0]
    assert onset["differences"][1]["mean"] == 0.5
    assert sorted(set(clips(data))) == [
        (id, source, run)
        for id in ("first", "sub/second")
        for source, run in (("estimate", 0), ("estimate", 1), ("reference", 0))
    ]


def test_audio_of_a_directory(mt3, results, tmp_path):
    (tmp_path / "audio").mkdir()
    write_audio(tmp_path / "audio" / "first.wav", np.zeros(RATE, np.float32), RATE)
    write_audio(tmp_path / "audio" / "sub_second.flac", np.zeros(RATE, np.float32), RATE)
    outcome = mt3(
        "report",
        results / "half",
        "-o",
        tmp_path / "report",
        "--audio",
        tmp_path / "audio",
        "--max-sounds",
        1,
    )
    assert outcome.code == 0, outcome
    (heard,) = {id for id, _, _ in clips(page_data(tmp_path / "report" / "index.html"))}
    assert (heard, "original", 0) in clips(page_data(tmp_path / "report" / "index.html"))
    load = audio_of_files(tmp_path / "audio")
    assert [len(load(id, 8000)) for id in ("first", "sub/second")] == [8000, 8000]
    assert load("third", RATE) is None


def test_ids_do_not_lead_out_of_the_directory(tmp_path):
    (tmp_path / "audio").mkdir()
    write_audio(tmp_path / "secret.wav", np.zeros(RATE, np.float32), RATE)
    assert audio_of_files(tmp_path / "audio")("../secret", RATE) is None
    assert audio_of_files(tmp_path / "audio")(str(tmp_path / "secret"), RATE) is None


def test_no_sound(mt3, results, tmp_path):
    outcome = mt3("report", results / "half", "-o", tmp_path / "report", "--max-sounds", 0)
    assert outcome.code == 0
    assert clips(page_data(tmp_path / "report" / "index.html")) == []


@pytest.fixture
def evaluated(tmp_path, make_tune):
    """A results directory that says which prepared recordings it is of, and these."""
    samples = np.linspace(-0.5, 0.5, RATE).astype(np.float32)
    with RecordWriter(tmp_path / "data", "tunes", "test") as writer:
        writer.write(Recording("a", make_tune(), EncodedAudio.encode(samples, RATE), "tunes", "test"))
    part = SetPart("tunes", read_recordings(tmp_path / "data", "test"))
    settings = {"data": {"tunes": part.describe()}, "data_directories": {"tunes": str(tmp_path / "data")}}
    result = EvaluationResult((RecordingResult("a", {"Onset F1": 0.5}, 1, 1),), settings=settings)
    write_results(result, tmp_path / "results")
    return tmp_path / "results", RecordingSet([part])


def test_audio_of_the_data_that_were_evaluated(evaluated):
    directory, recordings = evaluated
    load = audio_of_data(read_runs([directory]))
    np.testing.assert_array_equal(load("a", RATE), recordings[0].load_audio(RATE))
    assert load("b", RATE) is None


@pytest.mark.parametrize("fault", ["gone", "anew"])
def test_data_that_are_not_there_any_more(evaluated, tmp_path, caplog, fault):
    (run,) = read_runs([evaluated[0]])
    if fault == "gone":
        (tmp_path / "data").rename(tmp_path / "moved")
    else:
        data = {"tunes": {**run.result.settings["data"]["tunes"], "manifest_hash": "another"}}
        result = dataclasses.replace(run.result, settings={**run.result.settings, "data": data})
        run = dataclasses.replace(run, result=result)
    assert audio_of_data((run,))("a", RATE) is None
    assert "No original audio of results" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "No such file or directory"),
        (["half", "half"], "is named 2 times"),
        (["half", "--audio", "none"], "none is no directory of audio files"),
        (["half", "--soundfont", "none.sf2"], "none.sf2"),
    ],
)
def test_errors_are_one_line(mt3, results, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(results)
    assert message in mt3("report", *arguments, "-o", tmp_path / "report").error()
    assert not (tmp_path / "report").exists()
