"""Which tracks of Slakh2100 are in which split."""

import json
import pickle
from pathlib import Path

import pytest

from mt3.data.file_tree import FileTree
from mt3.data.slakh_tracks import list_tracks
from mt3.data.sources.base import PlanOptions, SourceError
from mt3.data.sources.slakh import SOURCE, SlakhConfig

GOLDEN = Path(__file__).parents[3] / "golden"


def plan(root, **config):
    return SOURCE.plan(SlakhConfig(**config), [str(root)], PlanOptions())


def numbers_in(ranges):
    """ "1-3 7" -> [1, 2, 3, 7]."""
    found = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@pytest.fixture(scope="module")
def redux_listing():
    """The names of all tracks of the redux release, each with a few files."""
    folders = json.loads((GOLDEN / "listings" / "slakh_redux.json").read_text())["folders"]
    names = ("metadata.yaml", "mix.flac", "all_src.mid", "stems/S00.flac", "MIDI/S00.mid")
    tracks = {folder: numbers_in(ranges) for folder, ranges in folders.items()}
    files = [
        f"slakh2100_flac_redux/{folder}/Track{number:05d}/{name}"
        for folder, numbers in tracks.items()
        for number in numbers
        for name in names
    ]
    return tracks, FileTree({name: Path(name) for name in files})


def track_numbers(listed):
    return {split: [track.number for track in tracks] for split, tracks in listed.items()}


def test_redux_splits(redux_listing):
    folders, tree = redux_listing
    assert len(folders["omitted"]) == 390
    found = track_numbers(list_tracks(tree, "redux"))
    assert {split: len(numbers) for split, numbers in found.items()} == {
        "train": 1289,
        "validation": 270,
        "test": 151,
    }
    assert found == {split: folders[split] for split in ("train", "validation", "test")}
    assert SOURCE.published_counts == {"slakh/validation": 270, "slakh/test": 151}


def test_original_splits(redux_listing):
    found = track_numbers(list_tracks(redux_listing[1], "original"))
    assert {split: len(numbers) for split, numbers in found.items()} == {
        "train": 1500,
        "validation": 375,
        "test": 225,
    }
    assert found == {
        "train": list(range(1, 1501)),
        "validation": list(range(1501, 1876)),
        "test": list(range(1876, 2101)),
    }


def test_a_track_has_its_files(redux_listing):
    track = list_tracks(redux_listing[1], "redux")["validation"][0]
    folder = "slakh2100_flac_redux/validation/Track01501"
    assert (track.folder, track.name, track.number) == (folder, "Track01501", 1501)
    assert track.files["stems/S00.flac"] == Path(folder) / "stems" / "S00.flac"
    assert len(track.files) == 5


def test_tracks_without_split_folders_go_by_number():
    """BabySlakh's way."""
    names = [f"babyslakh_16k/Track{n:05d}/metadata.yaml" for n in (1, 20, 1500, 1501, 1875, 1876, 2100, 2101)]
    tree = FileTree({name: Path(name) for name in names})
    for split in ("redux", "original"):
        assert track_numbers(list_tracks(tree, split)) == {
            "train": [1, 20, 1500],
            "validation": [1501, 1875],
            "test": [1876, 2100],
        }


def test_planning_reads_nothing(redux_listing, monkeypatch):
    monkeypatch.setattr("mt3.data.slakh_tracks.open_tree", lambda inputs, index_dir: redux_listing[1])
    found = plan("nowhere", seed=5, num_submixes=3)
    assert {split: len(items) for split, items in found.items.items()} == {
        "train": 1289,
        "validation": 270,
        "test": 151,
    }
    assert [item.id for item in found.items["train"][:3]] == ["Track00001", "Track00002", "Track00003"]
    assert (found.dataset, found.seed, found.config["num_submixes"]) == ("slakh", 5, 3)
    item = pickle.loads(pickle.dumps(found.items["test"][0]))
    assert (item.id, item.split, item.config) == ("Track01876", "test", SlakhConfig(seed=5, num_submixes=3))
    json.dumps(found.config)


def test_input_that_is_not_slakh(tmp_path):
    (tmp_path / "song.wav").write_bytes(b"RIFF")
    with pytest.raises(SourceError, match=r"No track of Slakh2100 is among the 1 files"):
        plan(tmp_path)


def test_a_track_must_be_there_once(tmp_path):
    for parent in ("extracted/train", "babyslakh_16k"):
        folder = tmp_path / parent / "Track00001"
        folder.mkdir(parents=True)
        (folder / "metadata.yaml").write_text("")
    with pytest.raises(
        SourceError, match="twice, as babyslakh_16k/Track00001 and extracted/train/Track00001"
    ):
        plan(tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"split": "new"}, "split is 'new'; choose one of redux, original"),
        ({"full_mix": "sum"}, "full_mix is 'sum'"),
        ({"audio_format": "mp3"}, "audio_format is 'mp3'"),
        ({"num_submixes": 0}, "num_submixes is 0; it must be at least 1"),
        ({"min_instruments": 0}, "min_instruments is 0"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ValueError, match=message):
        SlakhConfig(**setting)
