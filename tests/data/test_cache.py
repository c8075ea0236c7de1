"""The cache: seqio reads it, it holds what the records hold, and it is seqio's own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mt3.data import cache
from mt3.data.cache import cache_chunks, cache_datasets
from mt3.data.preprocessors import CHUNK_FEATURES, decode_chunk, split_recording
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.records import read_recordings
from mt3.data.seqio_batches import SeqioBatches
from mt3.data.tfrecords import parse_example, read_tfrecord
from mt3.models.model import ModelSpec
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

MT3 = Tokenizer(VocabularyConfig(1, program_granularity="full"))
SPEC = ModelSpec(tokenizer=MT3, input_frames=128, max_target_tokens=256)
TRAIN = "synth_notes_ties_vb1_train"


@pytest.fixture(autouse=True)
def no_traces():
    yield
    if "seqio" in sys.modules:
        import seqio

        seqio.set_global_cache_dirs([])
        for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
            for name in list(registry.names()):
                registry.remove(name)


@pytest.fixture(scope="module")
def cache_dir(prepared_dataset, tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    cache_chunks(prepared_dataset.directory, directory, num_shards=3, workers=0)
    return directory


def chunks_in(files):
    """The chunks of TFRecord files, by recording and place."""
    rows = [
        {name: values[0] for name, values in parse_example(record).items()}
        for file in sorted(files)
        for record in read_tfrecord(file)
    ]
    assert all(row.keys() == CHUNK_FEATURES.keys() for row in rows)
    chunks = [decode_chunk(row, 16000, 128) for row in rows]
    by_place = {(chunk.id, chunk.start_frame): chunk for chunk in chunks}
    assert len(by_place) == len(chunks)
    return by_place


def assert_holds_the_recordings(files, recordings):
    chunks = chunks_in(files)
    expected = [chunk for recording in recordings for chunk in split_recording(recording)]
    assert chunks.keys() == {(chunk.id, chunk.start_frame) for chunk in expected}
    for chunk in expected:
        cached = chunks[chunk.id, chunk.start_frame]
        np.testing.assert_array_equal(cached.samples, chunk.samples)
        assert cached.notes == chunk.notes


def test_a_cache_holds_the_chunks_of_the_records(cache_dir, prepared_dataset):
    directory = cache_dir / "synth_chunks_train"
    names = {path.name for path in directory.iterdir()}
    shards = {f"train.tfrecord-{index:05d}-of-00003" for index in range(3)}
    assert names == shards | {"info.train.json", "stats.train.json", "COMPLETED"}
    assert_holds_the_recordings((directory / name for name in shards), prepared_dataset.recordings["train"])
    assert json.loads((directory / "stats.train.json").read_text()) == {"examples": 9}


def test_equal_input_gives_equal_files_and_a_finished_cache_stays(cache_dir, prepared_dataset, tmp_path):
    again = cache_chunks(prepared_dataset.directory, tmp_path, num_shards=3, workers=0)
    for path in again.iterdir():
        assert path.read_bytes() == (cache_dir / again.name / path.name).read_bytes(), path.name
    (again / "stats.train.json").write_text("{}")
    cache_chunks(prepared_dataset.directory, tmp_path, num_shards=3, workers=0)
    assert (again / "stats.train.json").read_text() == "{}"
    cache_chunks(prepared_dataset.directory, tmp_path, num_shards=3, workers=0, overwrite=True)
    assert json.loads((again / "stats.train.json").read_text()) == {"examples": 9}
    assert [path.name for path in tmp_path.iterdir()] == [again.name]


def test_a_cache_that_fails_leaves_nothing(prepared_dataset, tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    for file in prepared_dataset.directory.glob("synth-train*"):
        content = file.read_bytes()
        (data_dir / file.name).write_bytes(content if file.suffix == ".json" else content[:1000])
    with pytest.raises(ValueError, match=r"synth-train\.tfrecord.* (truncated|corrupt)"):
        cache_chunks(data_dir, tmp_path / "cache", workers=0)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_manifest_is_read_once_not_for_each_recording(prepared_dataset, tmp_path, monkeypatch):
    """Of a dataset with ten thousand recordings, that would take as long as all else."""
    reads = []
    monkeypatch.setattr(
        cache,
        "read_recordings",
        lambda *arguments, **settings: reads.append(arguments) or read_recordings(*arguments, **settings),
    )
    cache._recordings.cache_clear()
    cache_chunks(prepared_dataset.directory, tmp_path, workers=0)
    assert len(reads) == 2  # to plan, and to cut five recordings
    # A dataset that is prepared anew is read anew.
    for seconds in (1, 2):
        with RecordWriter(tmp_path / "data", "other", "train") as writer:
            audio = EncodedAudio.encode(np.zeros(16000 * 20 * seconds, np.float32), 16000)
            writer.write(Recording("one", Notes.empty(), audio, "other", "train"))
        made = cache_chunks(tmp_path / "data", tmp_path, overwrite=True, workers=0)
    assert json.loads((made / "stats.train.json").read_text()) == {"examples": 3}


# Says where it writes, and stops in the middle of it.
RUN_THAT_HANGS = """
import sys, time
from mt3.data import cache

def hang(chunks, directory, split, num_shards, rng):
    (directory / "train.tfrecord-00000-of-00001").write_bytes(next(chunks))
    print(directory, flush=True)
    time.sleep(600)

cache._write_shards = hang
cache.cache_chunks(sys.argv[1], sys.argv[2], workers=0)
"""


def test_what_a_killed_run_left_is_removed_by_the_next(prepared_dataset, tmp_path):
    """What a run that still goes on has written stays."""
    command = [sys.executable, "-c", RUN_THAT_HANGS, str(prepared_dataset.directory), str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        killed, working = (Path(run.stdout.readline().strip()) for run in runs)
        runs[0].kill()
        runs[0].wait()
        assert {path.name for path in tmp_path.iterdir()} == {killed.name, working.name}
        made = cache_chunks(prepared_dataset.directory, tmp_path, num_shards=3, workers=0)
        assert {path.name for path in tmp_path.iterdir()} == {made.name, working.name}
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    assert not (made / ".lock").exists()
    assert_holds_the_recordings(made.glob("train.tfrecord-*"), prepared_dataset.recordings["train"])


def test_all_datasets_of_a_directory_are_cached(prepared_dataset, tmp_path):
    data_dir = tmp_path / "data"
    with RecordWriter(data_dir / "two", "other", "train") as writer:
        writer.write(prepared_dataset.recordings["train"][1])
    (data_dir / "one").symlink_to(prepared_dataset.directory)
    made = cache_datasets(data_dir, tmp_path / "cache", workers=0)
    assert made == {name: tmp_path / "cache" / f"{name}_chunks_train" for name in ("other", "synth")}
    assert json.loads((made["other"] / "stats.train.json").read_text()) == {"examples": 1}
    made = cache_datasets(data_dir, tmp_path / "cache", "synth", split="validation", workers=0)
    assert json.loads((made["synth"] / "stats.validation.json").read_text()) == {"examples": 3}
    with pytest.raises(ValueError, match=r"Not prepared in .*: slakh; run `mt3 prepare slakh"):
        cache_datasets(data_dir, tmp_path / "cache", ["slakh", "synth"])


def open_batches(prepared_dataset, tokenizer=MT3, task=TRAIN, **settings):
    network = TransformerConfig(vocab_size=tokenizer.num_embeddings)
    spec = ModelSpec(network=network, tokenizer=tokenizer, input_frames=128, max_target_tokens=256)
    settings = {"batch_size": 8, "num_epochs": 1, **settings}
    return SeqioBatches(spec, task=task, data_dir=str(prepared_dataset.directory), **settings)


@pytest.mark.parametrize(
    ("tokenizer", "task"),
    [(MT3, TRAIN), (Tokenizer(VocabularyConfig(127), ties=False), "synth_notes_train")],
)
def test_tasks_of_all_tokenizers_train_from_one_cache(cache_dir, prepared_dataset, tokenizer, task):
    pytest.importorskip("seqio")
    batches = open_batches(prepared_dataset, tokenizer, task, cache_dir=str(cache_dir))
    assert batches.get_state()["made_from"]["cached"] is True
    events = [tokenizer.prepare(recording.notes) for recording in prepared_dataset.recordings["train"]]
    seen = set()
    for batch in batches:
        for inputs, target in zip(batch["inputs"], batch["decoder_target_tokens"], strict=True):
            if not target.any():
                continue  # fills up the last batch
            number, frame, num_frames = prepared_dataset.locate(inputs)
            expected = tokenizer.encode(events[number], frame, num_frames)
            np.testing.assert_array_equal(target[: len(expected)], expected)
            seen.add(int(number))
    assert seen == set(range(5))


def test_rates_are_the_same_cached_or_not(cache_dir, prepared_dataset):
    seqio = pytest.importorskip("seqio")
    from mt3.data import tasks

    def rate():
        tasks.register_datasets(prepared_dataset.directory, tokenizers=[MT3])
        mixture = tasks.register_mixture("mixture_train", [TRAIN])
        (task,) = mixture.tasks
        return task.cache_dir, mixture.get_rate(task)

    assert rate() == (None, pytest.approx(9**0.3))
    seqio.TaskRegistry.remove(TRAIN)
    tasks.add_cache_directory(cache_dir)
    assert rate() == (str(cache_dir / "synth_chunks_train"), pytest.approx(9**0.3))


def test_a_cache_of_other_records_is_refused(cache_dir, prepared_dataset, tmp_path):
    pytest.importorskip("seqio")
    with RecordWriter(tmp_path, "synth", "train") as writer:
        writer.write(prepared_dataset.recordings["train"][0])
    with pytest.raises(ValueError, match=r"has 9 examples, the records of .* have 2: it is of other records"):
        SeqioBatches(SPEC, task=TRAIN, batch_size=1, data_dir=str(tmp_path), cache_dir=str(cache_dir))


@pytest.mark.slow
def test_seqio_caches_the_tasks_itself(prepared_dataset, tmp_path, monkeypatch):
    """Its script, on Beam's direct runner; training reads what it made."""
    seqio = pytest.importorskip("seqio")
    pytest.importorskip("apache_beam")
    from absl import flags
    from seqio.scripts import cache_tasks_main

    # What the script imports registers the tasks, here and in Beam's workers.
    module = tmp_path / "my_tasks.py"
    module.write_text(
        f"from mt3.data import tasks\ntasks.register_datasets({str(prepared_dataset.directory)!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    flags.FLAGS.unparse_flags()
    flags.FLAGS(
        [
            "seqio_cache_tasks",
            f"--tasks={TRAIN}",
            f"--output_cache_dir={tmp_path / 'cache'}",
            "--module_import=my_tasks",
            "--min_shards=2",
        ]
    )
    cache_tasks_main.main([])
    files = (tmp_path / "cache" / TRAIN).glob("train.tfrecord-*")
    assert_holds_the_recordings(files, prepared_dataset.recordings["train"])
    for name in list(seqio.TaskRegistry.names()):
        seqio.TaskRegistry.remove(name)
    batches = open_batches(prepared_dataset, cache_dir=str(tmp_path / "cache"), use_cached=True)
    assert (
        sum((batch["decoder_loss_weights"].sum(axis=1) > 0).sum() for batch in batches) == 107
    )  # 16 of a full chunk, fewer of the shorter
