"""Mixtures: their names and datasets, what is missing, and that each dataset is drawn at its rate."""

import logging
from pathlib import Path

import numpy as np
import pytest

from mt3.data import mixtures
from mt3.data.cache import cache_datasets
from mt3.data.mixtures import DATASET_GROUPS, members_of, mixture_datasets, mixture_name
from mt3.data.prepared import MissingDatasetError
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.seqio_batches import SeqioBatches
from mt3.models.model import ModelSpec
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

MT3 = Tokenizer(VocabularyConfig(1, program_granularity="full"))
SPEC = ModelSpec(tokenizer=MT3, input_frames=8, max_target_tokens=32)
LENGTHS = {"inputs": 8, "targets": 32}
MEGA = "mega_notes_ties_vb1_train"

# Chunks of 2000 frames: (train, validation). Every other dataset lies in another directory.
NUM_CHUNKS = {
    "maestrov3": (16, 5),
    "cerberus4": (9, 3),
    "guitarset": (2, 1),
    "musicnet": (4, 2),
    "musicnet_em": (3, 2),
    "slakh": (30, 4),
    "urmp": (1, 1),
}
NAMES = tuple(NUM_CHUNKS)
PAPER = ("maestrov3", "cerberus4", "guitarset", "musicnet", "slakh", "urmp")


@pytest.fixture(autouse=True)
def no_traces():
    seqio = pytest.importorskip("seqio")
    yield
    seqio.set_global_cache_dirs([])
    for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
        for name in list(registry.names()):
            registry.remove(name)


@pytest.fixture(scope="module")
def data_dirs(tmp_path_factory):
    """Two directories of seven datasets; the samples of the n-th are all 100 (n + 1) / 32768."""
    directories = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for number, (name, (num_train, num_validation)) in enumerate(NUM_CHUNKS.items()):
        directory = directories[number % 2] / name
        for split, count in (("train", num_train), ("validation", num_validation)):
            with RecordWriter(directory, name, split) as writer:
                num_frames = 2000 * count - 500
                samples = np.full(128 * num_frames, 100 * (number + 1) / 32768, np.float32)
                notes = Notes.from_rows([(0.0, num_frames / 125, 60, 80, 0, False)])
                audio = EncodedAudio.encode(samples, 16000)
                writer.write(Recording(f"{name}0", notes, audio, dataset=name, split=split))
    return [str(directory) for directory in directories]


def open_batches(data_dir, task=MEGA, **settings):
    settings = {"batch_size": 4, "shuffle_buffer_size": 10, **settings}
    return SeqioBatches(SPEC, task=task, data_dir=data_dir, **settings)


def datasets_of(batches):
    """Names of the datasets, from the names of the tasks."""
    return {name.split("_notes")[0] for name in batches.get_state()["made_from"]["tasks"]}


def test_groups_are_the_papers_and_the_later_codes():
    assert {name: set(datasets) for name, datasets in DATASET_GROUPS.items()} == {
        "paper": set(PAPER),
        "later_code": {*PAPER, "musicnet_em"} - {"musicnet"},
    }
    assert pytest.approx(10 / 3) == mixtures.MIXTURE_TEMPERATURE


@pytest.mark.parametrize("variant", ["notes_ties_vb1", "notes_ties", "notes", "onsets_ms5"])
@pytest.mark.parametrize(("kind", "task_kind"), [("train", "train"), ("eval", "validation")])
def test_names_stand_for_the_tasks_of_all_datasets_or_of_all_but_one(variant, kind, task_kind):
    name = mixture_name(None, variant, kind)
    assert name == f"mega_{variant}_{kind}"
    members = members_of(name)
    assert members.is_mixture
    assert set(members.task_names) == {f"{dataset}_{variant}_{task_kind}" for dataset in PAPER}
    for left_out in mixture_datasets("later_code"):
        name = mixture_name(left_out, variant, kind)
        assert name == f"mega_without_{left_out}_{variant}_{kind}"
        rest = set(mixture_datasets("later_code")) - {left_out}
        assert set(mixture_datasets("later_code", left_out)) == rest
        expected = {f"{dataset}_{variant}_{task_kind}" for dataset in rest}
        assert set(members_of(name, "later_code").task_names) == expected
    with pytest.raises(ValueError, match=r"'musicnet_em' cannot be left out: .*musicnet, slakh"):
        members_of(f"mega_without_musicnet_em_{variant}_{kind}", "paper")


def test_other_names_stand_for_themselves():
    members = members_of("slakh_notes_train")
    assert (members.task_names, members.is_mixture) == (("slakh_notes_train",), False)
    members = members_of(["slakh_notes_train", "mega_notes_train"], ("urmp", "slakh"))
    assert members.name == "slakh_notes_train+mega_notes_train"
    assert members.task_names == ("slakh_notes_train", "urmp_notes_train")
    with pytest.raises(ValueError, match="no group of datasets 'all'; choose one of paper, later_code"):
        members_of("mega_notes_train", "all")


@pytest.mark.parametrize("cached", [False, True])
def test_each_dataset_is_drawn_at_its_rate(data_dirs, tmp_path, cached):
    """20,000 examples, within three standard deviations of n^0.3 over the sum of all."""
    from mt3.data import tasks

    if cached:
        made = cache_datasets(data_dirs, tmp_path, PAPER, workers=0)
        assert set(made) == set(PAPER)
        tasks.add_cache_directory(tmp_path)
    options = tasks.TaskOptions(shuffle_buffer_size=10, segments_per_chunk=250)
    mixture = tasks.find_provider(MEGA, data_dirs, tokenizers=[MT3], options=options)
    count = 20_000
    examples = mixture.get_dataset(LENGTHS, "train", use_cached=cached, seed=5, num_epochs=None)
    first = examples.map(lambda example: example["inputs"][0, 0]).batch(1000).take(count // 1000)
    values = np.concatenate(list(first.as_numpy_iterator()))
    numbers = np.rint(values * 32768 / 100).astype(int) - 1
    drawn = {NAMES[number]: np.count_nonzero(numbers == number) for number in set(numbers.tolist())}
    assert set(drawn) == set(PAPER)
    weights = {name: NUM_CHUNKS[name][0] ** 0.3 for name in PAPER}
    for name, weight in weights.items():
        share = weight / sum(weights.values())
        deviation = (count * share * (1 - share)) ** 0.5
        assert abs(drawn[name] - count * share) < 3 * deviation, (name, drawn)


def test_batches_of_a_mixture(data_dirs, tmp_path, caplog):
    """Also with a cache that some of its datasets lack: then no cache is read."""
    cache_datasets(data_dirs[0], tmp_path, workers=0)
    with open_batches(data_dirs, batch_size=64, cache_dir=str(tmp_path)) as batches:
        batch = next(batches)
    assert batch["inputs"].shape == (64, 8, 128)
    assert len(set(batch["inputs"][:, 0, 0].tolist())) >= 4
    assert datasets_of(batches) == set(PAPER)
    assert batches.get_state()["made_from"]["cached"] is False
    (message,) = [record.getMessage() for record in caplog.records if "Records are read" in record.message]
    assert message.endswith(
        ", ".join(f"{name}_notes_ties_vb1_train" for name in ("cerberus4", "musicnet", "slakh"))
    )


def test_evaluation_mixtures_are_of_the_validation_splits(data_dirs):
    from mt3.data import tasks

    mixture = tasks.find_provider("mega_notes_ties_vb1_eval", data_dirs, tokenizers=[MT3])
    assert mixture.splits == ("eval",)
    assert {task.name: mixture.get_rate(task) for task in mixture.tasks} == pytest.approx(
        {f"{name}_notes_ties_vb1_validation": NUM_CHUNKS[name][1] ** 0.3 for name in PAPER}
    )
    batch = next(open_batches(data_dirs, "mega_notes_ties_vb1_eval"))
    assert batch["inputs"].shape == (4, 8, 128)


def test_tasks_that_are_registered_are_mixed_by_name(data_dirs):
    from mt3.data import tasks

    tasks.register_datasets(data_dirs)
    for variant in ("notes", "notes_ties_vb1"):
        mixture = tasks.find_provider(f"mega_without_slakh_{variant}_train")
        assert {task.dataset for task in mixture.tasks} == set(PAPER) - {"slakh"}
    mixture = tasks.find_provider("mega_notes_train", mixture_datasets=("urmp", "slakh"))
    assert {task.dataset for task in mixture.tasks} == {"urmp", "slakh"}
    with pytest.raises(MissingDatasetError, match=r"Not registered.*: mine, yours; run `mt3 prepare folder"):
        tasks.find_provider("mega_notes_train", mixture_datasets=("mine", "urmp", "yours"))


def test_what_a_mixture_lacks_is_named_with_the_commands(data_dirs):
    """The first directory holds maestrov3, guitarset, musicnet_em and urmp."""
    with pytest.raises(MissingDatasetError) as raised:
        open_batches(data_dirs[0])
    assert str(raised.value) == (
        f"mega_notes_ties_vb1_train: Not prepared in {data_dirs[0]}: cerberus4, musicnet, slakh; "
        f"run `mt3 prepare cerberus4 -o {data_dirs[0]}/cerberus4`, "
        f"`mt3 prepare musicnet -o {data_dirs[0]}/musicnet`, "
        f"`mt3 prepare slakh -o {data_dirs[0]}/slakh`; or set missing_datasets to 'leave_out'."
    )
    # What is left out need not be there.
    assert datasets_of(
        open_batches(
            data_dirs[0], mixture_datasets=("slakh", "urmp"), task="mega_without_slakh_notes_ties_vb1_train"
        )
    ) == {"urmp"}


def test_what_a_mixture_lacks_is_left_out_when_asked(data_dirs, caplog):
    batches = open_batches(data_dirs[0], missing_datasets="leave_out")
    assert datasets_of(batches) == {"maestrov3", "guitarset", "urmp"}
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == [f"Not prepared in {data_dirs[0]}: cerberus4, musicnet, slakh; left out."]
    # Not what it was before: a run goes on with the same datasets only.
    state = batches.get_state()
    with pytest.raises(ValueError, match=r"The saved batches were made with tasks .*, these with .*slakh"):
        open_batches(data_dirs).set_state(state)
    with pytest.raises(MissingDatasetError, match=r"Not prepared in .*: slakh; run `mt3 prepare slakh"):
        open_batches(data_dirs[0], "slakh_notes_ties_vb1_train", missing_datasets="leave_out")


def test_a_dataset_prepared_twice_is_refused_only_where_it_is_wanted(data_dirs, tmp_path):
    (tmp_path / "urmp").symlink_to(Path(data_dirs[0], "urmp"))
    assert datasets_of(open_batches([*data_dirs, str(tmp_path)])) == set(PAPER)  # the same directory
    for split in ("train", "validation"):
        for file in Path(data_dirs[0], "guitarset").glob(f"guitarset-{split}*"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    wanted = open_batches([*data_dirs, str(tmp_path)], "mega_without_guitarset_notes_ties_vb1_train")
    assert datasets_of(wanted) == set(PAPER) - {"guitarset"}
    with pytest.raises(ValueError, match=f"'guitarset' is prepared more than once: .*guitarset, {tmp_path}"):
        open_batches([*data_dirs, str(tmp_path)])


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        ([], set(PAPER)),
        (["MIXTURE='later_code'"], {*PAPER, "musicnet_em"} - {"musicnet"}),
        (["MIXTURE=('slakh', 'urmp')"], {"slakh", "urmp"}),
        (["TASK='mega_without_urmp_notes_ties_vb1_train'"], set(PAPER) - {"urmp"}),
        (["TASK='slakh_notes_ties_vb1_train'"], {"slakh"}),
        (["MIXTURE=('slakh', 'mine')", "MISSING_DATASETS='leave_out'"], {"slakh"}),
    ],
)
def test_gin_chooses_the_datasets(data_dirs, bindings, expected):
    from mt3.cli import configuration

    configuration.parse(["mt3_small.gin"], [f"DATA_DIR={data_dirs!r}", *bindings])
    run = configuration.build("TrainingRun")
    assert datasets_of(run.batches(run.spec)) == expected


def test_gin_leaves_one_out_and_scores_that_one(data_dirs):
    from mt3.cli import configuration

    bindings = [f"DATA_DIR={data_dirs!r}", "LEFT_OUT='urmp'"]
    configuration.parse(["mt3_small.gin", "leave_one_out.gin"], bindings)
    run = configuration.build("TrainingRun")
    assert datasets_of(run.batches(run.spec)) == set(PAPER) - {"urmp"}
    evaluation = configuration.build("EvaluationRun")
    assert [recording.dataset for recording in evaluation.recordings()] == ["urmp"]
    trained_on = [recording.dataset for recording in evaluation.training_recordings()]
    assert set(trained_on) == set(PAPER) - {"urmp"}
