"""`mt3 prepare` and `mt3 data export`: from published files to records and back."""

import dataclasses
import functools
import hashlib
import http.server
import threading
import zipfile

import numpy as np
import pytest

from mt3.audio.io import load_audio, write_audio
from mt3.data.manifests import read_manifest
from mt3.data.records import read_recordings
from mt3.data.sources import SOURCES, folder
from mt3.data.sources.base import Download
from mt3.inference.formats import read_notes
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes


@pytest.fixture
def midi(tmp_path, make_tune):
    """Three good MIDI files, one that is none, and one without notes."""
    folder = tmp_path / "midi"
    folder.mkdir()
    for variation in range(3):
        write_midi(make_tune(variation), folder / f"tune{variation}.mid")
    (folder / "broken.mid").write_bytes(b"MThd, but no more of a MIDI file")
    write_midi(Notes.empty(), folder / "silent.mid")
    return folder


def prepare(mt3, midi, output, *arguments):
    return mt3(
        *("prepare", "synth", "-i", midi, "-o", output, "--workers", 0, "--shards", 1),
        *("--gin.SynthConfig.validation_fraction=0.0", "--gin.SynthConfig.num_validation=0"),
        *("--gin.SynthConfig.test_fraction=0.34", "--gin.SynthConfig.transpose_semitones=(0,0)"),
        *arguments,
    )


def test_folder_of_midi_files(mt3, midi, tmp_path):
    """Each file is a recording of one split; what cannot be used is named, in the manifest too."""
    output = tmp_path / "data"
    outcome = prepare(mt3, midi, output)
    assert outcome.code == 0
    lines = outcome.err.splitlines()
    assert len(lines) == 2
    assert "mt3: skipped broken.mid: " in lines[0]
    assert "mt3: skipped silent.mid: it has no notes" in lines[1]
    splits = {line.split(":")[0]: line for line in outcome.out.splitlines()}
    assert splits.keys() == {"train", "test"}
    ids = [recording.id for split in splits for recording in read_recordings(output, split)]
    assert sorted(ids) == ["tune0.mid", "tune1.mid", "tune2.mid"]
    skipped = read_manifest(output, "train").skipped
    assert [skip.item for skip in skipped] == ["broken.mid", "silent.mid"]
    assert splits["train"].endswith("2 skipped")
    for recording in read_recordings(output, "train"):
        assert len(recording.notes) == 12
        samples = recording.load_audio(16000)
        assert np.abs(samples).max() > 0.1
        assert len(samples) / 16000 == pytest.approx(recording.notes.end_seconds + 1.0, abs=0.1)


def test_strict_fails_at_a_broken_file(mt3, midi, tmp_path):
    error = prepare(mt3, midi, tmp_path / "data", "--strict").error()
    assert "broken.mid" in error
    assert not list(tmp_path.glob("data/*manifest*"))


def test_finished_splits_are_kept_unless_overwritten(mt3, midi, tmp_path):
    output = tmp_path / "data"
    prepare(mt3, midi, output)
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert prepare(mt3, midi, output).code == 0
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before
    error = prepare(mt3, midi, output, "--gin.SynthConfig.seed=1").error()
    assert "prepared differently (seed was 0, is 1)" in error or "seed was 0, is 1" in error
    assert "overwrite" in error
    assert prepare(mt3, midi, output, "--gin.SynthConfig.seed=1", "--overwrite").code == 0
    assert read_manifest(output, "train").seed == 1


def test_music_that_cannot_be_used(mt3, midi, tmp_path):
    for file in midi.glob("tune*"):
        file.unlink()
    assert "holds no music that can be read" in prepare(mt3, midi, tmp_path / "data").err.splitlines()[-1]
    assert "is unknown; name a folder" in prepare(mt3, tmp_path / "none", tmp_path / "data").error()


def test_unknown_options_are_refused(mt3, midi, tmp_path):
    assert "--num-train is not an option" in prepare(mt3, midi, tmp_path, "--num-train", 3).error()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("synthesizer='organ'", "organ"),
        ("soundfonts=('none.sf2',)", "none.sf2"),
        ("instrumentation='brass'", "choose one of written, family, random"),
        ("min_notes=100", "None of"),
    ],
)
def test_wrong_settings_are_one_line(mt3, midi, tmp_path, setting, message):
    for name in ("broken.mid", "silent.mid"):
        (midi / name).unlink()
    assert message in prepare(mt3, midi, tmp_path / "data", f"--gin.SynthConfig.{setting}").error()


def test_export_writes_audio_and_notes(mt3, midi, tmp_path):
    output = tmp_path / "data"
    prepare(mt3, midi, output)
    recordings = read_recordings(output, "train")
    exported = tmp_path / "files"
    outcome = mt3("data", "export", output, "-o", exported, "--split", "train", "--limit", 1)
    assert (outcome.code, outcome.err) == (0, "")
    (audio,) = exported.glob("*.wav")
    np.testing.assert_allclose(load_audio(audio), recordings[0].load_audio(16000), atol=1e-4)
    notes = read_notes(exported / f"{audio.stem}.mid")
    np.testing.assert_allclose(notes.sorted().onset_seconds, recordings[0].notes.onset_seconds, atol=2e-3)
    assert len(outcome.out.splitlines()) == 1


def test_export_of_what_is_not_there(mt3, midi, tmp_path):
    assert (
        str(tmp_path / "none") in mt3("data", "export", tmp_path / "none", "-o", tmp_path / "files").error()
    )


@pytest.fixture
def own_recordings(tmp_path, make_tune):
    """A folder of three recordings of noise with their notes, and one without notes."""
    directory = tmp_path / "own"
    directory.mkdir()
    for number in range(4):
        samples = np.random.default_rng(number).normal(0, 0.1, 44100 * 4).astype(np.float32)
        write_audio(directory / f"take{number}.wav", samples, 44100)
        if number < 3:
            write_midi(make_tune(number), directory / f"take{number}.mid")
    return directory


def test_every_dataset_has_its_command(mt3):
    listed = mt3("prepare", "--help").out
    assert all(f" {name} " in listed for name in SOURCES)
    shown = mt3("prepare", "slakh", "--help").out
    assert "SlakhConfig" in shown
    assert "--dry-run" in shown


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "synth"])
def test_without_input_it_says_where_the_dataset_is(mt3, tmp_path, name):
    error = mt3("prepare", name, "-o", tmp_path).error()
    assert "--input DIR" in error
    assert name == "folder" or "http" in error


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "synth"])
def test_what_is_not_the_dataset_is_one_line(mt3, tmp_path, name):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("nothing here")
    error = mt3("prepare", name, "-i", tmp_path / "other", "-o", tmp_path / "out").error()
    assert str(tmp_path / "other") in error
    assert not list(tmp_path.glob("out/*"))


def test_own_recordings(mt3, own_recordings, tmp_path):
    """Splits, limits and settings on the command line; what has no partner is named."""
    settings = ("--gin.FolderConfig.dataset='takes'", "--gin.FolderConfig.test_fraction=0.0")
    outcome = mt3(
        "prepare", "folder", "-i", own_recordings, "-o", tmp_path / "out", "--workers", 0, *settings
    )
    assert outcome.code == 0
    assert "take3" in outcome.err
    assert read_manifest(tmp_path / "out", "train").name == "takes"
    strict = mt3("prepare", "folder", "-i", own_recordings, "-o", tmp_path / "strict", "--strict", *settings)
    assert "take3" in strict.error()
    limited = ("--limit", 1, "--splits", "train", "--workers", 0, *settings)
    outcome = mt3("prepare", "folder", "-i", own_recordings, "-o", tmp_path / "one", *limited)
    assert outcome.out.startswith("train: 1 recordings")


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(mt3, own_recordings, tmp_path):
    outcome = mt3("prepare", "folder", "-i", own_recordings, "-o", tmp_path / "out", "--dry-run")
    assert outcome.code == 0
    assert " GB" in outcome.out
    assert " minutes on " in outcome.out
    assert outcome.out.startswith("train: ")
    assert not (tmp_path / "out").exists()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_download_then_prepare(mt3, own_recordings, tmp_path, monkeypatch):
    """From a file server to records; a file that is there and right is not fetched again."""
    served = tmp_path / "served"
    served.mkdir()
    with zipfile.ZipFile(served / "takes.zip", "w") as archive:
        for path in sorted(own_recordings.glob("take[012].*")):
            archive.write(path, path.name)
    md5 = hashlib.md5((served / "takes.zip").read_bytes()).hexdigest()
    downloads = [Download("https://example.org/files/takes.zip?download=1", "takes.zip", md5)]
    monkeypatch.setattr(folder, "SOURCE", dataclasses.replace(folder.SOURCE, downloads=downloads))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(served))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ("--download", "--mirror", f"http://127.0.0.1:{server.server_port}", "--workers", 0)
    try:
        outcome = mt3("prepare", "folder", "-i", tmp_path / "got", "-o", tmp_path / "out", *options)
    finally:
        server.shutdown()
        server.server_close()
    assert outcome.code == 0, outcome.err
    assert hashlib.md5((tmp_path / "got" / "takes.zip").read_bytes()).hexdigest() == md5
    ids = [r.id for split in ("train", "validation", "test") for r in _recordings(tmp_path / "out", split)]
    assert sorted(id.rpartition("/")[2] for id in ids) == ["take0", "take1", "take2"]
    again = mt3("prepare", "folder", "-i", tmp_path / "got", "-o", tmp_path / "again", *options)
    assert again.code == 0, again.err  # the server is gone


def _recordings(directory, split):
    return read_recordings(directory, split) if list(directory.glob(f"*-{split}.manifest.json")) else []


def test_what_cannot_be_downloaded_says_how_to_get_it(mt3, tmp_path):
    assert "labsites.rochester.edu" in mt3("prepare", "urmp", "--download", "-o", tmp_path).error()
