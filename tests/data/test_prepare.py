"""Preparing a dataset: bytes that depend on the plan alone, and nothing lost by what goes wrong."""

import dataclasses
import errno
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mt3.audio.io import write_audio
from mt3.data import estimate, shards
from mt3.data.manifests import SkippedItem, read_manifest
from mt3.data.prepare import PrepareError, make_plan, narrow, prepare, write_shard
from mt3.data.recordings import AudioFile, Recording, SampledAudio
from mt3.data.records import read_recordings
from mt3.data.sources import folder
from mt3.data.sources.base import LeftOut, Plan, Source
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes

RATE = 16000


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    """Numbers of items; those in `broken` cannot be made, those in `unfit` are left out by rule."""

    num_train: int = 10
    num_test: int = 3
    broken: tuple[int, ...] = ()
    unfit: tuple[int, ...] = ()
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class ToyItem:
    config: ToyConfig
    split: str
    number: int

    @property
    def id(self):
        return f"{self.split}{self.number}"


def plan(config, inputs, options):
    counts = {"train": config.num_train, "test": config.num_test}
    items = {split: [ToyItem(config, split, n) for n in range(count)] for split, count in counts.items()}
    skipped = [SkippedItem(f"{given}.mid", "it has no audio") for given in inputs]
    return Plan("toy", items, dataclasses.asdict(config), skipped, config.seed)


def make(item):
    """Two recordings: a tone of a second, and a fifth of it."""
    if item.number in item.config.broken:
        raise ValueError(f"{item.id}.wav is damaged; fetch it again.")
    if item.number in item.config.unfit:
        raise LeftOut("it has no guitar")
    for part in (1, 5):
        samples = np.sin(np.arange(RATE // part) * (item.number + 1) * 0.01).astype(np.float32) / 2
        notes = Notes.from_rows([(0.1, 0.15, 40 + item.number % 50, 80, item.number % 128, False)])
        yield Recording(
            f"{item.id}/{part}",
            notes,
            SampledAudio(samples, RATE),
            "toy",
            item.split,
            "CC0",
            {"corrections": {"octave": 2}},
        )


TOY = Source("toy", ToyConfig, plan, make, licence="CC0", items_per_shard=3)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_every_item_becomes_its_recordings_in_order(tmp_path):
    manifests = prepare(TOY, ToyConfig(), (), tmp_path, workers=0)
    assert list(manifests) == ["train", "test"]
    ids = [recording.id for recording in read_recordings(tmp_path, "train")]
    assert ids == [f"train{number}/{part}" for number in range(10) for part in (1, 5)]
    manifest = manifests["train"]
    assert [shard.num_recordings for shard in manifest.shards] == [4, 6, 4, 6]  # 10 items in 4 shards
    assert manifest.num_recordings == 20
    assert manifest.seconds == pytest.approx(12.0)
    assert manifest.corrections == {"octave": 40}
    assert manifest == read_manifest(tmp_path, "train")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_the_same_bytes_from_any_number_of_processes_and_any_runner(tmp_path):
    """Also through Beam: as separate processes, and with a runner that its own flags name."""
    runner = "--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
    prepare(TOY, ToyConfig(), (), tmp_path / "here", workers=0)
    prepare(TOY, ToyConfig(), (), tmp_path / "named", runner_flags=[runner])
    assert contents(tmp_path / "here") == contents(tmp_path / "named")


def test_flags_that_beam_does_not_know_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--runer=X is not an option of this command or of Apache Beam"):
        prepare(TOY, ToyConfig(), (), tmp_path, runner_flags=["--runer=X"])


def test_one_broken_item_in_a_hundred_is_named_skipped_and_counted(tmp_path):
    manifest = prepare(TOY, ToyConfig(num_train=100, broken=(37,)), (), tmp_path, workers=0)["train"]
    assert manifest.num_recordings == 198
    assert manifest.skipped == (SkippedItem("train37", "train37.wav is damaged; fetch it again."),)
    whole = prepare(TOY, ToyConfig(num_train=100), (), tmp_path / "whole", workers=0)["train"]
    same = [a.sha256 == b.sha256 for a, b in zip(manifest.shards, whole.shards, strict=True)]
    assert same.count(False) == 1


def test_strict_fails_at_once(tmp_path):
    made = []
    source = dataclasses.replace(TOY, make=lambda item: made.append(item.id) or list(make(item)))
    config = ToyConfig(num_train=100, num_test=0, broken=(37,))
    with pytest.raises(PrepareError, match=r"^train37: train37\.wav is damaged; fetch it again\.$"):
        prepare(source, config, (), tmp_path, workers=0, strict=True)
    assert made == [f"train{number}" for number in range(38)]
    assert not list(tmp_path.glob("*manifest*"))
    # What was finished is kept: without strict, the run goes on from there.
    made.clear()
    prepare(source, config, (), tmp_path, workers=0)
    assert made[0] == "train35"


def test_items_left_out_by_rule_are_listed_and_strict_does_not_mind(tmp_path):
    manifest = prepare(TOY, ToyConfig(unfit=(1, 2)), (), tmp_path, workers=0, strict=True)["train"]
    assert manifest.skipped == tuple(
        SkippedItem(f"train{number}", "it has no guitar", is_fault=False) for number in (1, 2)
    )
    assert manifest.num_recordings == 16


def test_what_planning_could_not_use_is_listed_once(tmp_path):
    manifests = prepare(TOY, ToyConfig(), ["a"], tmp_path, workers=0)
    assert manifests["train"].skipped == (SkippedItem("a.mid", "it has no audio"),)
    assert manifests["test"].skipped == ()
    with pytest.raises(PrepareError, match=r"a\.mid: it has no audio"):
        prepare(TOY, ToyConfig(), ["a"], tmp_path / "strict", workers=0, strict=True)


def test_only_some_splits_and_items(tmp_path):
    manifests = prepare(TOY, ToyConfig(), (), tmp_path, splits=["test"], limit=2, workers=0)
    assert list(manifests) == ["test"]
    assert manifests["test"].num_recordings == 4
    assert manifests["test"].config["limit"] == 2
    with pytest.raises(PrepareError, match=r"limit was 2, is None"):
        prepare(TOY, ToyConfig(), (), tmp_path, workers=0)
    with pytest.raises(PrepareError, match="toy has no split 'validation' here; it has train, test"):
        prepare(TOY, ToyConfig(), (), tmp_path, splits=["validation"], workers=0)
    with pytest.raises(PrepareError, match="nothing to prepare for toy"):
        prepare(TOY, ToyConfig(num_train=0, num_test=0), (), tmp_path, workers=0)


def test_when_nothing_can_be_used_nothing_is_left(tmp_path):
    config = ToyConfig(num_train=2, num_test=0, broken=(0, 1))
    with pytest.raises(PrepareError, match=r"None of 2 inputs of toy train .*; the first: train0: "):
        prepare(TOY, config, (), tmp_path, workers=0)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    """With an error that is nobody's input: what was finished stays, what was not is made again."""
    made = []

    def interrupted(item):
        if item.id == "train7" and len(made) < 9:
            raise KeyboardInterrupt
        made.append(item.id)
        return make(item)

    source = dataclasses.replace(TOY, make=interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, ToyConfig(), (), tmp_path / "a", workers=0)
    assert not list((tmp_path / "a").glob("*manifest*"))
    made += ["-"] * 3
    prepare(source, ToyConfig(), (), tmp_path / "a", workers=0)
    prepare(TOY, ToyConfig(), (), tmp_path / "b", workers=0)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert made.count("train0") == made.count("train4") == 1
    # Another configuration does not take over what this one has made.
    prepare(TOY, ToyConfig(seed=1), (), tmp_path / "a", workers=0, overwrite=True)
    assert read_manifest(tmp_path / "a", "train").seed == 1


def test_shards_of_another_configuration_are_not_taken_over(tmp_path):
    def stop(item):
        if item.number == 5:
            raise KeyboardInterrupt
        return make(item)

    with pytest.raises(KeyboardInterrupt):
        prepare(dataclasses.replace(TOY, make=stop), ToyConfig(seed=1), (), tmp_path / "a", workers=0)
    prepare(TOY, ToyConfig(), (), tmp_path / "a", workers=0)
    prepare(TOY, ToyConfig(), (), tmp_path / "b", workers=0)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("finished_before", [False, True])
def test_what_a_dying_worker_leaves_during_the_next_run_is_removed_at_its_end(tmp_path, finished_before):
    """A temporary file of the same split goes; one of another split, which may be in use, stays."""
    own = tmp_path / ".toy-train.tfrecord-00000-of-00004.ab.tmp"
    others = tmp_path / ".toy-test.tfrecord-00000-of-00001.cd.tmp"

    def leave(item):
        own.touch()
        others.touch()
        return make(item)

    prepare(dataclasses.replace(TOY, make=leave), ToyConfig(), (), tmp_path, splits=["train"], workers=0)
    assert not own.exists()
    if finished_before:
        own.touch()
        prepare(TOY, ToyConfig(), (), tmp_path, splits=["train"], workers=0)
        assert not own.exists()
    assert others.exists()


def test_another_number_of_shards_leaves_none_of_the_old(tmp_path):
    prepare(TOY, ToyConfig(), (), tmp_path, workers=0, num_shards=5)
    prepare(TOY, ToyConfig(), (), tmp_path, workers=0, num_shards=2, overwrite=True)
    assert len(list(tmp_path.glob("toy-train.tfrecord-*"))) == 2
    assert len(read_recordings(tmp_path, "train")) == 20


def test_a_full_disk_is_not_taken_for_a_broken_input(tmp_path, monkeypatch):
    def full(self, recording):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.ShardWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(TOY, ToyConfig(), (), tmp_path, workers=0)
    assert not list(tmp_path.glob(".toy-*.tmp"))


def test_an_item_of_which_one_recording_fails_gives_none(tmp_path):
    def half(item):
        yield from make(item)
        if item.number == 4:
            yield Recording("x", Notes.empty(), AudioFile(tmp_path / "none.wav"), "toy", item.split)

    manifest = prepare(dataclasses.replace(TOY, make=half), ToyConfig(), (), tmp_path / "out", workers=0)
    assert manifest["train"].num_recordings == 18
    (skip,) = manifest["train"].skipped
    assert skip.item == "train4"
    assert "none.wav does not exist" in skip.reason


def test_an_estimate_is_in_proportion():
    toy_plan = narrow(make_plan(TOY, ToyConfig(num_train=40, broken=(6,)), (), ""), ["train"], None)
    found = estimate.estimate(TOY, toy_plan, num_samples=4)["train"]
    assert (found.num_items, found.num_sampled, found.num_recordings) == (40, 4, 80)
    assert found.audio_seconds == pytest.approx(48.0)
    assert 80 * 200 < found.num_bytes < 80 * 32000
    assert found.core_seconds > 0
    assert found.failures == ()
    broken = estimate.estimate(TOY, make_plan(TOY, ToyConfig(broken=tuple(range(10))), (), ""))["train"]
    assert broken.failures[0] == "train1: train1.wav is damaged; fetch it again."


def test_a_shard_that_fails_elsewhere_is_told_as_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("mt3.data.prepare.write_shard", lambda task: task.index == 2 or write_shard(task))
    with pytest.raises(PrepareError, match=r"1 of 4 shards of toy train were not written .* must see it"):
        prepare(TOY, ToyConfig(), (), tmp_path, workers=0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of 24 recordings with their notes, one damaged."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for number in range(24):
        samples = rng.normal(0, 0.1, 44100 * 8).astype(np.float32)
        write_audio(folder / f"r{number:02d}.flac", samples, 44100)
        write_midi(Notes.from_rows([(0.5, 1.0, 40 + number, 80, 0, False)]), folder / f"r{number:02d}.mid")
    (folder / "r07.flac").write_bytes((folder / "r07.flac").read_bytes()[:20000])
    return folder


def start_and_kill(corpus, output, workers, wait_seconds):
    """Starts the command, kills it so long after it began to write; returns whether it was still at it."""
    output.mkdir()
    arguments = [
        *(sys.executable, "-m", "mt3.cli.main", "prepare", "folder"),
        *("-i", str(corpus), "-o", str(output), "--workers", str(workers), "--shards", "8"),
    ]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(output.glob(".folder-*.tmp")):
        time.sleep(0.002)
    time.sleep(wait_seconds)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def finish(corpus, output):
    return prepare(folder.SOURCE, folder.FolderConfig(), [corpus], output, workers=0, num_shards=8)


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    """What an undisturbed run writes, and how many seconds it takes."""
    output = tmp_path_factory.mktemp("undisturbed")
    start = time.monotonic()
    manifest = finish(corpus, output)["train"]
    seconds = time.monotonic() - start
    (skip,) = manifest.skipped
    assert skip.item == "r07"
    return contents(output), seconds


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(corpus, undisturbed, tmp_path):
    """SIGKILL at ten random moments, each run started again to its end."""
    expected, seconds = undisturbed
    moments = random.Random(0)
    num_interrupted = 0
    for number in range(10):
        output = tmp_path / f"killed{number}"
        num_interrupted += start_and_kill(corpus, output, 0, moments.uniform(0, seconds))
        finish(corpus, output)
        assert contents(output) == expected
    assert num_interrupted >= 5


@pytest.mark.slow
def test_workers_end_with_a_killed_run_and_do_not_disturb_the_next(corpus, undisturbed, tmp_path):
    """Beam's processes, which SIGKILL of the command does not reach; the next run starts at once."""
    output = tmp_path / "killed"
    assert start_and_kill(corpus, output, 2, 0.1)
    finish(corpus, output)
    time.sleep(1.0)
    assert contents(output) == undisturbed[0]


@pytest.mark.slow
def test_processes_of_this_machine_write_the_same_bytes(corpus, undisturbed, tmp_path, capfd):
    prepare(folder.SOURCE, folder.FolderConfig(), [corpus], tmp_path, workers=2, num_shards=8)
    assert contents(tmp_path) == undisturbed[0]
    assert capfd.readouterr().err == ""
