"""Notes as sound, read back with soundfile; the synthesizer itself is tested elsewhere."""

import numpy as np
import pytest
import soundfile

from mt3.audio import synthesis
from mt3.audio.io import AudioError, write_audio
from mt3.inference.formats import NoteDocument, OutputOptions, sound, write_notes, write_transcription
from mt3.inference.transcription import Transcription
from mt3.symbolic.notes import Notes

RATE = 8000
OPTIONS = OutputOptions(sample_rate=RATE)
NOTES = Notes.from_rows([(0.5, 1.0, 69, 100, 0, False), (1.5, 2.5, 81, 100, 0, False)])


def loudness(samples, start, end):
    return float(np.sqrt(np.mean(samples[int(start * RATE) : int(end * RATE)] ** 2)))


def pitch_hertz(samples, start, end):
    part = samples[int(start * RATE) : int(end * RATE)]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 16))
    return np.argmax(spectrum) * RATE / (1 << 16)


def heard(notes, duration_seconds):
    return Transcription(notes, np.ones(len(notes), np.float32), 0, 0, 0, 0, duration_seconds)


@pytest.fixture
def beeps(monkeypatch):
    """In the synthesizer's place: a sine a note, which rings on half as loud for a second."""

    def render(self, notes, *, duration_seconds, gain=1.0):
        time = np.arange(round(duration_seconds * self.sample_rate)) / self.sample_rate
        total = np.zeros(len(time), np.float32)
        for row in range(len(notes)):
            on, off = notes.onset_seconds[row], notes.offset_seconds[row]
            shape = np.where((time >= on) & (time < off), 0.2, 0) + np.where(
                (time >= off) & (time < off + 1), 0.1, 0
            )
            total += (
                shape * np.sin(2 * np.pi * 440 * 2 ** ((notes.pitch[row] - 69) / 12) * (time - on))
            ).astype(np.float32)
        return total

    monkeypatch.setattr(synthesis.Synthesizer, "render", render)


def test_the_rendering_sounds_when_and_as_the_notes_do(tmp_path):
    path = write_transcription(heard(NOTES, 4.0), tmp_path / "a", "rendering", options=OPTIONS)
    assert path.name == "a.rendering.wav"
    samples, rate = soundfile.read(path)
    assert (rate, samples.shape) == (RATE, (4 * RATE,))
    assert loudness(samples, 0, 0.45) < 1e-3 < 0.02 < loudness(samples, 0.55, 0.95)
    assert pitch_hertz(samples, 0.6, 1.0) == pytest.approx(440, rel=0.01)
    assert pitch_hertz(samples, 1.6, 2.4) == pytest.approx(880, rel=0.01)
    assert np.abs(samples).max() == pytest.approx(0.89, abs=1e-3)


def test_stretches_join_without_a_seam(tmp_path, beeps, monkeypatch):
    rng = np.random.default_rng(0)
    onset = np.append(np.sort(rng.uniform(0, 9, 30)), [1.9, 1.95])
    length = np.append(rng.uniform(0.05, 1, 30), [5.0, 0.05])
    notes = Notes.from_rows(
        [
            (on, on + size, 50 + k, 80, 0, False)
            for k, (on, size) in enumerate(zip(onset, length, strict=True))
        ]
    )
    samples = []
    for seconds in (60.0, 2.0):
        monkeypatch.setattr(sound, "_STRETCH_SECONDS", seconds)
        path = write_transcription(heard(notes, 10.0), tmp_path / str(seconds), "rendering", options=OPTIONS)
        samples.append(soundfile.read(path)[0])
    np.testing.assert_allclose(*samples, atol=1e-3)


def test_a_note_ends_the_one_before_it_on_its_key():
    notes = Notes.from_rows([(0, 5, 60, 80, 0, False), (1, 2, 60, 80, 0, False), (1, 2, 60, 80, 40, False)])
    separated = sound._separated(notes, 0.01)
    assert separated.offset_seconds[separated.onset_seconds == 0].tolist() == [1.0]
    assert separated.offset_seconds[separated.onset_seconds == 1].tolist() == [2.0, 2.0]


def test_the_comparison_has_the_recording_left_and_the_notes_right(tmp_path, beeps):
    time = np.arange(3 * 16000) / 16000
    write_audio(tmp_path / "song.flac", 0.05 * np.sin(2 * np.pi * 200 * time), 16000)
    path = write_transcription(
        heard(NOTES, 3.0), tmp_path / "song", "comparison", options=OPTIONS, audio=tmp_path / "song.flac"
    )
    assert path.name == "song.comparison.wav"
    (left, right), rate = soundfile.read(path)[0].T, soundfile.info(path).samplerate
    assert (rate, len(left)) == (RATE, 3 * RATE)
    assert pitch_hertz(left, 0.2, 2.8) == pytest.approx(200, rel=0.01)
    assert loudness(right, 0, 0.45) == 0
    assert pitch_hertz(right, 1.6, 2.4) == pytest.approx(880, rel=0.01)
    assert loudness(left, 0, 3) == pytest.approx(loudness(right, 0, 3), rel=0.02)
    assert max(np.abs(left).max(), np.abs(right).max()) == pytest.approx(0.89, abs=1e-3)


def test_a_broken_recording_is_named_and_nothing_written(tmp_path):
    (tmp_path / "song.wav").write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"song\.wav"):
        write_transcription(heard(NOTES, 3.0), tmp_path / "out", "comparison", audio=tmp_path / "song.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]


def test_silence_is_written_as_such(tmp_path):
    write_notes(Notes.empty(), tmp_path / "none.rendering.wav")
    samples, _ = soundfile.read(tmp_path / "none.rendering.wav")
    assert len(samples)
    assert not samples.any()


def test_what_a_wav_file_is_too_small_for_is_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(sound, "_MAX_WAV_BYTES", 1000)
    document = NoteDocument(Notes.empty(), duration_seconds=1.0, options=OPTIONS)
    sound.write_rendering(document, tmp_path / "a.wav")
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
