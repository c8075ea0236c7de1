"""Cerberus4 from Slakh2100's published layout."""

import json
from pathlib import Path

import numpy as np
import pytest

from mt3.audio.io import resample
from mt3.data.sources.base import LeftOut, PlanOptions
from mt3.data.sources.cerberus4 import SOURCE, Cerberus4Config
from mt3.symbolic.notes import Notes

REAL = Path(__file__).parents[5] / "shared" / "data" / "layouts" / "slakh"
TICKS_PER_SECOND = 960

PIANO = {"program_num": 5, "inst_class": "Piano", "notes": ((101, 503, 60), (607, 1001, 64))}
GUITAR = {"program_num": 30, "inst_class": "Guitar", "notes": ((97, 211, 52), (303, 411, 52))}
BASS = {"program_num": 38, "inst_class": "Bass", "notes": ((53, 977, 48),)}
DRUMS = {"program_num": 128, "inst_class": "Drums", "is_drum": True, "notes": ((31, 77, 36), (207, 250, 42))}
OTHERS = [
    {"program_num": 17, "inst_class": "Organ"},
    {"program_num": 34, "inst_class": "Bass", "midi_saved": False},
    {"program_num": 2, "inst_class": "Piano", "audio_rendered": False},
]


def plan(root, **config):
    return SOURCE.plan(Cerberus4Config(**config), [str(root)], PlanOptions())


def make_one(root, split="train", **config):
    """The recordings of the one track."""
    (item,) = plan(root, **config).items[split]
    return SOURCE.make(item)


def labels(*rows):
    """(onset tick, offset tick, pitch, program), None for drums."""
    return Notes.from_rows(
        (onset / TICKS_PER_SECOND, offset / TICKS_PER_SECOND, pitch, 90, program or 0, program is None)
        for onset, offset, pitch, program in rows
    ).sorted()


def test_every_combination_is_a_mix(training, stem_samples):
    """Two pianos, one guitar, one bass, three drum stems; ids in the order bass, drums, guitar, piano."""
    root = training([PIANO, GUITAR, BASS, DRUMS, *OTHERS, DRUMS, PIANO, DRUMS])
    recordings = make_one(root)
    assert [recording.id for recording in recordings] == [
        "Track00007+S02+S03+S01+S00",
        "Track00007+S02+S03+S01+S08",
        "Track00007+S02+S07+S01+S00",
        "Track00007+S02+S07+S01+S08",
        "Track00007+S02+S09+S01+S00",
        "Track00007+S02+S09+S01+S08",
    ]
    for recording in recordings:
        stems = recording.id.split("+")[1:]
        assert recording.extra["stems"] == stems
        assert recording.extra["track"] == "Track00007"
        assert recording.extra["skipped_stems"] == {
            "S05": "midi_saved is false",
            "S06": "audio_rendered is false",
        }
        assert recording.extra["corrections"] == {"bass_octave": 1}
        mixed = resample(sum(stem_samples(int(stem[1:])) for stem in stems), 44100, 16000)
        np.testing.assert_allclose(recording.load_audio(16000), mixed, atol=0.5 / 32768 + 1e-5)
        json.dumps(recording.extra)


def test_stems_are_labelled_by_their_family(training):
    """Piano 0, guitar 24, bass 32 (an octave lower), drums, whatever the programs."""
    (recording,) = make_one(training([PIANO, GUITAR, BASS, DRUMS]))
    assert recording.notes == labels(
        (101, 503, 60, 0),
        (607, 1001, 64, 0),
        (97, 211, 52, 24),
        (303, 411, 52, 24),
        (53, 977, 36, 32),
        (31, 77, 36, None),
        (207, 250, 42, None),
    )


@pytest.mark.parametrize(
    ("plugin", "config", "pitch"),
    [
        ("finger.nkm", {}, 36),
        ("scarbee_jay_bass_slap_both.nkm", {}, 48),
        ("finger.nkm", {"octave_correction": False}, 48),
    ],
)
def test_bass_is_lowered_by_an_octave_but_for_the_exception(training, plugin, config, pitch):
    (recording,) = make_one(training([PIANO, GUITAR, {**BASS, "plugin_name": plugin}, DRUMS]), **config)
    notes = recording.notes
    assert notes.pitch[notes.program == 32].tolist() == [pitch]


@pytest.mark.parametrize(
    ("stems", "missing"),
    [
        ([PIANO, BASS, DRUMS], "guitar"),
        ([PIANO, *OTHERS], "bass and drums and guitar"),
        ([GUITAR, BASS, DRUMS, *OTHERS], "piano"),
    ],
)
def test_a_track_that_lacks_one_is_left_out(training, stems, missing):
    with pytest.raises(LeftOut, match=rf"it has no stem of {missing} with both audio and labels"):
        make_one(training(stems))


def test_mixes_can_be_limited(training):
    root = training([PIANO, GUITAR, BASS, DRUMS, DRUMS, DRUMS, PIANO, PIANO], seconds=0.1)
    everything = [recording.id for recording in make_one(root)]
    assert len(everything) == 9
    chosen = [recording.id for recording in make_one(root, max_mixes_per_track=4)]
    assert len(chosen) == len(set(chosen)) == 4
    assert chosen == [id for id in everything if id in chosen]
    assert chosen == [recording.id for recording in make_one(root, max_mixes_per_track=4)]
    by_seed = {tuple(r.id for r in make_one(root, max_mixes_per_track=4, seed=seed)) for seed in range(4)}
    assert len(by_seed) > 1
    assert len(make_one(root, max_mixes_per_track=9)) == 9
    with pytest.raises(ValueError, match="max_mixes_per_track is 0; it must be at least 1"):
        Cerberus4Config(max_mixes_per_track=0)


def test_round_trip(tmp_path, write_track, check_round_trip):
    second_piano = {**PIANO, "notes": ((11, 703, 72),)}
    places = {
        "train/Track00002": [PIANO, GUITAR, BASS, DRUMS, second_piano, *OTHERS],
        "validation/Track01502": [DRUMS, BASS, GUITAR, PIANO],
        "test/Track01878": [BASS, DRUMS, PIANO, GUITAR],
        "test/Track01880": [BASS, DRUMS],
    }
    for place, stems in places.items():
        write_track(tmp_path / "slakh2100_flac_redux" / place, stems)
    common = [
        (97, 211, 52, 24),
        (303, 411, 52, 24),
        (53, 977, 36, 32),
        (31, 77, 36, None),
        (207, 250, 42, None),
    ]
    both = labels((101, 503, 60, 0), (607, 1001, 64, 0), *common)
    manifests = check_round_trip(
        "cerberus4",
        [tmp_path / "slakh2100_flac_redux"],
        {
            "train": {
                "Track00002+S02+S03+S01+S00": both,
                "Track00002+S02+S03+S01+S04": labels((11, 703, 72, 0), *common),
            },
            "validation": {"Track01502+S01+S00+S02+S03": both},
            "test": {"Track01878+S00+S01+S03+S02": both},
        },
    )
    assert manifests["train"].corrections == {"bass_octave": 2}
    (skipped,) = manifests["test"].skipped
    assert skipped.item == "Track01880"
    assert "no stem of guitar and piano" in skipped.reason


def test_real_sample():
    if not REAL.exists():
        pytest.skip("the real samples of Slakh2100 are not here")
    recordings = make_one(REAL / "slakh2100_flac_redux")
    assert [recording.id for recording in recordings] == [
        "Track00001+S03+S01+S00+S02",
        "Track00001+S03+S01+S07+S02",
        "Track00001+S03+S01+S08+S02",
    ]
    for recording in recordings:
        assert recording.notes.instruments == [(0, False), (24, False), (32, False), (0, True)]
        assert recording.audio.num_samples == 32000
