"""`mt3 transcribe`: good and bad audio files, what is told of them, and what is not done twice."""

import functools
import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import mido
import numpy as np
import pretty_midi
import pytest
import soundfile

from mt3.audio.io import AudioError, stream_audio, write_audio
from mt3.cli import transcription_reports, transcription_runs
from mt3.cli.transcription_records import RECORD_NAME
from mt3.inference.formats import FORMATS, READ_FORMATS, WRITTEN_FORMATS, read_notes
from mt3.inference.transcriber import Transcriber
from mt3.inference.transcription import Failed, Finished, Progress, Transcription
from mt3.models import loading
from mt3.models.loading import load_model
from mt3.symbolic.notes import Notes

MP4_HEADER = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\0\0\x08free\0\0\1\0mdat" + bytes(256)
HEARD = Notes.from_rows([(0.1, 0.2, 60, 80, 0, False), (0.1, 0.3, 40, 80, 32, False)]).sorted()
CONFIDENCE = np.array([0.5, 0.25], np.float32)

REAL = Path(__file__).parents[3] / "shared" / "data" / "real"
# Four instruments, a choir, and two channels of one band.
REAL_RECORDINGS = sorted(
    path for name in ("Bach10*", "Dag*", "madmom*") for path in REAL.glob(f"{name}/*.flac")
)


@functools.cache
def load_once(path, hints):
    """The one checkpoint, which takes longer to read than the recordings."""
    return load_model(path, hints)


@pytest.fixture
def listener(monkeypatch):
    """In the model's place: hears HEARD in whatever file can be read, one after the other.

    Returns the transcribers used and the paths that they were given.
    """
    used = SimpleNamespace(transcribers=[], heard=[])

    def hear(self, jobs):
        used.transcribers.append(self)
        for index, job in enumerate(job for job in jobs if job is not None):
            used.heard.append(job.audio)
            try:
                seconds = sum(map(len, stream_audio(job.audio, 16000))) / 16000
            except AudioError as error:
                yield Failed(index, error)
                continue
            yield Progress(index, seconds, HEARD, CONFIDENCE)
            yield Finished(index, Transcription(HEARD, CONFIDENCE, 1, 2, 30, 0, seconds))

    monkeypatch.setattr(Transcriber, "follow", hear)
    monkeypatch.setattr(loading, "load_model", load_once)
    return used


@pytest.fixture
def songs(tmp_path):
    """Good and bad files, by what they are."""
    rng = np.random.default_rng(0)
    files = {name: tmp_path / name for name in ("one.wav", "two.flac", "cut.flac", "empty.wav", "video.mp4")}
    for name in ("one.wav", "two.flac", "cut.flac"):
        write_audio(files[name], rng.normal(0, 0.1, 24000).astype(np.float32), 16000)
    files["cut.flac"].write_bytes(files["cut.flac"].read_bytes()[:20000])
    files["empty.wav"].touch()
    files["video.mp4"].write_bytes(MP4_HEADER)
    files["missing.mp3"] = tmp_path / "missing.mp3"
    return files


@pytest.fixture
def standard_input(monkeypatch):
    """Puts bytes on standard input."""
    return lambda content: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def results(directory):
    """Names of the results in a directory and below, without the record of them."""
    paths = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return {path for path in paths if path != RECORD_NAME}


def with_all_formats():
    return [argument for name in WRITTEN_FORMATS for argument in ("-f", name)]


def test_all_formats(mt3, untrained, listener, songs, tmp_path):
    output = tmp_path / "out" / "deep"
    files = (songs["one.wav"], songs["two.flac"])
    outcome = mt3("transcribe", *files, "-c", untrained, "-o", output, *with_all_formats())
    assert (outcome.code, outcome.err) == (0, "")
    expected = {f"{stem}{FORMATS[name].suffix}" for stem in ("one", "two") for name in WRITTEN_FORMATS}
    assert results(output) == expected
    assert len(outcome.out.splitlines()) == len(expected)
    for name in set(WRITTEN_FORMATS) & set(READ_FORMATS):
        notes = read_notes(output / f"one{FORMATS[name].suffix}").sorted()
        assert notes.pitch.tolist() == HEARD.pitch.tolist()
        np.testing.assert_allclose(notes.onset_seconds, HEARD.onset_seconds, atol=1e-2)
    assert f"{output / 'one.mid'}: 2 notes in 1.5 s" in outcome.out
    written = [note["confidence"] for note in json.loads((output / "one.json").read_text())["notes"]]
    assert written == CONFIDENCE.tolist()


def test_help_names_all_formats(mt3):
    outcome = mt3("transcribe", "--help")
    words = " ".join(outcome.out.replace("│", " ").split())
    assert outcome.code == 0
    assert [name for name in WRITTEN_FORMATS if name not in words] == []


def test_bad_files_are_a_line_each_and_the_good_ones_done(mt3, untrained, listener, songs, tmp_path):
    output = tmp_path / "out"
    outcome = mt3("transcribe", *songs.values(), "-c", untrained, "-o", output)
    assert outcome.code == 1
    assert results(output) == {"one.mid", "two.mid"}
    *lines, last = outcome.err.splitlines()
    assert last == "mt3: 4 of 6 files could not be transcribed"
    said = {
        "cut.flac": "is damaged or cut short",
        "empty.wav": "is an empty file; fetch or export it again",
        "video.mp4": "is no WAV, FLAC, MP3 or OGG file; convert it, for example: ffmpeg -i FILE video.wav",
        "missing.mp3": "does not exist; check the path",
    }
    assert len(lines) == len(said)
    for line, (name, remedy) in zip(lines, said.items(), strict=True):
        assert line.startswith(f"mt3: error: {songs[name]} ")
        assert remedy in line


def test_strict_ends_at_the_first_bad_file(mt3, untrained, listener, songs, tmp_path):
    files = (songs["one.wav"], songs["empty.wav"], songs["two.flac"])
    outcome = mt3("transcribe", *files, "-c", untrained, "-o", tmp_path / "out", "--strict")
    assert outcome.code == 1
    assert results(tmp_path / "out") == {"one.mid"}
    assert "empty.wav is an empty file" in outcome.err


def test_options_reach_the_model(mt3, untrained, listener, songs, tmp_path):
    decoding = ("--temperature", 0.5, "--batch-segments", 3, "--weights", "bfloat16")
    continuity = ("--overlap", 0.5, "--tie-consistency", "lasting", "--smooth-programs", 0.1, "--grammar")
    run = ("transcribe", songs["one.wav"], "-c", untrained / "checkpoints" / "1", "-o", tmp_path)
    assert mt3(*run, *decoding, *continuity, "--instruments", "piano,drums").code == 0
    assert mt3(*run, "--beam-size", 2, "--no-grammar").code == 0
    transcriber, searching = listener.transcribers
    chosen = transcriber.continuity
    assert (transcriber.decoding.temperature, transcriber.decoding.weights) == (0.5, "bfloat16")
    assert transcriber.batch_segments == 3
    assert (chosen.overlap, chosen.tie_consistency, chosen.smooth_programs) == (0.5, "lasting", 0.1)
    assert chosen.grammar
    assert chosen.instruments.drums
    assert 0 in chosen.instruments.programs
    assert 40 not in chosen.instruments.programs
    assert (searching.decoding.beam_size, searching.continuity.grammar) == (2, False)
    assert searching.continuity.instruments is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-f", "midi2"), "--format midi2: choose from midi, json, csv, note_sequence"),
        (("--overlap", 2), "overlap is 2.0"),
        (("--tie-consistency", "none"), "tie_consistency is 'none'"),
        (("--instruments", "piano,kazoo"), "kazoo"),
        (("--weights", "float8"), "float8"),
        (("--stream", "--json"), "--stream and --json both write JSON"),
        (("--stdin-audio",), "--stdin-audio takes the one recording on standard input"),
    ],
)
def test_options_that_cannot_be(mt3, songs, tmp_path, arguments, message):
    assert message in mt3("transcribe", songs["one.wav"], "-c", tmp_path / "none", *arguments).error()


def test_files_of_one_name_do_not_replace_each_other(mt3, untrained, listener, songs, tmp_path):
    twin = tmp_path / "one.flac"
    twin.write_bytes(songs["two.flac"].read_bytes())
    output = tmp_path / "out"
    assert mt3("transcribe", songs["one.wav"], twin, "-c", untrained, "-o", output).code == 0
    assert results(output) == {"one.wav.mid", "one.flac.mid"}
    (tmp_path / "other").mkdir()
    third = tmp_path / "other" / "one.wav"
    third.write_bytes(songs["one.wav"].read_bytes())
    error = mt3("transcribe", songs["one.wav"], third, "-c", untrained, "-o", output).error()
    assert "one.wav is the name of several files" in error


@pytest.mark.parametrize("name", ["none", "."])
def test_missing_checkpoint(mt3, songs, tmp_path, name):
    error = mt3("transcribe", songs["one.wav"], "-c", tmp_path / name).error()
    assert "give a run's directory" in error


def test_output_that_cannot_be_made(mt3, untrained, songs, tmp_path):
    (tmp_path / "file").touch()
    error = mt3("transcribe", songs["one.wav"], "-c", untrained, "-o", tmp_path / "file").error()
    assert str(tmp_path / "file") in error


@pytest.fixture
def album(tmp_path):
    """A folder of three recordings, two of them in a folder of their own, and something else."""
    folder = tmp_path / "album"
    (folder / "live").mkdir(parents=True)
    for name in ("a.wav", "live/b.wav", "live/c.wav"):
        write_audio(folder / name, np.full(1600, 0.1, np.float32), 16000)
    (folder / "cover.txt").write_text("no audio")
    return folder


def test_a_folder_keeps_its_tree_and_results_in_it_are_no_recordings(mt3, untrained, listener, album):
    arguments = ("transcribe", album, "-c", untrained, "-o", album, "-f", "midi", "-f", "rendering")
    assert mt3(*arguments).code == 0
    written = {
        f"{stem}{suffix}" for stem in ("a", "live/b", "live/c") for suffix in (".mid", ".rendering.wav")
    }
    assert results(album) == written | {"a.wav", "live/b.wav", "live/c.wav", "cover.txt"}
    again = mt3(*arguments)
    assert (again.code, again.err) == (0, "")
    assert again.out == "3 files were finished before (--overwrite does them again)\n"
    assert len(listener.heard) == 3


def test_a_result_never_replaces_a_recording(mt3, untrained, listener, album):
    twin = album / "a.rendering.wav"
    twin.write_bytes((album / "a.wav").read_bytes())
    files = (album / "a.wav", twin)
    error = mt3("transcribe", *files, "-c", untrained, "-o", album, "-f", "rendering").error()
    assert f"{twin} is to be transcribed and would be replaced" in error


def test_names_on_standard_input(mt3, untrained, listener, album, tmp_path, standard_input):
    standard_input(f"{album / 'a.wav'}\n\n{album / 'gone.wav'}\n{album / 'live'}\n".encode())
    outcome = mt3("transcribe", "-", "-c", untrained, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert results(tmp_path / "out") == {"a.mid", "b.mid", "c.mid"}
    assert outcome.err.splitlines()[1:] == ["mt3: 1 of 4 files could not be transcribed"]


def test_audio_on_standard_input(mt3, untrained, listener, songs, tmp_path, standard_input):
    arguments = ("transcribe", "--stdin-audio", "-c", untrained, "-o", tmp_path / "out", "-f", "comparison")
    standard_input(songs["one.wav"].read_bytes())
    assert mt3(*arguments).code == 0
    assert results(tmp_path / "out") == {"stdin.comparison.wav"}
    standard_input(b"no audio at all")
    outcome = mt3(*arguments)
    assert outcome.code == 1
    assert outcome.err.startswith("mt3: error: standard input is no WAV, FLAC, MP3 or OGG file")
    assert not listener.heard[0].exists()


@pytest.mark.parametrize("change", ["audio", "model", "option", "format", "result", "overwrite"])
def test_what_has_changed_is_done_again(mt3, untrained, listener, album, tmp_path, change):
    output, arguments = tmp_path / "out", []
    run = ("transcribe", album, "-c", untrained, "-o", output)
    assert mt3(*run).code == 0
    again = 3
    if change == "audio":
        os.utime(album / "a.wav", (1, 1))
        again = 1
    elif change == "model":
        # As if it had been trained further.
        record = (output / RECORD_NAME).read_text()
        made_by = json.loads(record.splitlines()[0])["made_by"]
        (output / RECORD_NAME).write_text(record.replace(made_by, "0" * 64))
    elif change == "result":
        (output / "live" / "c.mid").unlink()
        again = 1
    else:
        arguments = {"option": ["--beam-size", 2], "format": ["-f", "csv"], "overwrite": ["--overwrite"]}[
            change
        ]
    del listener.heard[:]
    assert mt3(*run, *arguments).code == 0
    assert len(listener.heard) == again
    del listener.heard[:]
    assert mt3(*run, *(argument for argument in arguments if argument != "--overwrite")).code == 0
    assert listener.heard == []


def test_another_checkpoint_is_another_subject(mt3, untrained, listener, album, monkeypatch, tmp_path):
    hashes = iter("ab")
    monkeypatch.setattr(transcription_runs, "parameter_hash", lambda params: next(hashes))
    for _ in range(2):
        assert mt3("transcribe", album, "-c", untrained, "-o", tmp_path / "out").code == 0
    assert len(listener.heard) == 6


def test_interrupted_it_keeps_what_is_finished(mt3, untrained, listener, album, tmp_path, monkeypatch):
    hear = Transcriber.follow

    def interrupted(self, jobs):
        for event in hear(self, jobs):
            if isinstance(event, Finished) and event.index == 1:
                raise KeyboardInterrupt
            yield event

    run = ("transcribe", album, "-c", untrained, "-o", tmp_path / "out")
    monkeypatch.setattr(Transcriber, "follow", interrupted)
    outcome = mt3(*run)
    assert outcome.code == 130
    assert outcome.err == "mt3: interrupted; what is finished is complete: run it again to go on\n"
    assert results(tmp_path / "out") == {"a.mid"}
    monkeypatch.setattr(Transcriber, "follow", hear)
    assert mt3(*run).code == 0
    assert results(tmp_path / "out") == {"a.mid", "live/b.mid", "live/c.mid"}
    assert [path.name for path in listener.heard] == ["a.wav", "b.wav", "b.wav", "c.wav"]


def test_a_result_that_cannot_be_written_is_of_one_file(mt3, untrained, listener, album, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "live").touch()
    outcome = mt3("transcribe", album, "-c", untrained, "-o", output)
    assert outcome.code == 1
    assert results(output) == {"a.mid", "live"}
    assert outcome.err.count("mt3: error: ") == 2
    assert outcome.err.endswith("mt3: 2 of 3 files could not be transcribed\n")


def test_a_full_disk_ends_it(mt3, untrained, listener, album, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transcription_runs, "write_transcription", full)
    error = mt3("transcribe", album, "-c", untrained, "-o", tmp_path / "out").error()
    assert "No space left on device" in error
    assert len(listener.heard) == 1


def test_stream(mt3, untrained, listener, songs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = results(tmp_path)
    files = (songs["one.wav"], songs["empty.wav"])
    outcome = mt3("transcribe", *files, "-c", untrained, "--stream")
    assert results(tmp_path) == before
    notes, finished, failed = map(json.loads, outcome.out.splitlines())
    assert (notes["event"], notes["file"], notes["decoded_seconds"]) == ("notes", str(files[0]), 1.5)
    assert notes["notes"][1] == {
        "onset_seconds": 0.1,
        "offset_seconds": HEARD.offset_seconds[1],
        "pitch": HEARD.pitch[1],
        "velocity": 80,
        "program": HEARD.program[1],
        "is_drum": False,
        "confidence": 0.25,
    }
    assert finished == {
        "event": "finished",
        "file": str(files[0]),
        "num_notes": 2,
        "duration_seconds": 1.5,
        "invalid_events": 1,
        "dropped_events": 2,
        "truncated_segments": 0,
        "outputs": {},
    }
    assert (failed["event"], failed["file"]) == ("failed", str(files[1]))
    assert failed["error"].startswith(f"{files[1]} is an empty file")
    assert outcome.code == 1
    # With formats, files are written too.
    outcome = mt3("transcribe", files[0], "-c", untrained, "--stream", "-f", "csv")
    assert json.loads(outcome.out.splitlines()[-1])["outputs"] == {"csv": "one.csv"}
    assert read_notes(tmp_path / "one.csv") == HEARD
    outcome = mt3("transcribe", files[0], "-c", untrained, "--stream", "-f", "csv")
    skipped = {"event": "skipped", "file": str(files[0]), "outputs": {"csv": "one.csv"}}
    assert list(map(json.loads, outcome.out.splitlines())) == [skipped]


def test_json(mt3, untrained, listener, songs, tmp_path):
    files = (songs["one.wav"], songs["empty.wav"])
    run = ("transcribe", *files, "-c", untrained, "-o", tmp_path / "out", "--json")
    first, second = (json.loads(mt3(*run).out) for _ in range(2))
    assert (first["num_finished"], first["num_failed"], first["num_skipped"]) == (1, 1, 0)
    assert (second["num_finished"], second["num_failed"], second["num_skipped"]) == (0, 1, 1)
    finished, failed = first["files"]
    assert finished["outputs"] == {"midi": str(tmp_path / "out" / "one.mid")}
    assert (finished["num_notes"], failed["event"]) == (2, "failed")


def test_a_bar_counts_the_seconds_of_audio(mt3, untrained, listener, songs, tmp_path, monkeypatch, capsys):
    bars = []

    class Bar(transcription_reports.tqdm.tqdm):
        def close(self):
            if not self.disable:  # as it is once it is closed
                bars.append((self.n, self.total))
            super().close()

    monkeypatch.setattr(transcription_reports.tqdm, "tqdm", Bar)
    monkeypatch.setattr(transcription_reports, "choose_report", lambda **_: transcription_reports.Bar())
    run = ("transcribe", *songs.values(), "-c", untrained, "-o", tmp_path / "out")
    outcome = mt3(*run)
    assert f"{tmp_path / 'out' / 'one.mid'}: 2 notes in 1.5 s" in outcome.out.splitlines()
    assert sum(line.startswith("mt3: error: ") for line in outcome.err.splitlines()) == 4
    assert mt3(*run).code == 1
    assert [pytest.approx(bar) for bar in bars] == [(3.0, 3.0), (0.0, 0.0)]


def test_lines_have_no_control_characters(mt3, untrained, listener, tmp_path):
    name = tmp_path / "a\n\x1b[31mred\udcff.wav"
    outcome = mt3("transcribe", name, "-c", untrained, "-o", tmp_path / "out")
    first, last = outcome.err.splitlines()
    assert re.fullmatch(
        r"mt3: error: \S+/a( |\\n)\\x1b\[31mred\\udcff.wav does not exist; check the path.", first
    )
    assert last == "mt3: 1 of 1 files could not be transcribed"


def test_a_terminal_shows_a_bar_and_a_pipe_lines(monkeypatch):
    for is_terminal, kind in ((True, transcription_reports.Bar), (False, transcription_reports.Lines)):
        monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda answer=is_terminal: answer))
        assert type(transcription_reports.choose_report(stream=False, as_json=False)) is kind


@pytest.mark.slow
def test_malformed_files_are_a_line_each_and_the_good_one_is_transcribed(
    mt3, untrained, malformed_audio, songs, tmp_path
):
    """With a network: more than 200 inputs through one queue."""
    good = songs["one.wav"]
    inputs = [*malformed_audio[:100], good, *malformed_audio[100:]]
    outcome = mt3("transcribe", *inputs, "-c", untrained, "-o", tmp_path / "out", "-f", "csv")
    assert outcome.code == 1
    *lines, last = outcome.err.splitlines()
    assert last == f"mt3: {len(lines)} of {len(inputs)} files could not be transcribed"
    assert all(line.startswith("mt3: error: ") for line in lines)
    numbers = [re.search(rf"{malformed_audio[0].parent}/(\d+)-", line)[1] for line in lines]
    failed = {path for path in malformed_audio if path.name.split("-")[0] in numbers}
    assert len(failed) == len(lines)
    assert all("-refused-" not in path.name for path in set(malformed_audio) - failed)
    assert all("-read-" not in path.name for path in failed)
    written = results(tmp_path / "out")
    assert len(written) == len(inputs) - len(lines)
    assert "one.csv" in written
    alone = mt3("transcribe", good, "-c", untrained, "-o", tmp_path / "alone", "-f", "csv")
    assert alone.code == 0
    assert read_notes(tmp_path / "alone" / "one.csv") == read_notes(tmp_path / "out" / "one.csv")


@pytest.mark.slow
@pytest.mark.skipif(not REAL_RECORDINGS, reason="needs ../shared/data/real")
def test_real_recordings_in_every_format(mt3, untrained, tmp_path):
    """What is written is read by other libraries; an untrained network hears a lot."""
    output = tmp_path / "out"
    outcome = mt3("transcribe", *REAL_RECORDINGS, "-c", untrained, "-o", output, *with_all_formats())
    assert (outcome.code, outcome.err) == (0, "")
    for recording in REAL_RECORDINGS:
        target = output / recording.stem
        notes = read_notes(output / f"{recording.stem}.json")
        midi = pretty_midi.PrettyMIDI(str(target.with_name(target.name + ".mid")))
        assert sum(len(instrument.notes) for instrument in midi.instruments) == len(notes)
        played = mido.MidiFile(target.with_name(target.name + ".mid"))
        starts = sum(m.type == "note_on" and m.velocity > 0 for track in played.tracks for m in track)
        assert starts == len(notes)
        both, _ = soundfile.read(target.with_name(target.name + ".comparison.wav"))
        assert both.shape[1] == 2
