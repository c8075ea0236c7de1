"""Slakh2100 from its published layout to recordings and training examples."""

import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mt3.audio.io import load_audio, resample
from mt3.data.sources.base import PlanOptions
from mt3.data.sources.slakh import SOURCE, SlakhConfig
from mt3.symbolic.notes import Notes

REAL = Path(__file__).parents[5] / "shared" / "data" / "layouts" / "slakh"
RATE = 44100
TICKS_PER_SECOND = 960
HALF_A_STEP = 0.5 / 32768


def plan(root, **config):
    return SOURCE.plan(SlakhConfig(**config), [str(root)], PlanOptions()).items


def make_one(root, split, **config):
    """The recordings of the one track."""
    (item,) = plan(root, **config)[split]
    return SOURCE.make(item)


def test_audio_of_a_submix_is_the_sum_of_its_stems(training, stem_samples):
    for recording in make_one(training([0, 24, 33, 48, 56, 80]), "train"):
        numbers = [int(stem[1:]) for stem in recording.extra["stems"]]
        expected = resample(sum(map(stem_samples, numbers)), RATE, 16000)
        found = recording.load_audio(16000)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=HALF_A_STEP + 1e-5)


def test_full_mix(testing, stem_samples):
    """The published mix, in which an unlabelled stem sounds too, or the labelled stems."""
    root = testing([0, 24, 33, 100])
    (published,) = make_one(root, "test")
    assert published.id == "Track01900"
    mix = load_audio(next(root.rglob("mix.flac")))
    np.testing.assert_allclose(published.load_audio(16000), mix, atol=HALF_A_STEP + 1e-7)
    (summed,) = make_one(root, "test", full_mix="stems")
    labelled = resample(sum(map(stem_samples, range(3))), RATE, 16000)
    np.testing.assert_allclose(summed.load_audio(16000), labelled, atol=HALF_A_STEP + 1e-5)
    assert summed.notes == published.notes
    assert summed.extra == published.extra


def test_audio_settings(testing):
    root = testing([0, 24])
    for full_mix in ("mix", "stems"):
        (recording,) = make_one(root, "test", sample_rate=8000, audio_format="pcm16", full_mix=full_mix)
        audio = recording.audio
        assert (audio.sample_rate, audio.format, audio.num_samples) == (8000, "pcm16", 9600)


def test_babyslakh(tmp_path, write_track, stem_samples):
    """WAV files at 16 kHz, no split folders."""
    write_track(tmp_path / "babyslakh_16k" / "Track00001", [0, 24, 33, 48], suffix=".wav", rate=16000)
    (recording,) = make_one(tmp_path, "train")
    assert (recording.id, recording.split) == ("Track00001+0", "train")
    expected = sum(stem_samples(number, rate=16000) for number in range(4))
    np.testing.assert_allclose(recording.load_audio(16000), expected, atol=1e-6)


SKIPPED = {"audio_rendered": False, "midi_saved": False, "inst_class": "Sound Effects"}
TRACKS = {
    "train/Track00002": [
        {"program_num": 1, "notes": ((101, 503, 60), (607, 1001, 64))},
        {"program_num": 30, "notes": ((97, 211, 52), (303, 411, 52))},
        {"program_num": 38, "notes": ((53, 977, 48),)},
        {"program_num": 36, "notes": ((71, 313, 50),), "plugin_name": "scarbee_jay_bass_slap_both.nkm"},
        {"program_num": 128, "notes": ((31, 77, 36), (207, 250, 42)), "is_drum": True},
        {"program_num": 59, "notes": ((151, 888, 70),)},
        {"program_num": 101, "notes": ((1, 1000, 40),), **SKIPPED},
    ],
    "validation/Track01502": [
        {"program_num": 49, "notes": ((17, 719, 66),)},
        {"program_num": 75, "notes": ((333, 1111, 90),)},
    ],
    "test/Track01878": [
        {"program_num": 5, "notes": ((29, 431, 44),)},
        {"program_num": 128, "notes": ((9, 99, 49),), "is_drum": True},
    ],
    "omitted/Track00049": [{"program_num": 0}],
}
# Of the training track, class by class: (onset tick, offset tick, pitch, program), None for drums.
TRAINING_LABELS = (
    [(101, 503, 60, 0), (607, 1001, 64, 0)],
    [(97, 211, 52, 29), (303, 411, 52, 29)],
    [(53, 977, 36, 33), (71, 313, 50, 33)],
    [(151, 888, 70, 56)],
    [(31, 77, 36, None), (207, 250, 42, None)],
)


def labels(rows):
    return Notes.from_rows(
        (onset / TICKS_PER_SECOND, offset / TICKS_PER_SECOND, pitch, 90, program or 0, program is None)
        for onset, offset, pitch, program in rows
    ).sorted()


def expected_splits():
    mixes = [*itertools.combinations(TRAINING_LABELS, 4), TRAINING_LABELS]
    return {
        "train": {f"Track00002+{number}": labels(itertools.chain(*mix)) for number, mix in enumerate(mixes)},
        "validation": {"Track01502": labels([(17, 719, 66, 48), (333, 1111, 90, 73)])},
        "test": {"Track01878": labels([(29, 431, 44, 4), (9, 99, 49, None)])},
    }


@pytest.fixture
def published(tmp_path, write_track):
    """A folder with the tracks as they are when extracted."""
    for place, stems in TRACKS.items():
        write_track(tmp_path / "download" / "slakh2100_flac_redux" / place, stems)
    return tmp_path / "download"


def test_round_trip(published, check_round_trip):
    manifests = check_round_trip("slakh", [published], expected_splits())
    assert manifests["train"].corrections == {"bass_octave": 5}
    assert manifests["train"].licences == ("CC BY 4.0 (Slakh2100)",)


def test_the_archive_gives_the_same(published, tmp_path):
    archive = tmp_path / "slakh2100_flac_redux.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(published / "slakh2100_flac_redux", "slakh2100_flac_redux")
    options = PlanOptions(index_dir=tmp_path / "index")
    packed = SOURCE.plan(SlakhConfig(), [str(archive)], options).items
    extracted = plan(published)
    assert packed.keys() == extracted.keys() == {"train", "validation", "test"}
    for split, (item,) in extracted.items():
        (packed_item,) = packed[split]
        for ours, theirs in zip(SOURCE.make(item), SOURCE.make(packed_item), strict=True):
            assert (ours.id, ours.extra, ours.audio) == (theirs.id, theirs.extra, theirs.audio)
            assert ours.notes == theirs.notes


def test_real_sample():
    """BabySlakh's sample denies all its stems, and has a folder with one MIDI file only."""
    if not REAL.exists():
        pytest.skip("the real samples of Slakh2100 are not here")
    redux = make_one(REAL / "slakh2100_flac_redux", "train")
    items = plan(REAL / "babyslakh_16k")["train"]
    baby = SOURCE.make(items[0])
    assert [recording.id for recording in redux] == [f"Track00001+{number}" for number in range(10)]
    for ours, theirs in zip(redux, baby, strict=True):
        assert ours.notes == theirs.notes
        assert ours.extra["stems"] == theirs.extra["stems"]
        assert ours.extra["skipped_stems"] == {"S06": "Sound Effects"}
        assert "stem_flags_ignored" not in ours.extra["corrections"]
        assert theirs.extra["corrections"]["stem_flags_ignored"] == len(theirs.extra["stems"])
        assert len(ours.notes) > 1000
        assert len(ours.load_audio(16000)) == 32000
    with pytest.raises(ValueError, match=r"Track00007/metadata\.yaml is missing"):
        SOURCE.make(items[1])
