"""Audio files: what is written is read back, streams equal wholes, bad files are explained."""

import contextlib
import io
import os
import stat
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from mt3.audio.io import (
    AudioError,
    audio_info,
    decode_pcm16,
    encode_flac,
    encode_pcm16,
    load_audio,
    resample,
    resample_blocks,
    stream_audio,
    write_audio,
)

REAL_RECORDINGS = sorted((Path(__file__).parents[3] / "shared" / "data" / "real").glob("*/*.flac"))
SAMPLE_RATE = 16000
SAMPLES = numpy_strategies.arrays(
    np.float32, st.integers(1, 400), elements=st.floats(-1, 1, width=32, allow_subnormal=False)
)


def music(seconds=2.0, sample_rate=44100, seed=0):
    """Two sines and some noise."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    noise = np.random.default_rng(seed).normal(0, 0.02, len(time))
    return (0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 1234.5 * time) + noise).astype(
        np.float32
    )


def encoded(samples, sample_rate=44100, container="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=container, subtype=subtype)
    return file.getvalue()


def spectrum_peak_hz(samples, sample_rate):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return np.argmax(spectrum) * sample_rate / len(samples)


# There and back.


@settings(deadline=None, max_examples=40)
@given(
    samples=SAMPLES,
    case=st.sampled_from([(".wav", 16), (".wav", 24), (".wav", 32), (".flac", 16), (".flac", 24)]),
)
def test_written_audio_is_read_back_within_its_bits(tmp_path_factory, samples, case):
    suffix, bits = case
    path = tmp_path_factory.getbasetemp() / f"there-and-back{suffix}"
    write_audio(path, samples, SAMPLE_RATE, bits=bits)
    back = load_audio(path, SAMPLE_RATE)
    assert back.dtype == np.float32
    # Half a step; full scale itself is one step beyond the largest integer.
    limit = 0 if bits == 32 else 2.0 ** (1 - bits)
    assert np.abs(back - np.clip(samples, -1, 1 - limit)).max() <= limit / 2
    write_audio(path, back, SAMPLE_RATE, bits=bits)
    assert np.array_equal(load_audio(path, SAMPLE_RATE), back)


@settings(deadline=None, max_examples=40)
@given(samples=SAMPLES)
def test_bytes_are_read_back_within_sixteen_bits(samples):
    back = decode_pcm16(encode_pcm16(samples))
    assert np.abs(back - np.clip(samples, -1, 32767 / 32768)).max() <= 0.5 / 32768
    assert np.array_equal(decode_pcm16(encode_pcm16(back)), back)
    assert np.array_equal(load_audio(encode_flac(samples, SAMPLE_RATE), SAMPLE_RATE), back)


def test_stereo_is_written_and_mixed_down(tmp_path):
    stereo = np.stack([music(), 0.5 * music(seed=1)], axis=1)
    write_audio(tmp_path / "stereo.flac", stereo, 44100, bits=24)
    assert audio_info(tmp_path / "stereo.flac").channels == 2
    back = load_audio(tmp_path / "stereo.flac", 44100)
    np.testing.assert_allclose(back, stereo.mean(axis=1), atol=2**-23)


def test_loud_samples_are_clipped_except_in_float_files(tmp_path):
    loud = np.array([1.5, -2.0, 0.25], np.float32)
    write_audio(tmp_path / "a.wav", loud, SAMPLE_RATE)
    assert load_audio(tmp_path / "a.wav").tolist() == [32767 / 32768, -1.0, 0.25]
    write_audio(tmp_path / "b.wav", loud, SAMPLE_RATE, bits=32)
    assert load_audio(tmp_path / "b.wav").tolist() == loud.tolist()


@pytest.mark.parametrize("suffix", [".ogg", ".mp3", ".WAV", ".flac"])
def test_every_format_keeps_pitch_and_length(tmp_path, suffix):
    path = tmp_path / f"music{suffix}"
    write_audio(path, music(), 44100)
    info = audio_info(path)
    assert info.container == suffix[1:].upper()
    assert (info.sample_rate, info.channels) == (44100, 1)
    assert info.duration_seconds == pytest.approx(2.0, abs=0.06)
    samples = load_audio(path)
    assert len(samples) == pytest.approx(32000, abs=900)  # MP3 pads
    assert spectrum_peak_hz(samples, SAMPLE_RATE) == pytest.approx(440, abs=1)
    assert np.std(samples) == pytest.approx(np.std(music()), rel=0.05)


def test_long_ogg_files_can_be_written(tmp_path):
    write_audio(tmp_path / "long.ogg", np.tile(music(), 150), 44100)
    assert audio_info(tmp_path / "long.ogg").duration_seconds == pytest.approx(300)


def mp3_without_length(mode, tag=b""):
    """An MP3 file and the same without the Xing header that states its length."""
    time = np.arange(44100 * 8) / 44100
    samples = 0.3 * np.sin(2 * np.pi * (200 + 100 * time) * time) + (time > 4) * music(8.0)  # grows complex
    file = io.BytesIO()
    options = {"format": "MP3", "bitrate_mode": mode, "compression_level": 0.5}
    with soundfile.SoundFile(file, "w", 44100, 1, **options) as writer:
        writer.write(samples)
    content = file.getvalue()
    header = min(at for at in (content.find(b"Xing"), content.find(b"Info")) if at >= 0)
    second_frame = content.index(content[:2], header)
    return content, tag + content[second_frame:]


@pytest.mark.parametrize("tag", [b"", b"ID3\x03\0\0\0\0\x07\x76" + bytes(1014)], ids=["bare", "tagged"])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
def test_mp3_files_that_do_not_state_their_length_are_read_in_full(tmp_path, mode, tag):
    content, bare = mp3_without_length(mode, tag)
    path = tmp_path / "bare.mp3"
    path.write_bytes(bare)
    expected = load_audio(content)
    samples = load_audio(path)
    delay = (len(samples) - len(expected)) / SAMPLE_RATE  # the header also tells the encoder's delay
    assert 0 <= delay < 0.1
    assert audio_info(path).duration_seconds == pytest.approx(len(samples) / SAMPLE_RATE, abs=1e-3)
    assert np.std(samples) == pytest.approx(np.std(expected), rel=0.02)
    stream = stream_audio(path, block_seconds=1.0)
    assert np.array_equal(next(stream), samples[:SAMPLE_RATE])
    stream.close()  # an unfinished stream leaves nothing behind


# Streams.


@pytest.mark.parametrize("sample_rate", [44100, 48000, 22050, 16000, 8000, 11025])
def test_a_stream_equals_the_whole(sample_rate):
    samples = music(3.3, sample_rate)
    content = encoded(samples, sample_rate, subtype="FLOAT")
    whole = samples if sample_rate == SAMPLE_RATE else soxr.resample(samples, sample_rate, SAMPLE_RATE, "HQ")
    for block_seconds in (10.0, 1.0, 0.123):
        blocks = list(stream_audio(content, SAMPLE_RATE, block_seconds))
        assert {len(block) for block in blocks[:-1]} <= {round(block_seconds * SAMPLE_RATE)}
        assert 0 < len(blocks[-1]) <= round(block_seconds * SAMPLE_RATE)
        joined = np.concatenate(blocks)
        assert joined.dtype == np.float32
        assert len(joined) == pytest.approx(len(samples) * SAMPLE_RATE / sample_rate, abs=1)
        np.testing.assert_allclose(joined, whole, atol=1e-6)
    assert np.array_equal(load_audio(content), joined)


def test_streams_hold_about_a_block(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 44100, 2) as file:
        for _ in range(100):
            file.write(np.stack([music(), music()], axis=1))
    total = 0
    tracemalloc.start()
    try:
        for block in stream_audio(path, SAMPLE_RATE, block_seconds=2.0):
            total += len(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 200 * SAMPLE_RATE
    assert peak < 5_000_000  # the decoded file is 70 MB, a block 0.7 MB


def test_blocks_of_nothing_are_refused():
    with pytest.raises(ValueError, match="block_seconds is 0"):
        stream_audio(encoded(music()), block_seconds=0)
    with pytest.raises(ValueError, match="sample_rate is 0"):
        load_audio(encoded(music()), sample_rate=0)


def test_resample_keeps_pitch_level_and_channels():
    samples = music(2.0, 44100)
    resampled = resample(samples, 44100, SAMPLE_RATE)
    assert resampled.shape == (32000,)
    assert resampled.dtype == np.float32
    assert spectrum_peak_hz(resampled, SAMPLE_RATE) == pytest.approx(440, abs=1)
    assert resample(np.stack([samples, samples], axis=1), 44100, 22050).shape == (44100, 2)
    assert np.array_equal(resample(samples, 44100, 44100), samples)
    ultrasonic = np.sin(2 * np.pi * 12000 * np.arange(44100) / 44100)
    assert np.abs(resample(ultrasonic, 44100, SAMPLE_RATE)[1000:-1000]).max() < 1e-4


@pytest.mark.parametrize("sample_rate", [1000, 44100, 1_000_000])
def test_blocks_are_resampled_as_the_whole(sample_rate):
    samples = music(0.5, sample_rate)
    blocks = np.array_split(samples.astype(np.float64), [0, 10, 11, len(samples) // 2])
    joined = np.concatenate(list(resample_blocks(blocks, sample_rate, SAMPLE_RATE)))
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined, resample(samples, sample_rate, SAMPLE_RATE), atol=1e-6)
    unchanged = resample_blocks(blocks, sample_rate, sample_rate)
    assert np.array_equal(np.concatenate(list(unchanged)), samples)


def test_blocks_that_cannot_be_used_are_named():
    blocks = [np.zeros(100), np.array([0, np.nan]), np.zeros(100)]
    with pytest.raises(AudioError, match=r"sample 101 .* is nan"):
        list(resample_blocks(blocks, 44100, SAMPLE_RATE))
    with pytest.raises(AudioError, match=r"shape \(5, 2\); it must be \[samples\], mono"):
        list(resample_blocks([np.zeros((5, 2))], 44100, SAMPLE_RATE))
    with pytest.raises(AudioError, match="audio has a sample rate of 1 Hz"):
        resample_blocks([], 1, SAMPLE_RATE)


@pytest.mark.parametrize("sample_rate", [0, 1, 999, 10_000_001, 2**31 - 1])
def test_rates_that_nothing_is_recorded_at(sample_rate):
    """soxr takes endless time for some of these."""
    samples = np.zeros(10, np.float32)
    with pytest.raises(
        AudioError, match=rf"rate of {sample_rate} Hz, outside 1000\.\.10000000; give it the rate"
    ):
        resample(samples, sample_rate, SAMPLE_RATE)
    with pytest.raises(AudioError, match=rf"resampled audio has a sample rate of {sample_rate} Hz"):
        resample(samples, SAMPLE_RATE, sample_rate)
    if sample_rate == 1:
        assert np.array_equal(resample(samples, 1, 1), samples)


# Files that cannot be used.


def test_malformed_audio_is_read_or_refused_in_one_line(malformed_audio):
    """As its name says, both ways and from memory; each in memory for a block of it."""
    assert len(malformed_audio) >= 200
    assert len({path.name for path in malformed_audio}) == len(malformed_audio)
    verdicts = {path: path.name.split("-")[1] for path in malformed_audio}
    assert set(verdicts.values()) == {"read", "refused", "either"}
    for path, verdict in verdicts.items():
        outcomes = {_outcome(path)}
        if path.is_file():
            outcomes.add(_outcome(path.read_bytes()))
        assert len(outcomes) == 1, path.name
        assert verdict in ("either", *outcomes), path.name


def _outcome(source):
    """ "read" or "refused"; in 32 MB, where the largest file decodes to less than 6 MB."""
    tracemalloc.start()
    try:
        blocks = list(stream_audio(source))
    except AudioError as error:
        message, blocks = str(error), None
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 32e6
    if blocks is None:
        assert message.isprintable()
        return "refused"
    assert sum(map(len, blocks)) > 0
    assert all(np.isfinite(block).all() for block in blocks)
    return "read"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_refused_files_are_closed(malformed_audio):
    def num_open():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = num_open()
    for path in malformed_audio:
        with contextlib.suppress(AudioError):
            audio_info(path)
    for _ in range(100):  # threads that feed MP3 files end by themselves
        if num_open() <= before:
            break
        time.sleep(0.05)
    assert num_open() <= before


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    """Opening a pipe waits for its writer, and reading a device may never end."""
    os.mkfifo(tmp_path / "pipe.wav")
    assert_explained(tmp_path / "pipe.wav", "is a pipe or a device", "save the audio to a file")
    assert_explained("/dev/zero", "is a pipe or a device")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read all")
def test_files_that_may_not_be_read(tmp_path):
    path = tmp_path / "private.wav"
    path.write_bytes(encoded(music()))
    path.chmod(0)
    assert_explained(path, "may not be read", "permissions")


def test_names_cannot_break_the_line(tmp_path):
    with pytest.raises(AudioError, match=r"a\\nb\\x1b\[2J\.wav does not exist") as caught:
        load_audio(tmp_path / "a\nb\x1b[2J.wav")
    assert str(caught.value).isprintable()
    with pytest.raises(AudioError, match=r"a\\x00b cannot be opened .*check the path"):
        load_audio("a\0b")


def test_samples_are_no_matter_of_a_files_name(tmp_path):
    """libsndfile itself takes whatever is called .vox or .gsm for samples, and asks for more with .raw."""
    for suffix in ("vox", "gsm", "raw", "au"):
        path = tmp_path / f"words.{suffix}"
        path.write_text("These are words, not music.\n" * 100)
        assert_explained(path, "no WAV, FLAC, MP3 or OGG file")
        path.write_bytes(encoded(music()))
        assert len(load_audio(path)) == 2 * SAMPLE_RATE


def test_many_channels_are_decoded_in_small_pieces(tmp_path):
    path = tmp_path / "many.wav"
    mono = music(8.0, SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 255, "PCM_U8") as file:
        for part in np.array_split(mono, 20):
            file.write(np.repeat(part[:, None], 255, axis=1))
    tracemalloc.start()
    try:
        samples = load_audio(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(samples, mono, atol=1 / 128)
    assert peak < 40e6  # all channels as float32 are 130 MB


def test_samples_too_large_to_be_audio(tmp_path):
    path = tmp_path / "large.wav"
    soundfile.write(path, np.full((100, 2), 3e38), SAMPLE_RATE, subtype="FLOAT")
    assert_explained(path, "sample 0 (at 0.000 s) is inf")
    soundfile.write(path, np.full(100, 2.0**31), SAMPLE_RATE, subtype="FLOAT")
    assert load_audio(path).tolist() == [2.0**31] * 100


def assert_explained(path, *words):
    """Both ways of reading end in one line that names the file and says all `words`."""
    for read in (load_audio, lambda source: list(stream_audio(source))):
        with pytest.raises(AudioError) as caught:
            read(path)
        message = str(caught.value)
        assert "\n" not in message
        assert os.fspath(path) in message
        for word in words:
            assert word in message


def test_missing_files_and_folders(tmp_path):
    assert_explained(tmp_path / "gone.wav", "does not exist", "check the path")
    assert_explained(tmp_path, "is a folder")


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.wav"
    path.touch()
    assert_explained(path, "is an empty file", "again")
    with pytest.raises(AudioError, match="audio of 0 bytes is an empty file"):
        load_audio(b"")


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(5000),
        b"\x1a\x45\xdf\xa3" + bytes(5000),
        b"<html>no audio</html>",
        b"MThd\0\0\0\x06\0\0\0\x01\x01\xe0",
        bytes(10000),
    ],
    ids=["mp4", "webm", "html", "midi", "zeros"],
)
def test_videos_and_other_files(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert_explained(path, "no WAV, FLAC, MP3 or OGG file", "ffmpeg -i FILE clip.wav")
    with pytest.raises(AudioError, match="ffmpeg -i FILE out"):
        audio_info(content)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3", "OGG", "AIFF"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.05])
def test_files_that_are_cut_short(tmp_path, container, kept):
    content = encoded(music(5.0), container=container)
    path = tmp_path / "cut.audio"
    path.write_bytes(content[: round(kept * len(content))])
    assert_explained(path, "cut short", "fetch it again")


def test_rf64_files_that_are_cut_short(tmp_path):
    """Their sizes have 64 bits, which libsndfile does not compare with the file's."""
    pcm = encode_pcm16(music(2.0, SAMPLE_RATE))
    layout = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    sizes = b"ds64" + struct.pack("<IQQQI", 28, len(pcm) + 72, len(pcm), len(pcm) // 2, 0)
    header = b"RF64\xff\xff\xff\xffWAVE" + sizes + layout + b"data\xff\xff\xff\xff"
    path = tmp_path / "large.wav"
    path.write_bytes(header + pcm)
    assert np.array_equal(load_audio(path), decode_pcm16(pcm))
    path.write_bytes(header + pcm[: len(pcm) // 2])
    assert_explained(path, "cut short", "fetch it again")


@pytest.mark.parametrize("size", [100, 4000])
@pytest.mark.parametrize("container", ["FLAC", "OGG", "MP3"])
def test_damaged_files(tmp_path, container, size, capfd):
    content = bytearray(encoded(music(5.0), container=container))
    middle = len(content) // 2
    content[middle : middle + size] = np.random.default_rng(0).bytes(size)
    path = tmp_path / "damaged.audio"
    path.write_bytes(content)
    assert_explained(path, "damaged or cut short", "fetch it again")
    capfd.readouterr()  # libmpg123 writes its own complaints to stderr


def test_wav_files_of_unknown_length_are_read_in_full():
    """As ffmpeg and sox write them into a pipe: the sizes in the header are placeholders."""
    for placeholder in (b"\xff\xff\xff\xff", b"\x00\xf0\xff\x7f"):
        content = bytearray(encoded(music(), subtype="PCM_16"))
        content[4:8] = placeholder
        at = content.index(b"data") + 4
        content[at : at + 4] = placeholder
        assert np.array_equal(load_audio(bytes(content), 44100), load_audio(encoded(music()), 44100))


def test_no_samples(tmp_path):
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(0), 44100)
    assert_explained(path, "holds no samples")
    soundfile.write(path, np.zeros(1), 96000)
    with pytest.raises(AudioError, match="shorter than a sample at 16000 Hz"):
        load_audio(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_named(tmp_path, value):
    samples = np.stack([music(3.0), music(3.0)], axis=1)
    samples[88200 + 44, 1] = value
    path = tmp_path / "float.wav"
    soundfile.write(path, samples, 44100, subtype="FLOAT")
    assert_explained(path, "sample 88244 (at 2.001 s)", str(value))
    with pytest.raises(AudioError, match="sample 88244"):
        list(stream_audio(path, block_seconds=0.3))
    for write in (
        lambda: write_audio(tmp_path / "out.wav", samples, 44100),
        lambda: encode_flac(samples[:, 1], 44100),
        lambda: encode_pcm16(samples[:, 1]),
    ):
        with pytest.raises(AudioError, match="sample 88244"):
            write()


# Writing.


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "music.wav"
    write_audio(path, music(), 44100)
    before = path.read_bytes()

    def full_disk(self, content):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_audio(path, 0.5 * music(), 44100)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["music.wav"]


def test_written_files_have_ordinary_permissions(tmp_path):
    write_audio(tmp_path / "a.wav", music(), 44100)
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a.wav").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize(
    ("name", "samples", "sample_rate", "bits", "message"),
    [
        ("a.aac", music(0.1), 44100, 16, r"unknown suffix; choose one of \.wav"),
        ("a.flac", music(0.1), 44100, 32, "FLAC files have 16 or 24 bits here, not 32"),
        ("a.wav", np.zeros(0), 44100, 16, r"shape \(0,\)"),
        ("a.wav", np.zeros((2, 2, 2)), 44100, 16, r"shape \(2, 2, 2\)"),
        ("a.mp3", music(0.1), 12345, 16, "MP3 cannot hold 1 channels at 12345 Hz"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, samples, sample_rate, bits, message):
    with pytest.raises(AudioError, match=message):
        write_audio(tmp_path / name, samples, sample_rate, bits=bits)
    assert not list(tmp_path.iterdir())


# Real recordings.


@pytest.mark.skipif(not REAL_RECORDINGS, reason="needs ../shared/data/real")
@pytest.mark.parametrize("path", REAL_RECORDINGS[::5], ids=lambda path: path.stem)
def test_real_recordings(path, tmp_path):
    info = audio_info(path)
    samples = load_audio(path)
    assert len(samples) == pytest.approx(info.duration_seconds * SAMPLE_RATE, abs=1)
    assert 1e-3 < np.std(samples) < 0.5
    assert np.array_equal(np.concatenate(list(stream_audio(path, block_seconds=3.7))), samples)
    write_audio(tmp_path / "again.flac", samples, SAMPLE_RATE, bits=24)
    clipped = np.clip(samples, -1, 1 - 2**-23)  # resampled peaks can exceed full scale
    assert np.abs(load_audio(tmp_path / "again.flac") - clipped).max() <= 2**-24
