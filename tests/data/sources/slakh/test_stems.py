"""Which stems of a Slakh2100 track are used, and what is said of tracks that are at fault."""

import shutil

import pytest

from mt3.data.sources.base import LeftOut, PlanOptions
from mt3.data.sources.slakh import SOURCE, SlakhConfig

DENIED = {"audio_rendered": False, "midi_saved": False}


def make_one(root, split="test", **config):
    """The first recording of the one track."""
    (item,) = SOURCE.plan(SlakhConfig(**config), [str(root)], PlanOptions()).items[split]
    return SOURCE.make(item)[0]


def test_stems_without_audio_or_labels_and_sound_effects_are_skipped(testing):
    # All have files, and programs that have a class but for one: only the rules leave them out.
    stems = [
        0,
        {"program_num": 24, "audio_rendered": False},
        {"program_num": 40, "midi_saved": False},
        {"program_num": 48, "inst_class": "Sound Effects"},
        73,
        100,
    ]
    recording = make_one(testing(stems))
    assert recording.extra["skipped_stems"] == {
        "S01": "audio_rendered is false",
        "S02": "midi_saved is false",
        "S03": "Sound Effects",
        "S05": "program 100 has no class",
    }
    assert recording.extra["stems"] == ["S00", "S04"]
    assert recording.extra["plugins"] == {"S00": "patch.nkm", "S04": "patch.nkm"}
    assert recording.extra["corrections"] == {}
    assert (recording.extra["track"], recording.extra["uuid"]) == ("Track01900", "1a81")
    assert recording.notes.program.tolist() == [0, 73]
    assert recording.notes.pitch.tolist() == [60, 64]


def test_flags_can_be_disregarded(testing):
    root = testing([{"program_num": program, **DENIED} for program in (0, 24, 40, 48)] + [56])
    next(root.rglob("S02.flac")).unlink()
    next(root.rglob("S03.mid")).unlink()
    recording = make_one(root, skip_unrendered=False)
    assert recording.extra["stems"] == ["S00", "S01", "S04"]
    assert recording.extra["skipped_stems"] == {"S02": "no audio file", "S03": "no MIDI file"}
    assert recording.extra["corrections"] == {}


def test_flags_that_deny_every_stem_are_not_believed(testing):
    stems = [{"program_num": program, **DENIED} for program in (0, 24, 40)]
    root = testing(stems)
    next(root.rglob("S01.flac")).unlink()
    recording = make_one(root)
    assert recording.extra["stems"] == ["S00", "S02"]
    assert recording.extra["corrections"] == {"stem_flags_ignored": 2}
    # One stem that is not denied, and the flags are believed.
    shutil.rmtree(root)
    recording = make_one(testing([*stems, 56]))
    assert recording.extra["stems"] == ["S03"]
    assert recording.extra["corrections"] == {}


@pytest.mark.parametrize("flag", ["audio_rendered", "midi_saved"])
def test_flags_are_believed_where_there_are_no_files(testing, flag):
    root = testing([{"program_num": 0, flag: False}, {"program_num": 24, flag: False}])
    for path in root.rglob("S0?.flac"):
        path.unlink()
    with pytest.raises(LeftOut, match="no stem has both audio and labels"):
        make_one(root)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_track_without_labelled_stems_is_left_out(request, split):
    write = request.getfixturevalue(f"{split}ing")
    root = write([{"program_num": 0, "inst_class": "Sound effects"}, 120])
    with pytest.raises(LeftOut, match="no stem has both audio and labels"):
        make_one(root, split)


@pytest.mark.parametrize("missing", ["stems/S01.flac", "MIDI/S01.mid", "metadata.yaml"])
def test_a_missing_file_is_named(testing, missing):
    root = testing([0, 24, 40, 48])
    (root / "test" / "Track01900" / missing).unlink()
    with pytest.raises(ValueError, match=rf"test/Track01900/{missing} is missing"):
        make_one(root)


def test_a_missing_mix_is_named(testing):
    root = testing([0])
    (root / "test" / "Track01900" / "mix.flac").unlink()
    with pytest.raises(ValueError, match=r"test/Track01900/mix\.flac is missing"):
        make_one(root)
    assert make_one(root, full_mix="stems").extra["stems"] == ["S00"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"stems: {S00: [", "is broken YAML"),
        (b"stems: \xff", "is broken YAML"),
        (b"UUID: abc", "does not describe stems"),
        (b"stems: {S00: 1}", "does not describe stems"),
        (b"", "does not describe stems"),
        (b"stems: {S00: {is_drum: false}}", "stem S00 has program_num None"),
        (b"stems: {S00: {program_num: 3}}", "stem S00 has program_num 3 and is_drum None"),
    ],
)
def test_broken_metadata_is_told(testing, content, message):
    root = testing([0])
    (root / "test" / "Track01900" / "metadata.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=rf"metadata\.yaml.*{message}") as raised:
        make_one(root)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["MIDI/S01.mid", "stems/S01.flac"])
def test_a_broken_file_is_named(training, name):
    root = training([0, 24, 40, 48])
    (root / "train" / "Track00007" / name).write_bytes(b"nothing of use")
    with pytest.raises(ValueError, match=name):
        make_one(root, "train")
