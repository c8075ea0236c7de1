"""GuitarSet from its published layout."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mt3.data.sources.base import PlanOptions, SourceError
from mt3.data.sources.guitarset import SOURCE, GuitarSetConfig
from mt3.symbolic.notes import Notes

GOLDEN = Path(__file__).parents[2] / "golden"
LAYOUT = Path("/work/shared/data/layouts/guitarset")
needs_layout = pytest.mark.skipif(not LAYOUT.exists(), reason=f"{LAYOUT} is not there")

RATE = 44100
AUDIO = {"mic": "audio_mono-mic", "mix": "audio_mono-pickup_mix"}
# (onset, offset, pitch as annotated, string): no two of one pitch overlap.
EXCERPTS = {
    "00_BN1-129-Eb_comp": [
        (0.0488, 0.4726, 51.037, 1),
        (0.0527, 0.5113, 62.091, 3),
        (0.0498, 1.0261, 65.4, 4),
        (0.7313, 1.4512, 58.6, 2),
    ],
    "01_Jazz2-187-F#_solo": [(0.1234, 0.8765, 66.49, 5), (0.9171, 1.2345, 66.51, 5)],
    "05_Funk3-98-A_solo": [(0.2371, 0.9137, 44.82, 0), (0.5117, 1.3713, 57.0, 2)],
}
SPLITS = {"train": list(EXCERPTS)[:2], "validation": list(EXCERPTS)[2:]}


def write_annotation(path, rows):
    """JAMS as published: for each string its contour and its notes, then other namespaces."""
    annotations = []
    for string in range(6):
        notes = [
            {"time": onset, "duration": offset - onset, "value": pitch, "confidence": None}
            for onset, offset, pitch, of in rows
            if of == string
        ]
        # Observations of dense namespaces are an object of lists; so may others be.
        contour = {"time": [0.1], "duration": [0.0], "value": [{"frequency": 99.0}], "confidence": [None]}
        columns = {name: [note[name] for note in notes] for name in ("time", "duration", "value")}
        annotations += [
            {"namespace": "pitch_contour", "data": contour},
            {"namespace": "note_midi", "data": columns if string % 2 else notes},
        ]
    annotations.append({"namespace": "tempo", "data": [{"time": 0.0, "duration": 1.5, "value": 129.0}]})
    path.write_text(json.dumps({"annotations": annotations, "file_metadata": {}, "sandbox": {}}))


def write_guitarset(folder, excerpts=EXCERPTS):
    for name in ("annotation", *AUDIO.values(), "audio_hex-pickup_original"):
        (folder / name).mkdir(parents=True)
    for number, (excerpt, rows) in enumerate(excerpts.items()):
        write_annotation(folder / "annotation" / f"{excerpt}.jams", rows)
        samples = np.random.default_rng(number).uniform(-0.2, 0.2, 3 * RATE // 2)
        for version, name in AUDIO.items():
            soundfile.write(folder / name / f"{excerpt}_{version}.wav", samples, RATE, "PCM_16")
        hexaphonic = folder / "audio_hex-pickup_original" / f"{excerpt}_hex.wav"
        soundfile.write(hexaphonic, np.zeros((10, 6)), RATE, "PCM_16")
    return folder


def expected_notes(excerpt, program=24):
    return Notes.from_rows(
        (onset, offset, round(pitch), 0, program, False) for onset, offset, pitch, _ in EXCERPTS[excerpt]
    ).sorted()


def plan(*inputs, **config):
    return SOURCE.plan(GuitarSetConfig(**config), [str(given) for given in inputs], PlanOptions())


def ids(made):
    return {split: [item.id for item in items] for split, items in made.items.items()}


@pytest.fixture(scope="module")
def guitarset(tmp_path_factory):
    return write_guitarset(tmp_path_factory.mktemp("guitarset"))


@pytest.fixture(scope="module")
def zipped(guitarset, tmp_path_factory):
    """The zips as published: their members are at the root."""
    folder = tmp_path_factory.mktemp("zips")
    for part in sorted(path for path in guitarset.iterdir() if path.is_dir()):
        with zipfile.ZipFile(folder / f"{part.name}.zip", "w") as archive:
            for path in sorted(part.iterdir()):
                archive.write(path, path.name)
    return folder


def test_splits_follow_the_chord_progression(guitarset):
    made = plan(guitarset)
    assert made.dataset == "guitarset"
    assert ids(made) == {
        split: [f"{excerpt}_{version}" for excerpt in excerpts for version in ("mic", "mix")]
        for split, excerpts in SPLITS.items()
    }
    assert not made.skipped
    assert made.config == {"audio": ("mic", "mix"), "program": 24}


def test_notes_of_the_strings_are_one_recording(guitarset):
    for split, items in plan(guitarset).items.items():
        for item in items:
            (recording,) = SOURCE.make(pickle.loads(pickle.dumps(item)))
            assert recording.notes == expected_notes(item.excerpt)
            assert (recording.id, recording.split, recording.dataset) == (item.id, split, "guitarset")
            assert len(recording.load_audio(16000)) == 24000
            assert "CC BY 4.0" in recording.licence
    assert recording.extra == {
        "excerpt": "05_Funk3-98-A_solo",
        "audio": "mix",
        "player": "05",
        "style": "Funk",
        "progression": 3,
        "tempo": 98,
        "key": "A",
        "playing": "solo",
    }


def test_zips_are_read_like_folders(guitarset, zipped):
    from_zips, from_folders = plan(zipped), plan(guitarset)
    assert ids(from_zips) == ids(from_folders)
    (item, *_) = from_zips.items["validation"]
    (recording,) = SOURCE.make(pickle.loads(pickle.dumps(item)))
    assert recording.notes == expected_notes("05_Funk3-98-A_solo")
    assert len(recording.load_audio(16000)) == 24000


def test_one_version_and_another_program(guitarset):
    made = plan(guitarset, audio=["mic"], program=25)
    assert [item.id for item in made.items["train"]] == [f"{excerpt}_mic" for excerpt in SPLITS["train"]]
    (recording,) = SOURCE.make(made.items["train"][0])
    assert recording.notes == expected_notes("00_BN1-129-Eb_comp", program=25)


def test_what_has_no_partner_is_named(tmp_path):
    folder = write_guitarset(tmp_path / "set")
    (folder / "audio_mono-mic" / "00_BN1-129-Eb_comp_mic.wav").unlink()
    (folder / "annotation" / "05_Funk3-98-A_solo.jams").rename(folder / "annotation" / "notes.jams")
    made = plan(folder)
    assert ids(made) == {
        "train": ["00_BN1-129-Eb_comp_mix", "01_Jazz2-187-F#_solo_mic", "01_Jazz2-187-F#_solo_mix"]
    }
    assert {skip.item: skip.reason for skip in made.skipped} == {
        "00_BN1-129-Eb_comp_mic": "there is no audio_mono-mic/00_BN1-129-Eb_comp_mic.wav",
        "notes.jams": "is not named like an excerpt, PP_StyleN-Tempo-Key_comp.jams",
        "05_Funk3-98-A_solo_mic": "there is no annotation/05_Funk3-98-A_solo.jams",
        "05_Funk3-98-A_solo_mix": "there is no annotation/05_Funk3-98-A_solo.jams",
    }


def test_excerpts_without_usable_notes_are_faults(tmp_path):
    excerpts = {
        "00_BN1-129-Eb_comp": [],
        "00_BN1-129-Eb_solo": [(0.5, 0.5, 60.0, 1), (0.25, 0.5, 60.0, 0), (0.25, 0.5, 130.0, 0)],
    }
    empty, _, other, _ = plan(write_guitarset(tmp_path / "set", excerpts)).items["train"]
    with pytest.raises(ValueError, match=r"00_BN1-129-Eb_comp\.jams has no notes"):
        SOURCE.make(empty)
    (recording,) = SOURCE.make(other)
    assert recording.notes == Notes.from_rows([(0.25, 0.5, 60, 0, 24, False)])
    assert recording.extra["corrections"] == {"zero_length": 1, "out_of_range": 1}


def test_input_that_is_not_all_of_it_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"holds no annotation/\*\.jams; give the folder"):
        plan(tmp_path)
    folder = write_guitarset(tmp_path / "set")
    (folder / "audio_mono-pickup_mix").rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"no audio_mono-pickup_mix/\*_mix\.wav; .*audio = \('mic',\)"):
        plan(folder)
    assert len(plan(folder, audio="mic").items["train"]) == 2
    assert not plan(folder, tmp_path / "elsewhere").skipped


@pytest.mark.parametrize("config", [{"audio": ()}, {"audio": ("hex",)}, {"program": 128}])
def test_configurations_that_cannot_be_are_refused(config):
    with pytest.raises(ValueError, match=r"audio is|program is 128"):
        GuitarSetConfig(**config)


def test_counts_of_the_full_listing(tmp_path):
    listing = json.loads((GOLDEN / "listings" / "guitarset.json").read_text())
    excerpts = [f"{player}_{excerpt}" for player in listing["players"] for excerpt in listing["excerpts"]]
    assert len(excerpts) == 360
    for folder, ending in (("annotation", ".jams"), *((AUDIO[v], f"_{v}.wav") for v in AUDIO)):
        (tmp_path / folder).mkdir()
        for excerpt in excerpts:
            (tmp_path / folder / f"{excerpt}{ending}").touch()
    made = plan(tmp_path)
    assert not made.skipped
    counts = {f"guitarset/{split}": len(items) for split, items in made.items.items()}
    assert counts == SOURCE.published_counts == {"guitarset/train": 480, "guitarset/validation": 240}
    assert len({item.id for items in made.items.values() for item in items}) == 720


@needs_layout
def test_real_sample():
    made = plan(LAYOUT)
    assert ids(made) == {"validation": ["03_BN3-119-G_solo_mic", "03_BN3-119-G_solo_mix"]}
    assert [skip.item for skip in made.skipped] == ["00_BN1-129-Eb_comp_mic", "00_BN1-129-Eb_comp_mix"]
    for item in made.items["validation"]:
        (recording,) = SOURCE.make(item)
        # Two strings have three notes each.
        assert recording.notes.pitch.tolist() == [67, 120, 71, 120, 71, 120]
        assert len(recording.load_audio(16000)) == 32000


def test_round_trip(check_round_trip, zipped):
    expected = {
        split: {f"{excerpt}_{version}": expected_notes(excerpt) for excerpt in excerpts for version in AUDIO}
        for split, excerpts in SPLITS.items()
    }
    check_round_trip("guitarset", [str(zipped)], expected)
