"""`mt3 train` and `mt3 eval`: from scores to a model that has learnt them, interruptions, wrong input."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from mt3.cli import configuration
from mt3.cli.runs import TrainingRun
from mt3.data.stream import SyntheticStream
from mt3.data.tfrecords import read_tfrecord
from mt3.models.checkpoints import checkpoint_steps, read_params

# A process that runs a command a line of its input.
DRIVER = """
import sys
from mt3.cli.main import main

for line in sys.stdin.read().splitlines():
    sys.argv = ["mt3", *line.split("|")]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    print(f"exit code {code}", flush=True)
"""
WITHOUT_TENSORFLOW = """
import sys
absent = ("tensorflow", "seqio", "note_seq", "apache_beam", "tensorflow_datasets")
sys.modules |= dict.fromkeys(absent)  # importing them fails
"""
# Files cannot grow beyond 1 kB once the first checkpoint is written; JAX compiles again, and cannot keep it.
DISK_THAT_FILLS_UP = """
import logging, resource
import jax
from jax.experimental.compilation_cache import compilation_cache
from mt3.training.checkpoints import Checkpoints

logging.getLogger().handlers.clear()  # which libraries have put there, as the command was not there yet
save = Checkpoints.save

def save_and_fill_up(self, *args):
    save(self, *args)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
    jax.config.update("jax_compilation_cache_dir", jax.config.jax_compilation_cache_dir + "-empty")
    compilation_cache.reset_cache()
    jax.clear_caches()

Checkpoints.save = save_and_fill_up
"""


def drive(preparation, *commands):
    """(exit codes of the commands, standard output, standard error) of one fresh process."""
    result = subprocess.run(
        [sys.executable, "-c", preparation + DRIVER],
        input="\n".join("|".join(map(str, command)) for command in commands),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in result.stderr, result.stderr
    said = [line.removeprefix("exit code ") for line in result.stdout.splitlines() if "exit code" in line]
    return list(map(int, said)), result.stdout, result.stderr


def checkpoints(run_dir):
    return sorted(int(path.name) for path in (run_dir / "checkpoints").iterdir())


def metrics_lines(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def run_dir(untrained, tmp_path):
    """A run of one step, to be changed at will."""
    return shutil.copytree(untrained, tmp_path / "run")


def check_tensorboard(run_dir, step, scores):
    """An evaluation of one recording: scores, histograms, pictures and sound, of 1.5 s."""
    found = {
        (event.step, value.tag): value
        for path in sorted((run_dir / "tensorboard").iterdir())
        for event in map(Event.FromString, read_tfrecord(path))
        for value in event.summary.value
    }
    score = scores["eval/Onset F1"]
    assert found[step, "eval/Onset_F1"].simple_value == pytest.approx(score)
    # One recording: its score is the mean.
    histogram = found[step, "eval/Onset_F1__hist_"].histo
    assert (histogram.num, histogram.sum) == (1, pytest.approx(score))
    [folder] = {tag.rpartition("/")[0] for _, tag in found if tag.endswith("/piano_roll")}
    for name in ("original", "reference", "estimate"):
        sound = found[step, f"{folder}/{name}"].audio
        samples, rate = soundfile.read(io.BytesIO(sound.encoded_audio_string))
        assert samples.shape == (1.5 * rate,)
        assert name == "estimate" or np.abs(samples).max() > 0.01
    for name in ("spectrogram", "piano_roll", "onset_piano_roll"):
        picture = Image.open(io.BytesIO(found[step, f"{folder}/{name}"].image.encoded_image_string))
        assert (picture.format, picture.width) == ("PNG", 75)


@pytest.fixture
def at_batch(monkeypatch):
    """`at_batch(number, action)`: does something before that batch is made, counted from 1."""

    def plan(number, action):
        made = SyntheticStream.__next__
        count = 0

        def next_batch(self):
            nonlocal count
            count += 1
            if count == number:
                action()
            return made(self)

        monkeypatch.setattr(SyntheticStream, "__next__", next_batch)

    return plan


@pytest.mark.slow
def test_learns_a_piece_by_heart(mt3, tiny, tmp_path):
    """All of it on the command line: render, train, evaluate, transcribe, score."""
    data, run, files, heard = (tmp_path / name for name in ("data", "run", "files", "heard"))
    of_data = f"--gin.DATA_DIR='{data}'"
    assert mt3("prepare", "synth", "--gin_file", tiny, "-o", data, "--workers", 0, "--shards", 1).code == 0
    training = ("--gin.TrainingRun.num_steps=300", "--gin.BATCH_SIZE=32")
    outcome = mt3("train", "--gin_file", tiny, "--run-dir", run, *training, of_data)
    assert (outcome.code, outcome.out) == (0, f"{run}: trained to step 300\n")

    # The run's own configuration says what to evaluate on.
    outcome = mt3("eval", "-c", run, "--gin_file", run / "config.gin", "-o", tmp_path / "results", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    scores = json.loads(outcome.out)
    assert scores["Onset F1"] >= 0.95
    assert scores["Onset + offset + program F1 (full)"] >= 0.9
    saved = json.loads((tmp_path / "results" / "results.json").read_text())
    assert saved["scores"] == scores
    assert saved["settings"]["checkpoint"] == str(run)
    assert "prepared_recordings.data_dir = %DATA_DIR" in saved["settings"]["configuration"]

    # The same from an audio file, judged as notes in files.
    assert mt3("data", "export", data, "-o", files, "--split", "train").code == 0
    (audio,) = files.glob("*.wav")
    assert mt3("transcribe", audio, "-c", run, "-o", heard).code == 0
    outcome = mt3("score", audio.with_suffix(".mid"), heard / f"{audio.stem}.mid", "--json")
    assert json.loads(outcome.out)["Onset F1"] >= 0.95

    # It has learnt: an untrained network and a guess without listening know nothing.
    outcome = mt3("eval", "-c", run, "--gin_file", run / "config.gin", "--controls")
    header, _, onset_f1, *_ = outcome.out.splitlines()
    assert header.split() == ["Metric", "trained", "untrained", "commonest", "notes"]
    trained, untrained, deaf = map(float, onset_f1.split()[-3:])
    assert trained >= 0.95
    assert max(untrained, deaf) < 0.5


@pytest.mark.slow
def test_prepared_data_through_seqio(mt3, tiny, tmp_path):
    """Trains, resumes and says what is missing."""
    data, run = tmp_path / "data", tmp_path / "run"
    assert mt3("prepare", "synth", "--gin_file", tiny, "-o", data, "--workers", 0, "--shards", 1).code == 0
    train = [
        *("train", "--gin_file", tiny, "--gin_file", "parts/seqio.gin", "--run-dir", run),
        *("--gin.TASK='synth_notes_ties_ms1_vb1_train'", f"--gin.DATA_DIR='{data}'"),
    ]
    codes, out, err = drive(
        "",
        [*train, "--gin.TrainingRun.num_steps=2"],
        [*train, "--gin.TrainingRun.num_steps=4"],
        [*train, "--gin.TASK='synth_notes_ties_train'"],
        [*train, "--gin.TASK='maestro_notes_train'"],
        [*train, f"--gin.DATA_DIR='{tmp_path / 'none'}'"],
    )
    assert codes == [0, 0, 1, 1, 1], err
    assert f"{run}: trained to step 4" in out
    assert f"mt3: resuming from step 2 of {run}" in err
    assert "start over" not in err
    errors = [line for line in err.splitlines() if line.startswith("mt3: error: ")]
    assert len(errors) == 3
    assert "synth_notes_ties_train" in errors[0]
    assert "maestro_notes_train" in errors[1]
    assert str(tmp_path / "none") in errors[2]
    assert all(line.startswith("mt3: ") for line in err.splitlines()), err


def test_dry_run_prints_a_configuration_that_can_be_used(mt3, tiny, tmp_path):
    outcome = mt3("train", "--gin_file", tiny, "--run-dir", tmp_path / "run", "--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    assert not (tmp_path / "run").exists()
    assert "stream_batches.long_targets = 'truncate'\n" in outcome.out  # a default
    file = tmp_path / "config.gin"
    file.write_text(outcome.out)
    again = mt3("train", "--gin_file", file, "--run-dir", tmp_path / "run", "--dry-run")
    assert again.out == outcome.out
    configuration.parse([str(tiny)], [])
    spec = configuration.build("ModelSpec")
    configuration.parse([str(file)], [])
    assert configuration.build("ModelSpec") == spec


@pytest.mark.slow
def test_stopped_by_a_signal_and_resumed_as_if_it_had_not_been(mt3, tiny, tmp_path, at_batch):
    def train(run_dir):
        return mt3("train", "--gin_file", tiny, "--run-dir", run_dir, "--gin.TrainingRun.num_steps=8")

    assert train(tmp_path / "whole").code == 0
    # Two batches are made ahead: this one only after the second was asked for, with the first update begun.
    at_batch(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    outcome = train(tmp_path / "stopped")
    assert outcome.code == 75
    stopped_at = checkpoints(tmp_path / "stopped")[-1]
    assert 1 <= stopped_at < 8
    last = outcome.err.splitlines()[-1]
    assert last.startswith(f"mt3: stopped by SIGTERM after step {stopped_at}, which is saved in ")
    assert "run the same command again" in last
    outcome = train(tmp_path / "stopped")
    assert outcome.code == 0
    assert f"mt3: resuming from step {stopped_at} of " in outcome.err
    jax.tree.map(
        np.testing.assert_array_equal,
        *(jax.device_get(read_params(tmp_path / name)) for name in ("whole", "stopped")),
    )


def test_stopped_before_there_is_anything_to_save(mt3, tiny, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(TrainingRun, "open_batches", lambda run: os.kill(os.getpid(), signal.SIGTERM))
    assert mt3("train", "--gin_file", tiny, "--run-dir", tmp_path / "run").code == 75
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_limits_of_skipped_updates_are_set_in_gin(mt3, tiny, tmp_path):
    """With this weight, no loss is a number."""
    error = mt3(
        *("train", "--gin_file", tiny, "--run-dir", tmp_path / "run", "--gin.TrainingRun.num_steps=9"),
        *("--gin.TrainingRun.guards=@GuardConfig()", "--gin.GuardConfig.max_skipped_in_a_row=2"),
        "--gin.TrainingRun.z_loss=1e38",
    ).error()
    assert "2 updates in a row were skipped up to step 2" in error
    assert re.search(
        r"the last batch held tune\.mid \(clip 0-0\)@\d\.\d{3}s, tune\.mid \(clip 0-0\)@", error
    ), error


@pytest.mark.slow
def test_stream_without_tensorflow(tiny, tmp_path):
    """Trains, saves, resumes and evaluates; what needs TensorFlow says how to get it."""
    run = tmp_path / "run"
    common = ["--gin_file", tiny, "--gin_file", "stream.gin", "--gin.rendered_recordings.count=1"]
    train = ["train", "--run-dir", run, *common]
    codes, out, err = drive(
        WITHOUT_TENSORFLOW,
        [*train, "--gin.TrainingRun.num_steps=2"],
        [
            *train,
            *("--gin.TrainingRun.num_steps=4", "--gin.TrainingRun.metrics_period_steps=2"),
            *("--gin.TrainingRun.evaluation=@EvaluationRun()", "--gin.TrainingRun.evaluation_period_steps=4"),
            *("--gin.TrainingRun.summaries=@SummaryConfig()", "--gin.SummaryConfig.num_seconds=1.5"),
        ],
        ["eval", "-c", run, *common, "--json"],
        ["train", "--run-dir", tmp_path / "other", "--gin_file", "tiny.gin"],
    )
    assert codes == [0, 0, 0, 1], err
    assert "mt3: resuming from step 2 of " in err
    assert checkpoints(run) == [2, 4]
    scores = metrics_lines(run)[-1]
    assert scores["eval/Onset F1"] <= 1
    check_tensorboard(run, 4, scores)
    assert '"Onset F1": ' in out
    last = err.splitlines()[-1]
    assert last.startswith("mt3: error: ")
    assert "seqio" in last
    assert "pip install 'mt3[train]'" in last


@pytest.mark.slow
def test_full_disk_names_the_path_and_the_remedy(mt3, tiny, tmp_path):
    """The last checkpoint cannot be written; the one before is intact, and the run goes on from it."""
    run = tmp_path / "run"
    train = ("train", "--gin_file", tiny, "--run-dir", run, "--gin.TrainingRun.num_steps=4")
    train = (*train, "--gin.CheckpointConfig.period_steps=2", "--gin.CheckpointConfig.asynchronous=False")
    codes, _, err = drive(DISK_THAT_FILLS_UP, train)
    assert codes == [1]
    assert all(line.startswith("mt3: ") for line in err.splitlines()), err
    error = err.splitlines()[-1]
    assert error.startswith(f"mt3: error: the checkpoint of step 4 could not be written to {run}/checkpoints")
    assert "Free disk space" in error
    assert "Then run the same command again: it resumes from step 2" in error
    assert checkpoint_steps(run) == {2}
    # What Orbax's threads may have left later still is no checkpoint; the next run removes it.
    others = {path.name for path in (run / "checkpoints").iterdir()} - {"2"}
    assert others <= {"4.orbax-checkpoint-tmp"}
    outcome = mt3(*train)
    assert outcome.code == 0
    assert "resuming from step 2" in outcome.err
    assert checkpoints(run) == [2, 4]


def test_checkpoint_of_another_shape(mt3, tiny, run_dir):
    error = mt3(
        "train", "--gin_file", tiny, "--run-dir", run_dir, "--gin.TransformerConfig.mlp_dim=64"
    ).error()
    assert f"the checkpoint {run_dir}/checkpoints/1 " in error
    assert "float32[64, 128]" in error
    assert checkpoints(run_dir) == [1]


def test_existing_run_is_not_overwritten(mt3, tiny, run_dir):
    error = mt3("train", "--gin_file", tiny, "--run-dir", run_dir, "--no-resume").error()
    assert "holds checkpoints up to step 1: resume from them, or choose another run_dir" in error


def test_damaged_checkpoint(mt3, tiny, run_dir):
    (file,) = run_dir.glob("checkpoints/1/params/manifest.ocdbt")
    file.write_bytes(b"no such thing")
    error = mt3("eval", "-c", run_dir, "--gin_file", tiny).error()
    assert f"{run_dir}/checkpoints/1" in error
    assert "damaged" in error


@pytest.mark.parametrize("command", ["eval", "train"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--gin.ModelSpec.frames=3"],
            "--gin.ModelSpec.frames=3: .*its parameters are architecture, network",
        ),
        (["--gin.SPLIT=test"], "--gin.SPLIT=test: .*text needs quotes"),
        (["--gin.EvaluationRun.tracks=3"], "EvaluationRun.tracks is 3: give "),
        (
            ["--gin.EvaluationRun.batch_segments='8'"],
            "EvaluationRun.batch_segments is '8': give a whole number",
        ),
        (
            ["--gin_file", "none.gin"],
            "gin file none.gin: .*neither here nor among the shipped ones: eval.gin",
        ),
        (["--batch-size", "3"], "--batch-size is not an option of this command; see --help"),
    ],
)
def test_wrong_configuration(mt3, tiny, untrained, tmp_path, command, arguments, message):
    where = {"eval": ("-c", untrained), "train": ("--run-dir", tmp_path / "run")}[command]
    evaluated = ("--gin.TrainingRun.evaluation=@EvaluationRun()",) if command == "train" else ()
    error = mt3(command, "--gin_file", tiny, *where, *evaluated, *arguments).error()
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_on(mt3, tmp_path):
    error = mt3("train", "--run-dir", tmp_path / "run").error()
    assert "'batches' and 'num_steps'; bind them in a gin file" in error


def test_missing_checkpoint(mt3, tiny, tmp_path):
    error = mt3("eval", "-c", tmp_path / "none", "--gin_file", tiny).error()
    assert f"{tmp_path / 'none'} does not exist: give a run's directory" in error


def test_missing_data_to_evaluate_on(mt3, untrained, tmp_path):
    error = mt3("eval", "-c", untrained, "--gin_file", "eval.gin", f"--gin.DATA_DIR='{tmp_path}'").error()
    assert f"{tmp_path} holds no prepared dataset with split 'test'" in error


def test_tracks_of_unknown_fields(mt3, tiny, untrained):
    tracks = "--gin.EvaluationRun.tracks=({'nme': 'bass'},)"
    error = mt3("eval", "-c", untrained, "--gin_file", tiny, tracks).error()
    assert "the track {'nme': 'bass'} is not of the fields name, program, is_drum" in error


def test_more_devices_than_there_are(mt3, tiny, tmp_path):
    mesh = ("--gin.TrainingRun.mesh=@MeshConfig()", "--gin.MeshConfig.data=64")
    error = mt3("train", "--gin_file", tiny, "--run-dir", tmp_path / "run", *mesh).error()
    assert "64" in error


def test_missing_music_to_train_on(mt3, tiny, tmp_path):
    error = mt3("train", "--gin_file", tiny, "--run-dir", tmp_path, "--gin.MUSIC='scores.zip'").error()
    assert "'scores.zip' is unknown; name a folder or zip of MIDI files" in error


def test_run_directory_that_cannot_be_made(mt3, tiny, tmp_path):
    (tmp_path / "file").touch()
    error = mt3("train", "--gin_file", tiny, "--run-dir", tmp_path / "file").error()
    assert str(tmp_path / "file") in error
