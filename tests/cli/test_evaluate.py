"""`mt3 eval`: tasks and mixtures, taking up again, several devices and processes."""

import dataclasses
import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mt3.cli import configuration
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.models.formats import write_model
from mt3.models.formats.base import StoredArray, StoredModel
from mt3.models.model import TranscriptionModel
from mt3.models.tree_shapes import named_leaves

TASKS = ("--task", "slakh_notes_ties_ms1_vb1_test", "--task", "urmp_notes_ties_ms1_vb1_test")

# A process that runs a command a line of its input. Without TensorFlow, it starts sooner.
DRIVER = """
import sys
sys.modules |= dict.fromkeys(("tensorflow", "seqio"))
from mt3.cli.main import main

for line in sys.stdin.read().splitlines():
    sys.argv = ["mt3", *line.split("|")]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
# Comes before it: the process is killed when it has finished two recordings.
KILLED = """
import os, signal
from mt3.evaluation.finished import FinishedRecordings

keep, kept = FinishedRecordings.keep, []

def keep_or_be_killed(*arguments):
    keep(*arguments)
    kept.append(arguments)
    if len(kept) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

FinishedRecordings.keep = keep_or_be_killed
"""


def music(seconds, seed):
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    tones = [np.sin(2 * np.pi * hz * time) for hz in rng.uniform(100, 3000, 4)]
    return (0.1 * np.sum(tones, 0) + rng.normal(0, 0.01, len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def data(make_tune, tmp_path_factory):
    """Two datasets whose recordings have the same ids, of a few segments each."""
    directory = tmp_path_factory.mktemp("data")
    for seed, (name, lengths) in enumerate({"slakh": (0.9, 0.3, 1.6), "urmp": (0.5, 0.7)}.items()):
        with RecordWriter(directory / name, name, "test") as writer:
            for number, seconds in enumerate(lengths):
                audio = EncodedAudio.encode(music(seconds, 10 * seed + number), 16000)
                notes = make_tune(number).crop(0, seconds)
                writer.write(Recording(f"piece{number}", notes, audio, dataset=name, split="test"))
    return directory


@pytest.fixture(scope="module")
def stored(tiny):
    """A network of random numbers."""
    configuration.parse([str(tiny)], [])
    spec = configuration.build("ModelSpec")
    rng = np.random.default_rng(0)
    arrays = {
        name: StoredArray.of(
            rng.normal(0, param.shape[0] ** -0.5, param.shape).astype(np.float32)
            if len(param.shape) > 1
            else np.ones(param.shape, np.float32)
        )
        for name, param in named_leaves(TranscriptionModel(spec).abstract_params()).items()
    }
    return StoredModel(Path("random"), arrays, spec.to_dict())


@pytest.fixture(scope="module")
def untrained(stored, tmp_path_factory):
    """The same as a file."""
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    write_model(path, stored, "safetensors")
    return path


@pytest.fixture
def evaluate(mt3, tiny, untrained, data):
    """Runs `mt3 eval` on the untrained network and the two datasets."""

    def run(*arguments, checkpoint=untrained):
        return mt3("eval", "-c", checkpoint, "--gin_file", tiny, "--data-dir", data, *TASKS, *arguments)

    return run


@pytest.fixture
def no_decoding(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("It decodes.")

    return lambda: monkeypatch.setattr(TranscriptionModel, "make_decoder", refuse)


def results(directory):
    return json.loads((directory / "results.json").read_text())


IDS = [*(f"slakh/piece{number}" for number in range(3)), *(f"urmp/piece{number}" for number in range(2))]


def test_tasks_are_scored_together_and_each(evaluate, tmp_path, no_decoding, untrained):
    """And again without decoding; what is computed and printed is chosen."""
    outcome = evaluate("-o", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    header, _, *rows = outcome.out.splitlines()
    assert header.split() == ["Metric", str(untrained), "slakh", "urmp"]
    assert rows[0].startswith("Onset F1")
    assert "recordings scored: 5, skipped: 0" in outcome.out
    document = results(tmp_path)
    assert [recording["id"] for recording in document["recordings"]] == IDS
    assert {name: own["num_recordings"] for name, own in document["datasets"].items()} == {
        "slakh": 3,
        "urmp": 2,
    }
    settings = document["settings"]
    assert settings["tasks"] == list(TASKS[1::2])
    assert settings["data"]["urmp"]["split"] == "test"
    assert len(settings["data"]["urmp"]["manifest_hash"]) == len(settings["checkpoint_hash"]) == 64
    for name in ("transcriptions/slakh%2Fpiece0.mid", "references/urmp%2Fpiece1.json"):
        assert (tmp_path / name).exists()

    no_decoding()
    assert evaluate("-o", tmp_path).out == outcome.out
    assert results(tmp_path) == document
    chosen = ("--metrics", "onset, frame", "--max-recordings", 1)
    outcome = evaluate("-o", tmp_path, *chosen)
    names = [f"Onset {word}" for word in ("precision", "recall", "F1")]
    names += [f"Frame {word}" for word in ("Precision", "Recall", "F1")]
    names += ["Invalid event rate", "Dropped event rate"]
    assert "recordings scored: 2, skipped: 0" in outcome.out
    for line, name in zip(outcome.out.splitlines()[2:], names, strict=False):
        assert line.startswith(name)
    first, *_ = document["recordings"]
    assert results(tmp_path)["recordings"][0]["scores"] == {name: first["scores"][name] for name in names}


def test_the_same_parameters_are_known_in_another_format(evaluate, stored, tmp_path, no_decoding):
    name, array = next(iter(stored.arrays.items()))
    changed = {**stored.arrays, name: StoredArray.of(array.read() + 1)}
    write_model(tmp_path / "same.npz", stored, "npz")
    write_model(tmp_path / "other.npz", dataclasses.replace(stored, arrays=changed), "npz")
    one = ("-o", tmp_path / "results", "--max-recordings", 1)
    assert evaluate(*one).code == 0
    before = results(tmp_path / "results")["settings"]["checkpoint_hash"]
    error = evaluate(*one, checkpoint=tmp_path / "other.npz").error()
    assert f"{tmp_path}/results holds an evaluation with checkpoint_hash" in error
    assert "choose another directory, or give --restart to replace it" in error
    decoding = ("--gin.EvaluationRun.decoding=@DecodingOptions()", "--gin.DecodingOptions.seed=1")
    assert "with decoding.seed 0, this one has 1" in evaluate(*one, *decoding).error()
    assert evaluate(*one, "--restart", checkpoint=tmp_path / "other.npz").code == 0
    assert results(tmp_path / "results")["settings"]["checkpoint_hash"] != before
    assert evaluate(*one, "--restart").code == 0
    no_decoding()
    assert evaluate(*one, checkpoint=tmp_path / "same.npz").code == 0
    assert results(tmp_path / "results")["settings"]["checkpoint_hash"] == before


def test_a_broken_recording_is_named_and_left_out(mt3, tiny, untrained, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (shard,) = (tmp_path / "data" / "urmp").glob("*.tfrecord*")
    shard.write_bytes(shard.read_bytes()[:-100])
    arguments = ("eval", "-c", untrained, "--gin_file", tiny, "--data-dir", tmp_path / "data", *TASKS[2:])
    outcome = mt3(*arguments)
    assert outcome.code == 0
    assert "recordings scored: 1, skipped: 1" in outcome.out
    assert "mt3: Skipped piece1: " in outcome.err
    assert "piece1: " in mt3(*arguments, "--strict").error()


def test_other_tokens_are_warned_of(mt3, tiny, untrained, data):
    where = ("eval", "-c", untrained, "--gin_file", tiny, "--data-dir", data, "--max-recordings", 1)
    outcome = mt3(*where, "--task", "urmp_notes_ties_vb1_test")
    assert outcome.code == 0
    assert outcome.err == (
        "mt3: the task urmp_notes_ties_vb1_test is of other tokens than the model's, which are called "
        "notes_ties_ms1_vb1; its recordings are transcribed with the model's\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "urmp"), "'urmp' is no task: names are DATASET_TOKENS_KIND"),
        (("--task", "maestrov3_notes_test"), "maestrov3; run `mt3 prepare maestro"),
        (("--metrics", "nonsense"), "'nonsense' is none of"),
        (("--mesh", "ring"), "mesh is 'ring': choose one of single, data, fsdp"),
        (("--restart",), "--restart is about an output directory: give --output too"),
        (("--coordinator", "here:1"), "give all of --coordinator HOST:PORT, --num-processes N"),
    ],
)
def test_wrong_options(mt3, untrained, data, arguments, message):
    assert message in mt3("eval", "-c", untrained, "--data-dir", data, *arguments).error()


def results_of(directory):
    """All that is there, but for the configuration."""
    document = results(directory)
    del document["settings"]["configuration"]
    notes = {path.name: path.read_bytes() for path in (directory / "transcriptions").iterdir()}
    return document, notes


def files_of(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def start(environment, *commands, program=DRIVER):
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write("\n".join("|".join(map(str, command)) for command in commands))
    process.stdin.close()
    process.stdin = None  # which `communicate` would close again
    return process


@pytest.mark.slow
def test_devices_and_processes_hear_what_one_hears(cpu_devices, tiny, untrained, data, tmp_path):
    """Eight devices, with and without parameters cut up; two processes; and one device alone."""
    common = ("eval", "-c", untrained, "--gin_file", tiny, "--data-dir", data, *TASKS)
    common = (*common, "--gin.EvaluationRun.batch_segments=2", "-o")
    meshes = ("single", "data", "fsdp+model")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        fellows = (f"--coordinator=localhost:{free.getsockname()[1]}", "--num-processes=2")
    processes = [
        start(cpu_devices(8), *((*common, tmp_path / mesh, "--mesh", mesh) for mesh in meshes)),
        *(
            start(cpu_devices(1), (*common, tmp_path / "shared", *fellows, f"--process-index={index}"))
            for index in (0, 1)
        ),
    ]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    expected = results_of(tmp_path / "single")
    assert sum(recording["invalid_events"] for recording in expected[0]["recordings"]) > 0
    for name in ("data", "fsdp+model", "shared"):
        assert results_of(tmp_path / name) == expected, name
    assert "recordings scored: 5" in said[1][0]
    assert said[2][0] == ""


@pytest.mark.slow
def test_killed_and_resumed_equals_undisturbed(cpu_devices, tiny, untrained, data, tmp_path):
    common = ("eval", "-c", untrained, "--gin_file", tiny, "--data-dir", data, *TASKS, "-o")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = start(cpu_devices(1), (*common, whole))
    process = start(cpu_devices(1), (*common, killed), program=KILLED + DRIVER)
    assert (process.communicate(), process.returncode)[1] == -signal.SIGKILL
    assert len(list((killed / "recordings").rglob("*.json"))) == 2
    assert not (killed / "results.json").exists()
    resumed = start(cpu_devices(1), (*common, killed))
    said = [process.communicate() for process in (undisturbed, resumed)]
    assert [undisturbed.returncode, resumed.returncode] == [0, 0], said
    assert files_of(killed) == files_of(whole)
