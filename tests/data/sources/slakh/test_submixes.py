"""The sub-mixes of Slakh2100's training tracks."""

import itertools
import math
import shutil
from collections import Counter

import numpy as np
import pytest

from mt3.data.slakh_tracks import draw_distinct
from mt3.data.sources.base import PlanOptions
from mt3.data.sources.slakh import SOURCE, SlakhConfig, choose_submixes


def plan(root, **config):
    return SOURCE.plan(SlakhConfig(**config), [str(root)], PlanOptions()).items["train"]


def make_one(root, **config):
    """The recordings of the one track."""
    (item,) = plan(root, **config)
    return SOURCE.make(item)


def members(recordings):
    return [recording.extra["stems"] for recording in recordings]


@pytest.mark.parametrize(("num_classes", "num_mixes"), [(1, 1), (3, 1), (4, 1), (5, 6), (6, 10)])
def test_number_of_submixes(training, num_classes, num_mixes):
    """Of 4, 5 or 6 classes: C(5,4) + C(5,5) = 6 are all, C(6,4) + C(6,5) + C(6,6) = 22 are too many."""
    root = training([0, 24, 33, 48, 56, 80][:num_classes], seconds=0.1)
    recordings = make_one(root)
    assert [recording.id for recording in recordings] == [f"Track00007+{n}" for n in range(num_mixes)]
    chosen = {tuple(recording.extra["stems"]) for recording in recordings}
    assert len(chosen) == num_mixes
    assert min(map(len, chosen)) == min(4, num_classes)
    for recording in recordings:
        assert recording.notes.pitch.size == len(recording.extra["stems"])


def test_stems_of_a_class_stay_together(training):
    """Seven stems of four classes: one mix."""
    drums = {"is_drum": True}
    stems = [0, 25, 24, 48, 49, {"program_num": 0, **drums}, {"program_num": 128, **drums}]
    (recording,) = make_one(training(stems, seconds=0.1))
    assert recording.extra["classes"] == ["Acoustic Piano", "Acoustic Guitar", "String Ensemble", "Drums"]
    assert sorted(recording.extra["stems"]) == ["S00", "S01", "S02", "S03", "S04", "S05", "S06"]


def test_submix_settings(training):
    root = training([0, 24, 33, 48, 56], seconds=0.1)
    assert len(make_one(root, min_instruments=5)) == 1
    ten = members(make_one(root, min_instruments=3))
    assert len(ten) == 10
    assert members(make_one(root, min_instruments=3, num_submixes=3)) == ten[:3]
    assert members(make_one(root, min_instruments=3, seed=1)) != ten


@pytest.mark.parametrize("num_instruments", [7, 10])
def test_every_combination_can_be_chosen_once(num_instruments):
    total = sum(math.comb(num_instruments, size) for size in range(4, num_instruments + 1))
    chosen = choose_submixes(num_instruments, 4, total - 1, np.random.default_rng(1))
    everything = {
        members
        for size in range(4, num_instruments + 1)
        for members in itertools.combinations(range(num_instruments), size)
    }
    assert len(chosen) == len(set(chosen)) == total - 1
    assert set(chosen) < everything


def test_sizes_are_in_proportion_to_their_combinations():
    counts = Counter()
    for number in range(3000):
        mixes = choose_submixes(8, 4, 10, np.random.default_rng(number))
        assert len(set(mixes)) == 10
        counts.update(map(len, mixes))
    expected = {size: 30000 * math.comb(8, size) / 163 for size in range(4, 9)}
    chi_square = sum((counts[size] - count) ** 2 / count for size, count in expected.items())
    assert chi_square < 18.5  # 0.1 % of such samples are beyond


def test_members_are_equally_likely():
    counts = Counter()
    for number in range(2000):
        for mix in choose_submixes(6, 4, 10, np.random.default_rng(number)):
            counts.update(mix)
    # Of the 22 combinations C(5,3) + C(5,4) + C(5,5) = 16 have a given member.
    for member in range(6):
        assert counts[member] / 20000 == pytest.approx(16 / 22, abs=0.01)


def test_many_instruments_need_no_list_of_combinations():
    mixes = choose_submixes(35, 4, 10, np.random.default_rng(0))
    assert len(set(mixes)) == 10
    assert all(list(mix) == sorted(set(mix)) and 4 <= len(mix) <= 35 for mix in mixes)
    assert len(set(draw_distinct(2**40, 100, np.random.default_rng(0)))) == 100


def test_submixes_depend_on_seed_and_track_alone(tmp_path, write_track):
    for number in (3, 4, 5):
        folder = tmp_path / "all" / "train" / f"Track{number:05d}"
        write_track(folder, [0, 24, 33, 48, 56, 80], seconds=0.1)
    shutil.copytree(tmp_path / "all" / "train" / "Track00004", tmp_path / "one" / "train" / "Track00004")
    chosen = [members(SOURCE.make(item)) for item in plan(tmp_path / "all")]
    first, second = make_one(tmp_path / "one"), make_one(tmp_path / "one")
    assert members(first) == chosen[1]
    assert chosen[0] != chosen[1] != chosen[2]
    assert [recording.audio.data for recording in first] == [recording.audio.data for recording in second]
