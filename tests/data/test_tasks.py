"""Tasks and mixtures: their names, that their examples are the recordings' own, rates, and errors."""

import re
import subprocess
import sys

import numpy as np
import pytest

from mt3.data import batches
from mt3.data.manifests import manifest_path, read_manifest
from mt3.data.prepared import MissingDatasetError
from mt3.symbolic.vocabularies import EOS_ID

seqio = pytest.importorskip("seqio")
tf = pytest.importorskip("tensorflow")
tasks = pytest.importorskip("mt3.data.tasks")

MT3 = tasks.DEFAULT_TOKENIZERS[1]
TRAIN = "synth_notes_ties_vb1_train"
LENGTHS = {"inputs": 256, "targets": 1024}


@pytest.fixture(autouse=True)
def empty_registries():
    yield
    for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
        for name in list(registry.names()):
            registry.remove(name)


def register(prepared, tokenizer=MT3, **options):
    tasks.register_dataset(
        "synth", prepared.directory, tokenizers=[tokenizer], options=tasks.TaskOptions(**options)
    )


def training_task(prepared, tokenizer=MT3, **options):
    register(prepared, tokenizer, **options)
    return tasks.find_task_or_mixture(tasks.task_name("synth", tokenizer, "train"))


def take(task, count, split="train", lengths=LENGTHS, **settings):
    settings = {"seed": 0, "num_epochs": None, "shuffle": True, **settings}
    dataset = task.get_dataset(lengths, split, **settings)
    return list(dataset.take(count).as_numpy_iterator())


def test_names_are_the_published_ones(prepared_dataset):
    names = tasks.register_dataset("synth", prepared_dataset.directory)
    assert set(names) == {
        f"synth_{variant}_{kind}"
        for variant in ("notes", "notes_ties_vb1", "onsets")
        # No test split is prepared.
        for kind in ("train", "eval_train", "eval_train_full", "validation", "validation_full")
    }
    assert set(names) <= set(seqio.TaskRegistry.names())


def test_full_splits_are_the_splits(prepared_dataset):
    register(prepared_dataset)
    lengths = {"inputs": 256, "targets": 1024}
    for kind in ("validation", "eval_train"):
        examples = [
            list(
                tasks.find_task_or_mixture(f"synth_notes_ties_vb1_{name}")
                .get_dataset(lengths, "eval", shuffle=False)
                .as_numpy_iterator()
            )
            for name in (kind, f"{kind}_full")
        ]
        assert len(examples[0]) == len(examples[1]) > 5
        for one, other in zip(*examples, strict=True):
            np.testing.assert_array_equal(one["inputs"], other["inputs"])
            assert one["id"] == other["id"]


def test_registering_again_changes_nothing_but_settings_do(prepared_dataset):
    first = training_task(prepared_dataset)
    assert training_task(prepared_dataset) is first
    other = training_task(prepared_dataset, max_examples_per_mix=2)
    assert other is not first
    assert seqio.TaskRegistry.get("synth_notes_ties_vb1_train") is other


@pytest.mark.slow
def test_importing_registers_nothing():
    program = "import seqio, mt3.data.tasks; print(len(seqio.TaskRegistry.names()))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0"]


@pytest.mark.parametrize("tokenizer", tasks.DEFAULT_TOKENIZERS)
def test_training_examples_are_segments_with_their_own_tokens(prepared_dataset, tokenizer):
    task = training_task(prepared_dataset, tokenizer, shuffle_buffer_size=20)
    recordings = prepared_dataset.recordings["train"]
    events = [tokenizer.prepare(recording.notes) for recording in recordings]
    examples = take(task, 80)
    for example in examples:
        assert example["inputs"].dtype == np.float32
        number, frame, num_frames = prepared_dataset.locate(example["inputs"])
        np.testing.assert_array_equal(example["targets"], tokenizer.encode(events[number], frame, num_frames))
    numbers = [int(prepared_dataset.locate(example["inputs"])[0]) for example in examples]
    assert set(numbers) == set(range(5))


def test_examples_depend_on_the_seed_alone(prepared_dataset):
    task = training_task(prepared_dataset, shuffle_buffer_size=20)

    def places(seed):
        return [prepared_dataset.locate(example["inputs"])[:2] for example in take(task, 30, seed=seed)]

    assert places(1) == places(1)
    assert places(1) != places(2)


def test_every_epoch_has_other_segments(prepared_dataset):
    task = training_task(prepared_dataset)
    once = take(task, 1000, num_epochs=1, shuffle=False)
    # About as many as fit side by side: 13425 / 256 = 52, rounded for each chunk.
    assert len(once) == 53
    twice = take(task, 1000, num_epochs=2, shuffle=False)
    assert len(twice) == 106
    places = [prepared_dataset.locate(example["inputs"])[:2] for example in twice]
    assert len(set(places[:53]) & set(places[53:])) <= 5


@pytest.mark.parametrize("tokenizer", tasks.DEFAULT_TOKENIZERS)
def test_evaluation_tasks_have_all_segments_in_order(prepared_dataset, tokenizer):
    register(prepared_dataset, tokenizer)
    task = tasks.find_task_or_mixture(tasks.task_name("synth", tokenizer, "validation"))
    examples = take(task, 100, split="eval", num_epochs=1, shuffle=False)
    by_id = {}
    for example in examples:
        by_id.setdefault(example["id"].decode(), []).append(example)
    recordings = {recording.id: recording for recording in prepared_dataset.recordings["validation"]}
    assert by_id.keys() == recordings.keys()
    for id, segments in by_id.items():
        frames = np.concatenate([segment["inputs"] for segment in segments])
        samples = recordings[id].load_audio(16000)
        np.testing.assert_array_equal(frames.ravel()[: len(samples)], samples)
        assert not frames.ravel()[len(samples) :].any()
        events = tokenizer.prepare(recordings[id].notes)
        for index, segment in enumerate(segments):
            assert segment["start_frame"] == 256 * index
            num_frames = min(256, len(samples) // 128 - 256 * index)
            np.testing.assert_array_equal(
                segment["targets"], tokenizer.encode(events, 256 * index, num_frames)
            )


def test_mixes_are_sums_with_the_tokens_of_all(prepared_dataset):
    task = training_task(prepared_dataset, max_examples_per_mix=2, shuffle_buffer_size=50)
    lengths = {"inputs": 64, "targets": 1024}
    # Frames count up by one in a segment, by two in the sum of two.
    slopes, pairs = [], []
    for example in take(task, 60, lengths=lengths):
        values = np.rint(example["inputs"][:, 0] * 32768).astype(int)
        slopes.append(int(values[1] - values[0]))
        if slopes[-1] == 1:
            number, frame, num_frames = prepared_dataset.locate(example["inputs"])
            np.testing.assert_array_equal(
                example["targets"], targets_of(prepared_dataset, number, frame, num_frames)
            )
        elif (np.diff(values) == 2).all():
            pairs.append((int(values[0]), example["targets"]))
    assert sorted(set(slopes)) == [1, 2]
    assert slopes.count(1) == 30
    for total, target in pairs[:3]:
        assert any(np.array_equal(target, merged) for merged in merges_of(prepared_dataset, total))
    assert task.counts.totals()["mixed_segments"] >= 60


def targets_of(prepared, number, frame, num_frames):
    events = MT3.prepare(prepared.recordings["train"][number].notes)
    return MT3.encode(events, frame, num_frames)


def merges_of(prepared, total):
    """Tokens of all pairs of 64 frames whose first samples add up to `total`."""
    recordings = prepared.recordings["train"]
    segments = {
        5000 * number + frame + 1: target
        for number, recording in enumerate(recordings)
        for frames in [range(recording.audio.num_samples // 128 - 63)]
        for frame, target in zip(
            frames, MT3.encode_segments(MT3.prepare(recording.notes), frames, 64), strict=True
        )
    }
    for first, target in segments.items():
        if total - first in segments:
            yield MT3.merge([target, segments[total - first]])


@pytest.mark.parametrize("rule", ["truncate", "drop", "resample"])
def test_long_targets_are_counted_logged_and_handled(prepared_dataset, rule, caplog):
    task = training_task(prepared_dataset, long_targets=rule)
    examples = take(task, 1000, lengths={"inputs": 256, "targets": 120}, num_epochs=1, shuffle=False)
    totals = task.counts.totals()
    assert totals["segments"] == 53
    assert totals["too_long"] > 5
    (message,) = [record.getMessage() for record in caplog.records if "target tokens" in record.getMessage()]
    assert message.startswith(
        f"{task.name}: the first segment with more than 120 target tokens; rule: {rule}."
    )
    assert len(examples) == 53 - totals["dropped"]
    assert (totals["dropped"] > 0) == (rule != "truncate")
    for example in examples:
        assert len(example["targets"]) <= 120
        assert example["targets"][-1] == EOS_ID


def test_a_task_that_drops_everything_says_so(prepared_dataset):
    task = training_task(prepared_dataset, long_targets="drop")
    with pytest.raises(tf.errors.InvalidArgumentError, match="have more than 3 target tokens"):
        take(task, 1, lengths={"inputs": 256, "targets": 3})


@pytest.fixture(scope="module")
def two_datasets(prepared_dataset, tmp_path_factory):
    """`synth` (9 chunks to train), and the same under another name with twice as many counted."""
    data_dir = tmp_path_factory.mktemp("two")
    for name in ("synth", "other"):
        directory = data_dir / name
        directory.mkdir()
        for split in ("train", "validation"):
            text = manifest_path(prepared_dataset.directory, "synth", split).read_text()
            text = text.replace('"name": "synth"', f'"name": "{name}"')
            if name == "other" and split == "train":
                text = text.replace('"num_chunks": 9,', '"num_chunks": 18,')
            manifest_path(directory, name, split).write_text(text)
            for shard in read_manifest(prepared_dataset.directory, split, "synth").shards:
                (directory / shard.file).symlink_to(prepared_dataset.directory / shard.file)
    return data_dir


def test_datasets_are_found_in_directories_side_by_side(two_datasets):
    names = tasks.register_datasets(two_datasets, tokenizers=[MT3])
    assert len(names) == 10
    assert {"other_notes_ties_vb1_train", "synth_notes_ties_vb1_train"} <= set(names)


def test_mixture_rates_come_from_the_counts_of_preparation(two_datasets):
    """Uncached tasks without counts make seqio's rate fail with a TypeError."""
    tasks.register_datasets(two_datasets, tokenizers=[MT3])
    names = ["synth_notes_ties_vb1_train", "other_notes_ties_vb1_train"]
    mixture = tasks.register_mixture("both_train", names)
    assert tasks.register_mixture("both_train", names) is mixture
    assert tasks.register_mixture("both_train", names, temperature=1.0) is not mixture
    mixture = tasks.register_mixture("both_train", names)
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates == pytest.approx({names[0]: 9**0.3, names[1]: 18**0.3})
    shares = {task.name: share for task, share in tasks.shares_of(mixture).items()}
    assert shares == pytest.approx({names[0]: 1 / (1 + 2**0.3), names[1]: 2**0.3 / (1 + 2**0.3)})
    uncounted = seqio.Task(
        "uncounted_train",
        seqio.TFExampleDataSource({"train": "nothing"}, {}),
        output_features=mixture.output_features,
    )
    with pytest.raises(TypeError):
        seqio.mixing_rate_num_examples(uncounted, temperature=10 / 3)


def test_examples_of_a_mixture_come_at_its_rates(two_datasets):
    tasks.register_datasets(two_datasets, tokenizers=[MT3], options=tasks.TaskOptions(shuffle_buffer_size=5))
    mixture = tasks.register_mixture(
        "both_train", ["synth_notes_ties_vb1_train", "other_notes_ties_vb1_train"], temperature=1.0
    )
    list(mixture.get_dataset(LENGTHS, "train", seed=0).take(300).as_numpy_iterator())
    made = {task.name: task.counts.totals()["segments"] for task in mixture.tasks}
    # Within what is read ahead; tests/data/test_mixtures.py counts exactly.
    assert 1.2 < made["other_notes_ties_vb1_train"] / made["synth_notes_ties_vb1_train"] < 3


def test_mixtures_of_tasks_with_other_tokens_are_refused(prepared_dataset):
    tasks.register_dataset("synth", prepared_dataset.directory)
    mixture = tasks.register_mixture("wrong", ["synth_notes_train", "synth_notes_ties_vb1_train"])
    with pytest.raises(ValueError, match="must use the same vocabulary"):
        mixture.get_dataset(LENGTHS, "train")


def test_missing_things_are_named_with_the_command(prepared_dataset, tmp_path):
    register(prepared_dataset)

    def says(*parts):
        return pytest.raises(MissingDatasetError, match=".*".join(map(re.escape, parts)))

    with says("no task or mixture 'maestrov3_notes_train'", TRAIN, "`mt3 prepare maestro`"):
        tasks.find_task_or_mixture("maestrov3_notes_train")
    with says("'slakh' is prepared in", "`mt3 prepare slakh -o "):
        tasks.register_dataset("slakh", prepared_dataset.directory)
    with says("nowhere does not exist; run `mt3 prepare"):
        tasks.register_datasets(tmp_path / "nowhere")
    with says("holds no prepared dataset; run `mt3 prepare"):
        tasks.register_datasets(tmp_path)
    with says("'nothing_train'"):
        tasks.register_mixture("mixture", ["nothing_train"])
    with says("'nothing_train'"):
        tasks.find_provider("nothing_train", prepared_dataset.directory)


def test_a_split_that_is_not_prepared_is_named_with_those_that_are(prepared_dataset):
    message = (
        "There is no task 'synth_notes_ties_vb1_test': of synth, split 'test' is not prepared in "
        f"{prepared_dataset.directory}, only train, validation."
    )
    for data_dir in (None, prepared_dataset.directory):
        register(prepared_dataset)
        with pytest.raises(MissingDatasetError) as raised:
            tasks.find_provider("synth_notes_ties_vb1_test", data_dir)
        assert str(raised.value) == message


def test_other_tokens_than_asked_for_are_named(prepared_dataset):
    register(prepared_dataset)
    with pytest.raises(
        MissingDatasetError, match=f"'synth_notes_train'; registered: .*{TRAIN}.*other tokens"
    ):
        tasks.find_task_or_mixture("synth_notes_train")


def test_frames_of_another_rate_are_refused(prepared_dataset):
    with pytest.raises(ValueError, match="counts 125 frames per second, the options make 62"):
        register(prepared_dataset, hop_samples=256)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long_targets": "ignore"}, "choose one of truncate, drop, resample"),
        ({"max_examples_per_mix": 0}, "max_examples_per_mix is 0"),
        ({"segments_per_chunk": 0}, "segments_per_chunk is 0"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.TaskOptions(**options)


def test_scale_of_audio_is_that_of_batches():
    pcm = np.array([[-32768, 16384]], np.int16)
    dataset = tf.data.Dataset.from_tensors({"inputs": pcm, "targets": np.array([5, 1, 0], np.int32)})
    from mt3.data.seqio_preprocessors import to_task_features

    (example,) = to_task_features(dataset).as_numpy_iterator()
    np.testing.assert_array_equal(example["inputs"], batches.to_float_audio(pcm))
    np.testing.assert_array_equal(example["targets"], [5, 1])
