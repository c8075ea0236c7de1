"""Mixes of stems, made in blocks."""

import io
import tarfile

import numpy as np
import pytest
import soundfile

from mt3.audio.io import AudioError, load_audio, resample
from mt3.data import stem_mixing
from mt3.data.file_tree import ArchiveMember, open_tree
from mt3.data.stem_mixing import mix_stems

RATE = 44100
HALF_A_STEP = 0.5 / 32768


def samples_of(number, seconds=1.3, rate=RATE):
    """A tone and some noise, on 16-bit values."""
    rng = np.random.default_rng(number)
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.08 * np.sin(2 * np.pi * 211 * (number + 1) * time) + rng.normal(0, 0.01, len(time))
    return (np.rint(samples * 32768) / 32768).astype(np.float32)


def write_stem(folder, number, suffix=".flac", **options):
    path = folder / f"S{number:02d}{suffix}"
    soundfile.write(path, samples_of(number, **options), options.get("rate", RATE), "PCM_16")
    return path


@pytest.fixture
def stems(tmp_path):
    """Five stems of 1.3 s."""
    return [write_stem(tmp_path, number) for number in range(5)]


def loaded(mixes):
    return [mix.load(16000) for mix in mixes]


def test_a_mix_is_the_resampled_sum_of_its_stems(stems):
    groups = [stems[:2], [stems[2]], [stems[3]], [stems[4]]]
    mixes = [(0, 1), (2,), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3)]
    members = [(0, 1, 2), (3,), (0, 1, 3, 4), (2, 3, 4), (0, 1, 2, 3, 4)]
    for found, stem_numbers in zip(loaded(mix_stems(groups, mixes)), members, strict=True):
        expected = resample(sum(samples_of(number) for number in stem_numbers), RATE, 16000)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=HALF_A_STEP + 1e-5)


def test_a_mix_of_one_stem_is_that_stem(stems):
    for mix, stem in zip(mix_stems([[stem] for stem in stems], [(i,) for i in range(5)]), stems, strict=True):
        np.testing.assert_allclose(mix.load(16000), load_audio(stem), atol=HALF_A_STEP + 1e-7)


def test_few_mixes_of_many_groups_are_the_same(stems):
    """Mixing before resampling instead of after."""
    groups = [[stem] for stem in stems]
    mixes = [(0, 2), (0, 1, 4), (3, 4), (1, 2, 3), (0, 1, 2, 3, 4)]
    together = loaded(mix_stems(groups, mixes))
    for mix, expected in zip(mixes, together, strict=True):
        (alone,) = loaded(mix_stems(groups, [mix]))
        np.testing.assert_allclose(alone, expected, atol=2.1 * HALF_A_STEP)


@pytest.mark.parametrize("block_seconds", [0.013, 0.1, 0.5])
def test_the_length_of_blocks_does_not_matter(stems, block_seconds):
    groups, mixes = [stems[:2], stems[2:]], [(0,), (0, 1), (1,)]
    whole = mix_stems(groups, mixes)
    in_blocks = mix_stems(groups, mixes, block_seconds=block_seconds)
    for mix, expected in zip(in_blocks, whole, strict=True):
        assert mix.num_samples == expected.num_samples == 20800
        np.testing.assert_allclose(mix.load(16000), expected.load(16000), atol=2.1 * HALF_A_STEP)


def test_twice_gives_the_same_bytes(stems):
    groups, mixes = [[stem] for stem in stems], [(0, 1, 2), (1, 3), (0, 4), (2, 3, 4), (0, 1)]
    first, second = (mix_stems(groups, mixes, block_seconds=0.25) for _ in range(2))
    assert [mix.data for mix in first] == [mix.data for mix in second]


def test_each_stem_is_decoded_once(stems, monkeypatch):
    decoded = []
    stream = stem_mixing.stream_audio

    def counting(source, *options):
        decoded.append(source)
        return stream(source, *options)

    monkeypatch.setattr(stem_mixing, "stream_audio", counting)
    mix_stems([[stem] for stem in stems], [(0, 1), (0, 2), (0, 3), (1, 2, 3, 4), (0, 1, 2, 3, 4), (1, 4)])
    assert decoded == stems


def test_no_more_than_a_block_of_each_stem_is_ahead(stems, monkeypatch):
    ahead = []
    stream = stem_mixing.stream_audio

    def counting(source, *options):
        for number, block in enumerate(stream(source, *options)):
            ahead.append(number)
            yield block

    monkeypatch.setattr(stem_mixing, "stream_audio", counting)
    mix_stems([[stem] for stem in stems], [(0, 1, 2, 3, 4)], block_seconds=0.1)
    assert ahead == [number for number in range(13) for _ in range(5)]


def test_shorter_stems_end_in_silence(tmp_path):
    lengths = (0.5, 1.3, 0.27)
    stems = [write_stem(tmp_path, number, seconds=seconds) for number, seconds in enumerate(lengths)]
    longest = round(1.3 * RATE)
    padded = [samples_of(number, seconds=seconds) for number, seconds in enumerate(lengths)]
    padded = [np.pad(samples, (0, longest - len(samples))) for samples in padded]
    short, all_of_them = loaded(
        mix_stems([[stems[0], stems[2]], [stems[1]]], [(0,), (0, 1)], block_seconds=0.2)
    )
    for found, expected in ((short, padded[0] + padded[2]), (all_of_them, sum(padded))):
        np.testing.assert_allclose(found, resample(expected, RATE, 16000), atol=HALF_A_STEP + 1e-5)
    assert np.abs(short[8200:]).max() < 1e-3


def test_stems_of_the_wanted_rate_are_added_exactly(tmp_path):
    stems = [write_stem(tmp_path, number, ".wav", rate=16000) for number in range(3)]
    mixes = mix_stems([[stems[0]], stems[1:]], [(0, 1), (1,)])
    for mix, numbers in zip(mixes, ((0, 1, 2), (1, 2)), strict=True):
        np.testing.assert_array_equal(mix.load(16000), sum(samples_of(n, rate=16000) for n in numbers))


def test_stems_of_different_rates_are_resampled_each(tmp_path):
    rates = (44100, 16000, 48000)
    stems = [write_stem(tmp_path, number, rate=rate) for number, rate in enumerate(rates)]
    (found,) = loaded(mix_stems([[stems[0]], stems[1:]], [(0, 1)], block_seconds=0.3))
    expected = sum(resample(samples_of(n, rate=rate), rate, 16000) for n, rate in enumerate(rates))
    np.testing.assert_allclose(found, expected, atol=HALF_A_STEP + 1e-5)


def test_sums_beyond_full_scale_are_clipped(tmp_path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full(1600, 0.75, np.float32), 16000, "PCM_16")
    (found,) = loaded(mix_stems([[path], [path]], [(0, 1)]))
    assert np.all(found == 32767 / 32768)


def test_samples_can_be_kept_as_they_are(stems):
    flac = mix_stems([[stem] for stem in stems], [(0, 1)])
    pcm = mix_stems([[stem] for stem in stems], [(0, 1)], audio_format="pcm16")
    assert (pcm[0].format, len(pcm[0].data)) == ("pcm16", 2 * pcm[0].num_samples)
    np.testing.assert_array_equal(pcm[0].load(16000), flac[0].load(16000))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_stems_in_archives(stems, tmp_path, suffix):
    archive = tmp_path / f"stems{suffix}"
    with tarfile.open(archive, "w:gz" if suffix == ".tar.gz" else "w") as tar:
        for stem in stems:
            tar.add(stem, stem.name)
    members = list(open_tree([archive], index_dir=tmp_path / "index").files.values())
    mixes = [(0, 1, 2), (3, 4)]
    expected = mix_stems([[stem] for stem in stems], mixes)
    found = mix_stems([[member] for member in members], mixes)
    assert [mix.data for mix in found] == [mix.data for mix in expected]


def test_stems_in_a_compressed_archive_are_read_one_after_the_other(stems, tmp_path, monkeypatch):
    archive = tmp_path / "stems.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for stem in stems:
            tar.add(stem, stem.name)
    members = list(open_tree([archive], index_dir=tmp_path / "index").files.values())
    opened = []
    open_member = ArchiveMember.open

    def counting(member, *mode):
        opened.append(member)
        return open_member(member, *mode)

    monkeypatch.setattr(ArchiveMember, "open", counting)
    mix_stems([[member] for member in members], [(0, 1), (2, 3, 4)], block_seconds=0.1)
    assert opened == members


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_damaged_stem_is_named(stems, tmp_path, suffix):
    content = stems[1].read_bytes()
    archive = tmp_path / f"stems{suffix}"
    with tarfile.open(archive, "w:gz" if suffix == ".tar.gz" else "w") as tar:
        tar.add(stems[0], "S00.flac")
        info = tarfile.TarInfo("S01.flac")
        info.size = len(content) // 2
        tar.addfile(info, io.BytesIO(content))
    members = list(open_tree([archive], index_dir=tmp_path / "index").files.values())
    with pytest.raises(AudioError, match=r"S01\.flac"):
        mix_stems([[member] for member in members], [(0, 1)])
