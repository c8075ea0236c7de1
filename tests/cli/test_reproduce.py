"""`mt3 reproduce`: how far runs have come, what is left to do, and a table at toy scale from end to end."""

import dataclasses
import json
import shlex
import shutil

import pytest

from mt3.evaluation.published_results import find
from mt3.evaluation.reproduction import scales
from mt3.evaluation.reproduction.jobs import Settings, make_jobs
from mt3.evaluation.reproduction.scales import SCALES
from mt3.evaluation.reproduction.states import read_state
from mt3.evaluation.reproduction.tables import TABLES
from mt3.evaluation.results import EvaluationResult, RecordingResult, write_results
from mt3.models.checkpoints import read_params
from mt3.models.parameter_hash import parameter_hash


@pytest.fixture
def one_step(monkeypatch):
    """A scale at which a run of one step has come to its end."""
    scale = dataclasses.replace(SCALES["paper"], name="one_step", num_steps=1)
    monkeypatch.setitem(scales.SCALES, "one_step", scale)
    return scale


@pytest.fixture
def job(one_step, tmp_path):
    """The job of ismir2021, of which nothing is done."""
    (job,) = make_jobs(TABLES["ismir2021"], Settings(tmp_path / "work", scale=one_step))
    return job


def train(job, untrained):
    shutil.copytree(untrained, job.run_dir)


def evaluate(job, checkpoint_hash=None):
    """Results of a made-up evaluation of two recordings: onset F1 0.96 and 0.98."""
    recordings = [
        RecordingResult(id, {"Onset F1": value, "Onset + offset F1": 0.5}, 10, 10)
        for id, value in (("a", 0.96), ("b", 0.98))
    ]
    known = checkpoint_hash or parameter_hash(read_params(job.checkpoint))
    settings = {"checkpoint": str(job.checkpoint), "checkpoint_hash": known}
    write_results(EvaluationResult(tuple(recordings), settings=settings), job.results_dir("maestrov3"))


def state_of(job, prepared=("maestrov3",)):
    return read_state(job, prepared)


def test_a_job_from_nothing_to_done(job, untrained):
    assert state_of(job).word == "to do"
    assert [one[0] for one in state_of(job).commands()] == ["train", "eval"]
    assert not job.settings.work_dir.exists()  # looking leaves nothing
    train(job, untrained)
    state = state_of(job)
    assert (state.word, state.trained_steps, state.missing_results) == ("begun", 1, ("maestrov3",))
    assert [one[0] for one in state.commands()] == ["eval"]
    evaluate(job)
    state = state_of(job)
    assert (state.word, state.missing_results, state.commands()) == ("done", (), [])
    assert state.results["maestrov3"].scores["Onset F1"] == pytest.approx(0.97)


def test_results_of_another_model_do_not_count(job, untrained):
    train(job, untrained)
    evaluate(job, checkpoint_hash="0" * 64)
    state = state_of(job)
    assert (state.word, state.results, state.foreign_results) == ("begun", {}, ("maestrov3",))
    assert state.commands() == [job.eval_arguments("maestrov3", restart=True)]
    assert "--restart" in state.commands()[0]


def test_a_run_that_is_not_at_its_end_goes_on(job, untrained):
    train(job, untrained)
    longer = dataclasses.replace(job.settings.scale, num_steps=5)
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, scale=longer))
    state = state_of(job)
    assert (state.word, state.trained_steps, state.is_trained) == ("begun", 1, False)
    assert state.commands()[0] == job.train_arguments()


def test_other_settings_than_it_was_started_with_are_refused(job, untrained):
    job.write_identity()
    train(job, untrained)
    evaluate(job)
    assert state_of(job).word == "done"
    assert state_of(job).obstacle == ""
    elsewhere = dataclasses.replace(
        job.settings, cache_dir=job.directory, bindings=("TrainingRun.mesh='fsdp'",)
    )
    assert state_of(dataclasses.replace(job, settings=elsewhere)).obstacle == ""
    moved = dataclasses.replace(elsewhere, bindings=("BATCH_SIZE=8",))
    state = state_of(dataclasses.replace(job, settings=moved))
    assert state.word == "blocked"
    assert state.obstacle.startswith(
        "was started with other settings (BATCH_SIZE=8): choose another --work-dir"
    )
    assert state.commands() == []


def test_damaged_results_and_checkpoints_are_named(job, untrained):
    train(job, untrained)
    evaluate(job)
    results = job.results_dir("maestrov3") / "results.json"
    text = results.read_text()
    results.write_text(text[:100])
    assert str(results) in state_of(job).obstacle
    results.write_text(text)
    shutil.rmtree(job.checkpoint / "spec")
    state = state_of(job)
    assert state.word == "blocked"
    assert str(job.checkpoint) in state.obstacle
    settings = job.directory / "settings.json"
    settings.write_text("{")
    assert state_of(job).obstacle.startswith(f"{settings} is damaged")


def test_lists_what_is_to_be_done(mt3, tmp_path):
    work, data = tmp_path / "work", tmp_path / "data"
    outcome = mt3("reproduce", "table2", "--work-dir", work, "--data-dir", data, "--only", "mt3_slakh")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert any("blocked" in line and "needs data that are not prepared: slakh" in line for line in lines)
    assert f"mt3 prepare slakh -i DOWNLOADED -o {data / 'slakh'}" in lines
    (train_line,) = [line for line in lines if line.startswith("mt3 train")]
    arguments = shlex.split(train_line)[2:]
    assert "--gin.TASK='slakh_notes_ties_vb1_train'" in arguments
    assert f"--gin.DATA_DIR='{data}'" in arguments
    assert any(line.startswith("mt3 eval") and "--task=slakh_notes_ties_vb1_test" in line for line in lines)
    assert any(line.startswith("[1] Table 3") for line in lines)
    assert not work.exists()


def test_an_architecture_that_is_to_come_is_said_to_be(mt3, tmp_path):
    outcome = mt3(
        "reproduce",
        "acoustic-transformer",
        "--work-dir",
        tmp_path,
        "--run",
        "--only",
        "acoustic_transformer_slakh_50k_1e-4",
    )
    assert (outcome.code, outcome.err) == (0, "")
    (line,) = [line for line in outcome.out.splitlines() if " acoustic_transformer_slakh_50k_1e-4 " in line]
    assert line.endswith("needs the architecture 'acoustic_transformer', which is not here yet")
    assert "acoustic_transformer_slakh_50k_1e-4 failed" not in outcome.out


def test_shows_ours_beside_theirs(mt3, job, untrained):
    train(job, untrained)
    evaluate(job)
    options = ("--work-dir", job.settings.work_dir, "--scale", "one_step")
    outcome = mt3("reproduce", "ismir2021", *options)
    assert outcome.code == 0
    (line,) = [line for line in outcome.out.splitlines() if " Onset F1 " in line]
    assert line.split()[2:8] == ["Onset", "F1", "maestrov3", "0.9601", "0.9700", "+0.0099"]
    assert line.endswith("0.960 to 0.980  [1]")
    assert "To be done" not in outcome.out


def test_json(mt3, job, untrained):
    train(job, untrained)
    evaluate(job)
    outcome = mt3(
        "reproduce", "ismir2021", "--work-dir", job.settings.work_dir, "--scale", "one_step", "--json"
    )
    values = json.loads(outcome.out)
    (run,) = values["runs"]
    assert (run["name"], run["state"], run["commands"]) == ("piano", "done", [])
    onset, offset = values["scores"]
    (published,) = find("ismir2021", metric="Onset F1")
    assert onset["value"] == published.value
    assert onset["source"] == published.source
    assert onset["ours"] == pytest.approx(0.97)
    assert onset["difference"] == pytest.approx(0.97 - 0.9601)
    assert onset["interval"] == pytest.approx([0.96, 0.98])
    assert offset["ours"] == 0.5
    assert onset["contradictions"] == [0]
    assert "four digits" in values["contradictions"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table4"], "the table 'table4' is unknown: choose one of table2, table3"),
        (["table2", "--scale", "big"], "the scale 'big' is unknown: choose one of paper, toy"),
        (["table2", "--only", "piano"], "the run 'piano' is none of this table's: choose of mt3_maestrov3"),
        (["table2", "--gin.TrainingRun.num_steps=9"], "TrainingRun.num_steps is the table's: leave out"),
        (["table2", "--nonsense"], "--nonsense is not an option of this command"),
    ],
)
def test_wrong_input(mt3, arguments, message):
    assert message in mt3("reproduce", *arguments).error()


def test_runs_that_cannot_be_started_are_named_and_the_others_go_on(mt3, tmp_path):
    names = ("mt3_slakh", "mt3_urmp")
    only = [argument for name in names for argument in ("--only", name)]
    outcome = mt3("reproduce", "table2", "--work-dir", tmp_path, "--data-dir", tmp_path, "--run", *only)
    assert outcome.code == 1
    for name in names:
        dataset = name.removeprefix("mt3_")
        assert f"mt3: {name} failed: needs data that are not prepared: {dataset}" in outcome.err
    assert "Scores" in outcome.out


@pytest.mark.slow
def test_a_table_at_toy_scale_from_end_to_end(mt3, tmp_path, monkeypatch):
    """Music is made up and prepared, a network trained and scored, the table filled; all by real commands."""
    # What one process compiles of Python, TensorFlow's most of all, the others need not.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    work = tmp_path / "work"
    arguments = ("reproduce", "ismir2021", "--scale", "toy", "--work-dir", work, "--run", "--json")
    outcome = mt3(*arguments)
    assert outcome.code == 0, outcome.err
    assert [line.split()[1] for line in outcome.err.splitlines()] == ["prepare", "train", "eval"]
    values = json.loads(outcome.out)
    (run,) = values["runs"]
    assert (run["state"], run["trained_steps"], run["evaluated"]) == ("done", 2, ["maestrov3"])
    for score in values["scores"]:
        assert 0 <= score["ours"] <= 1
        assert score["difference"] == pytest.approx(score["ours"] - score["value"])
    assert (work / "piano" / "results" / "maestrov3" / "results.json").exists()
    again = mt3(*arguments)
    assert (again.code, again.err, again.out) == (0, "", outcome.out)
