"""Slakh2100 in miniature, in its published layout."""

import mido
import numpy as np
import pytest
import soundfile
import yaml

TICKS_PER_SECOND = 960
DEFAULTS = {
    "is_drum": False,
    "inst_class": "Anything",
    "plugin_name": "patch.nkm",
    "audio_rendered": True,
    "midi_saved": True,
    "integrated_loudness": -12.8,
}


def _stem_samples(number, seconds=1.2, rate=44100):
    time = np.arange(round(seconds * rate)) / rate
    return np.rint(0.03 * np.sin(2 * np.pi * (150 + 97 * number) * time) * 32768) / 32768


def _write_stem_midi(path, notes, channel, program):
    midi = mido.MidiFile(ticks_per_beat=TICKS_PER_SECOND // 2)
    track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
    events = [(on, "note_on", pitch) for on, _, pitch in notes]
    events += [(off, "note_off", pitch) for _, off, pitch in notes]
    before = 0
    for tick, kind, pitch in sorted(events):
        track.append(mido.Message(kind, channel=channel, note=pitch, velocity=90, time=tick - before))
        before = tick
    midi.tracks.append(track)
    midi.save(path)


def _write_track(folder, stems, *, suffix=".flac", rate=44100, seconds=1.2):
    if not isinstance(stems, dict):
        stems = {f"S{number:02d}": stem for number, stem in enumerate(stems)}
    for part in ("stems", "MIDI"):
        (folder / part).mkdir(parents=True)
    rows = {}
    for number, (name, stem) in enumerate(stems.items()):
        row = {**DEFAULTS, **({"program_num": stem} if isinstance(stem, int) else stem)}
        notes = row.pop("notes", ((100, 500, 60 + number),))
        samples = _stem_samples(number, seconds, rate)
        soundfile.write(folder / "stems" / f"{name}{suffix}", samples, rate, "PCM_16")
        channel = 9 if row["is_drum"] else 0
        _write_stem_midi(folder / "MIDI" / f"{name}.mid", notes, channel, row["program_num"] % 128)
        rows[name] = row
    mix = 0.5 * sum(_stem_samples(number, seconds, rate) for number in range(len(stems)))
    soundfile.write(folder / f"mix{suffix}", mix, rate, "PCM_16")
    (folder / "all_src.mid").write_bytes(b"MThd")
    metadata = {"UUID": "1a81", "audio_dir": "stems", "midi_dir": "MIDI", "normalized": True, "stems": rows}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return folder


@pytest.fixture(scope="session")
def stem_samples():
    """(number, seconds, rate) -> the samples of a stem: a tone of its own, on 16-bit values."""
    return _stem_samples


@pytest.fixture(scope="session")
def write_stem_midi():
    """(path, notes, channel, program): as the published ones, one track; times in ticks of 1/960 s."""
    return _write_stem_midi


@pytest.fixture(scope="session")
def write_track():
    """(folder, stems): a track; stems S00, S01, ... are fields of the metadata, or just the program.

    "notes" are (onset tick, offset tick, pitch); by default one, whose pitch tells the stem.
    """
    return _write_track


@pytest.fixture
def training(tmp_path):
    """Writes the stems of Track00007 of the training split; returns the folder of all."""

    def write(stems, **options):
        _write_track(tmp_path / "slakh" / "train" / "Track00007", stems, **options)
        return tmp_path / "slakh"

    return write


@pytest.fixture
def testing(tmp_path):
    """The same for Track01900 of the test split."""

    def write(stems, **options):
        _write_track(tmp_path / "slakh" / "test" / "Track01900", stems, **options)
        return tmp_path / "slakh"

    return write
