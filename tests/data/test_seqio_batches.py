"""The provider: shapes, the end of a pass, resuming, shards, mixtures, and what does not fit."""

import itertools
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest

from mt3.data import seqio_batches as provider
from mt3.data.batches import shift_right
from mt3.data.cache import cache_chunks
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.seqio_batches import SeqioBatches
from mt3.models.model import ModelSpec
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

seqio = pytest.importorskip("seqio")
tasks = pytest.importorskip("mt3.data.tasks")
features = pytest.importorskip("mt3.data.features")

MT3 = Tokenizer(VocabularyConfig(1, program_granularity="full"))
SPEC = ModelSpec(tokenizer=MT3, input_frames=128, max_target_tokens=256)
TRAIN = "synth_notes_ties_vb1_train"
VALIDATION = "synth_notes_ties_vb1_validation"


@pytest.fixture(autouse=True)
def empty_registries():
    yield
    for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
        for name in list(registry.names()):
            registry.remove(name)
    seqio.set_global_cache_dirs([])


@pytest.fixture
def open_batches(prepared_dataset):
    def open_batches(task=TRAIN, *, spec=SPEC, **settings):
        directory = str(prepared_dataset.directory)
        settings = {"data_dir": directory, "batch_size": 4, "shuffle_buffer_size": 20, **settings}
        return SeqioBatches(spec, task=task, **settings)

    return open_batches


@pytest.fixture(scope="module")
def other_dataset(tmp_path_factory):
    """Dataset "other": one recording, of the same sample all along."""
    directory = tmp_path_factory.mktemp("other")
    with RecordWriter(directory, "other", "train") as writer:
        audio = EncodedAudio.encode(np.full(128 * 2000, 0.5, np.float32), 16000)
        notes = Notes.from_rows([(0.0, 9.0, 60, 80, 0, False)])
        writer.write(Recording("piece", notes, audio, dataset="other", split="train"))
    return directory


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_batches_have_the_layout_of_training(open_batches):
    with open_batches() as batches:
        batch = next(batches)
        counts = batches.counts()
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
        "inputs": ((4, 128, 128), np.float32),
        "decoder_input_tokens": ((4, 256), np.int32),
        "decoder_target_tokens": ((4, 256), np.int32),
        "decoder_loss_weights": ((4, 256), np.float32),
        "example_ids": ((4,), object),
    }
    np.testing.assert_array_equal(batch["decoder_input_tokens"], shift_right(batch["decoder_target_tokens"]))
    np.testing.assert_array_equal(batch["decoder_loss_weights"], batch["decoder_target_tokens"] != 0)
    assert counts["segments"] >= 4
    assert counts["too_long"] == 0


@pytest.mark.parametrize("task", [TRAIN, VALIDATION, [TRAIN, "other_notes_ties_vb1_train"]])
def test_ids_say_where_examples_come_from(open_batches, prepared_dataset, other_dataset, task):
    directories = [str(prepared_dataset.directory), str(other_dataset)]
    batch = next(open_batches(task, data_dir=directories, batch_size=64))
    numbers, frames, _ = prepared_dataset.locate(batch["inputs"])
    split = "validation" if task == VALIDATION else "train"
    expected = [
        # All samples of the other dataset are the same.
        "other/piece" if samples[0, 0] == samples[1, 0] else f"synth/{split}{number}@{frame / 125:.3f}s"
        for number, frame, samples in zip(numbers, frames, batch["inputs"], strict=True)
    ]
    ids = [name.decode() for name in batch["example_ids"]]
    assert [name.split("@")[0] if "other" in name else name for name in ids] == expected
    assert ("other/piece" in expected) == isinstance(task, list)


def test_ids_of_mixes_name_all_of_their_segments(open_batches):
    batch = next(open_batches(max_examples_per_mix=3, batch_size=32))
    ids = [name.decode().split(" + ") for name in batch["example_ids"]]
    assert {len(names) for names in ids} == {1, 2, 3}
    first_samples = np.rint(batch["inputs"][:, 0, 0] * 32768).astype(int)
    for names, sample in zip(ids, first_samples, strict=True):
        places = [name.removeprefix("synth/train").removesuffix("s").split("@") for name in names]
        assert sum(5000 * int(number) + round(float(at) * 125) + 1 for number, at in places) == sample


@pytest.mark.parametrize("mixes", [1, 3])
def test_resumed_batches_are_the_ones_that_followed(open_batches, monkeypatch, mixes):
    """Within a leg, at its end, and in the next one."""
    monkeypatch.setattr(provider, "_MIN_EXAMPLES_PER_LEG", 4)

    def at_start():
        return open_batches(max_examples_per_mix=mixes, seed=7, batch_size=16)

    batches = at_start()
    per_leg = batches._batches_per_leg
    assert per_leg == {1: 9, 3: 5}[mixes]  # 9 chunks of 16 segments, two of them short
    states, following = [], []
    for _ in range(2 * per_leg + 2):
        states.append(json.loads(json.dumps(batches.get_state())))
        following.append(next(batches))
    assert not equal(following[0], following[per_leg])  # another seed
    for taken in (0, 3, per_leg, 2 * per_leg + 1):
        resumed = at_start()
        resumed.set_state(states[taken])
        assert equal(next(resumed), following[taken])
        assert resumed.get_state() == [*states, batches.get_state()][taken + 1]


def test_a_state_of_other_batches_is_refused(open_batches):
    state = open_batches(seed=1).get_state()
    with pytest.raises(ValueError, match="made with seed 1, these with 2; go on with the same"):
        open_batches(seed=2).set_state(state)


def test_the_way_back_is_reported_and_can_be_interrupted(open_batches, monkeypatch, caplog):
    monkeypatch.setattr(provider, "_REPORT_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "mt3.data.seqio_batches")
    batches = open_batches()
    last = batches._batches_per_leg - 1
    batches.set_state({**batches.get_state(), "batches_in_leg": last})
    threading.Timer(1.0, batches.interrupt).start()
    with pytest.raises(InterruptedError):
        next(batches)
    assert batches.get_state()["batches_in_leg"] == last
    if caplog.messages:
        assert caplog.messages[0] == f"going back to where the data was: 1 of {last} batches passed over"
    # It can be tried again.
    batches.set_state({**batches.get_state(), "batches_in_leg": 2})
    following = open_batches()
    next(following), next(following)
    assert equal(next(batches), next(following))
    assert "going back to where the data was: 2 of 2 batches passed over" in caplog.messages


def test_closing_loses_no_place(open_batches):
    batches, closed = open_batches(), open_batches()
    next(batches), next(closed)
    closed.close()
    assert equal(next(batches), next(closed))


def test_a_finite_pass_ends_with_rows_of_no_weight(open_batches, prepared_dataset):
    batches = open_batches(VALIDATION, num_epochs=1, shuffle=False)
    passed = list(batches)
    # 1300 and 2048 frames in segments of 128: 11 and 16.
    assert len(passed) == 7
    assert all(batch["inputs"].shape == (4, 128, 128) for batch in passed)
    weights = np.concatenate([batch["decoder_loss_weights"].sum(axis=1) for batch in passed])
    assert (weights[:27] > 0).all()
    assert weights[27:].tolist() == [0]
    assert all(passed[-1]["example_ids"][:3])
    assert passed[-1]["example_ids"][3] == b""
    inputs = np.concatenate([batch["inputs"] for batch in passed])[:27]
    samples = [recording.load_audio(16000) for recording in prepared_dataset.recordings["validation"]]
    total = float(sum(np.sum(np.float64(one)) for one in samples))
    assert np.sum(np.float64(inputs)) == pytest.approx(total)
    assert list(batches) == []


def test_buckets_cut_the_targets(open_batches):
    whole, cut = open_batches(), open_batches(target_buckets=(64, 128))
    for _ in range(5):
        one, other = next(whole), next(cut)
        length = other["decoder_target_tokens"].shape[1]
        assert length in (64, 128, 256)
        np.testing.assert_array_equal(
            one["decoder_target_tokens"][:, :length], other["decoder_target_tokens"]
        )
        assert not one["decoder_target_tokens"][:, length:].any()
        np.testing.assert_array_equal(one["inputs"], other["inputs"])


def test_shards_share_the_data(open_batches, prepared_dataset):
    """Two files, two shards: no recording is in both."""
    seen = []
    for index in range(2):
        batches = open_batches(shard_index=index, num_shards=2, shuffle_buffer_size=1)
        taken = [next(batches)["inputs"] for _ in range(30)]
        assert taken[0].shape == (2, 128, 128)
        seen.append(set(prepared_dataset.locate(np.concatenate(taken))[0].tolist()))
    assert seen[0] | seen[1] == set(range(5))
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("num_shards", [2, 3])
def test_shards_have_every_chunk_of_a_pass_once(open_batches, prepared_dataset, tmp_path, cached, num_shards):
    """Each chunk gives so many random segments. Three shards are more than there are files."""
    settings = {"num_epochs": 1, "batch_size": 12, "use_cached": False}
    if cached:
        cache_chunks(prepared_dataset.directory, tmp_path, num_shards=2, workers=0)
        settings |= {"cache_dir": str(tmp_path), "use_cached": True}

    def chunks(**shard):
        batches = open_batches(**settings, **shard)
        inputs = np.concatenate([batch["inputs"][batch["example_ids"] != b""] for batch in batches])
        number, frame, _ = prepared_dataset.locate(inputs)
        return Counter(zip(number.tolist(), (frame // 2000).tolist(), strict=True))

    # 2500, 1300, 4625, 2000 and 3000 frames in chunks of up to 2000.
    places = {(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2), (3, 0), (4, 0), (4, 1)}
    whole = chunks()
    assert whole.keys() == places
    parts = [chunks(shard_index=index, num_shards=num_shards) for index in range(num_shards)]
    assert sum(map(len, parts)) == len(places)
    assert sum(parts, Counter()) == whole


def test_shards_have_every_example_of_a_pass_once(open_batches):
    def ids(**shard):
        batches = open_batches(VALIDATION, num_epochs=1, shuffle=False, **shard)
        return [name for batch in batches for name in batch["example_ids"] if name]

    whole = ids()
    assert len(whole) == len(set(whole)) == 27
    parts = [ids(shard_index=index, num_shards=2) for index in range(2)]
    assert sorted(map(len, parts)) == [11, 16]
    assert sorted(parts[0] + parts[1]) == sorted(whole)


def test_state_of_one_shard_resumes_another(open_batches):
    first, second = (open_batches(shard_index=index, num_shards=2) for index in range(2))
    resumed = open_batches(shard_index=1, num_shards=2)
    for _ in range(3):
        next(first), next(second)
    resumed.set_state(first.get_state())
    assert equal(next(resumed), next(second))


def test_another_number_of_shards_begins_the_next_pass(open_batches, caplog):
    two = open_batches(shard_index=0, num_shards=2)
    next(two)
    one = open_batches()
    one.set_state(two.get_state())
    assert one.get_state()["leg"] == 1
    assert one.get_state()["batches_in_leg"] == 0
    assert "shared among 2 processes and is now among 1: the rest of this pass is left out" in caplog.text
    with pytest.raises(ValueError, match="made with num_shards 2, these with 1"):
        open_batches(num_epochs=1).set_state(
            open_batches(num_epochs=1, shard_index=0, num_shards=2).get_state()
        )


def test_names_of_tasks_are_a_mixture(open_batches, prepared_dataset):
    batches = open_batches([TRAIN], seed=3)
    assert next(batches)["inputs"].shape == (4, 128, 128)
    assert batches.get_state()["made_from"]["task"] == TRAIN


def test_log_mel_inputs_for_models_that_want_them(open_batches):
    spec = ModelSpec(tokenizer=MT3, input_frames=128, max_target_tokens=256, input_kind="log_mel")
    assert next(open_batches(spec=spec))["inputs"].shape == (4, 128, 512)


def test_tasks_registered_before_need_no_directory(prepared_dataset):
    tasks.register_dataset("synth", prepared_dataset.directory, tokenizers=[MT3])
    assert next(SeqioBatches(SPEC, task=TRAIN, batch_size=2))["inputs"].shape == (2, 128, 128)
    spec = ModelSpec(tokenizer=Tokenizer(VocabularyConfig(1, program_granularity="midi_class")))
    with pytest.raises(ValueError, match=r"granularity='full'.*the model reads those of.*'midi_class'"):
        SeqioBatches(spec, task=TRAIN, batch_size=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0 for 1 shards"),
        ({"batch_size": 4, "num_shards": 3}, "batch_size is 4 for 3 shards; give a multiple"),
        ({"shard_index": 1}, "shard_index is 1; it must be in 0..0"),
        ({"split": "test"}, f"{TRAIN} has no split 'test'; choose one of train"),
        ({"task": "synth_notes_train"}, f"no task or mixture 'synth_notes_train'; registered: .*{TRAIN}"),
        ({"data_dir": "/nowhere"}, "/nowhere does not exist; wanted: synth; run `mt3 prepare synth -o"),
        ({"missing_datasets": "skip"}, "missing_datasets is 'skip'; choose one of error, leave_out"),
        ({"task": "mega_notes_ties_vb1_train", "mixture_datasets": "all"}, "no group of datasets 'all'"),
        ({"task": []}, "task is an empty list"),
        ({"use_cached": True}, f"{TRAIN} is not cached anywhere"),
        ({"use_cached": True, "cache_dir": "/nowhere"}, f"{TRAIN} is not cached in /nowhere; make the cache"),
    ],
)
def test_what_does_not_fit_is_named(prepared_dataset, settings, message):
    settings = {"task": TRAIN, "batch_size": 4, "data_dir": str(prepared_dataset.directory), **settings}
    with pytest.raises(ValueError, match=message):
        SeqioBatches(SPEC, **settings)


def test_a_damaged_shard_is_one_line_that_names_the_task(prepared_dataset, tmp_path):
    for file in prepared_dataset.directory.glob("synth-*"):
        content = bytearray(file.read_bytes())
        if "train.tfrecord" in file.name:
            content[len(content) // 2] ^= 0xFF
        (tmp_path / file.name).write_bytes(content)
    batches = SeqioBatches(SPEC, task=TRAIN, batch_size=4, data_dir=str(tmp_path))
    with pytest.raises(features.InputPipelineError) as raised:
        list(itertools.islice(batches, 100))
    place = rf"{TRAIN} \(train\): {tmp_path}/synth-train\.tfrecord-0000.-of-00002: the record at byte"
    assert re.match(rf"{place} \d+ is corrupt [^\n]*$", str(raised.value))


def test_what_a_preprocessor_raises_is_one_line(prepared_dataset):
    batches = SeqioBatches(
        ModelSpec(tokenizer=MT3, input_frames=128, max_target_tokens=3),
        task=TRAIN,
        batch_size=4,
        data_dir=str(prepared_dataset.directory),
        long_targets="drop",
    )
    with pytest.raises(
        features.InputPipelineError, match=r"train\): ValueError: All of .* have more than 3 target"
    ) as raised:
        next(batches)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no way to bind to a core")
def test_one_core_is_enough(prepared_dataset):
    """TensorFlow's own pool would have one thread then; ours has more, and the program ends by itself."""
    program = f"""
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from mt3.data.seqio_batches import SeqioBatches
from mt3.models.model import ModelSpec
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig
spec = ModelSpec(tokenizer=Tokenizer(VocabularyConfig(1, program_granularity="full")))
batches = SeqioBatches(spec, task={TRAIN!r}, batch_size=4, data_dir={str(prepared_dataset.directory)!r})
for _ in range(20):
    next(batches)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300, capture_output=True)
