"""Records and manifests of a split."""

import json

import numpy as np
import pytest

from mt3.data import records
from mt3.data.manifests import Manifest, SkippedItem, manifest_path, read_manifest, shard_name
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import AudioFile, DeferredAudio, EncodedAudio, Recording, SampledAudio
from mt3.data.records import RecordError, read_recordings
from mt3.symbolic.notes import Notes

RATE = 16000


def recording(number, *, seconds=1.0, audio_format="flac", program=0):
    rng = np.random.default_rng(number)
    samples = (rng.integers(-32768, 32768, round(seconds * RATE)) / 32768).astype(np.float32)
    notes = Notes.from_rows([(0.1, 0.5, 60 + number, 80, program, False), (0.2, 0.3, 36, 90, 0, True)])
    audio = EncodedAudio.encode(samples, RATE, audio_format)
    return Recording(f"r{number}", notes, audio, "set", "train", "CC0", {"number": number, "ü": [1.5]})


def write(directory, items, **options):
    with RecordWriter(directory, "set", "train", **options) as writer:
        for item in items:
            writer.write(item)
    return read_manifest(directory, "train")


def test_recordings_come_back_in_order(tmp_path):
    items = [recording(i, audio_format=("flac", "pcm16")[i % 2], program=i) for i in range(5)]
    write(tmp_path, items, num_shards=2)
    found = read_recordings(tmp_path, "train")
    assert [r.id for r in found] == ["r0", "r1", "r2", "r3", "r4"]
    for item, back in zip(items, found, strict=True):
        assert back.notes == item.notes
        assert (back.dataset, back.split, back.licence, back.extra) == ("set", "train", "CC0", item.extra)
        assert back.audio == item.audio
        np.testing.assert_array_equal(back.load_audio(RATE), item.load_audio(RATE))
    assert [r.id for r in found[1:4][::-1]] == ["r3", "r2", "r1"]
    assert found[-1].id == "r4"
    with pytest.raises(IndexError):
        found[5]


def test_tensorflow_reads_all_features(tmp_path):
    import tensorflow as tf

    item = recording(3, audio_format="pcm16")
    manifest = write(tmp_path, [item])
    files = [str(tmp_path / shard.file) for shard in manifest.shards]
    kinds = {bytes: tf.string, int: tf.int64}
    schema = {name: tf.io.FixedLenFeature([], kinds[kind]) for name, kind in records.SCHEMA.items()}
    (data,) = tf.data.TFRecordDataset(files)
    parsed = tf.io.parse_single_example(data, schema)
    assert parsed["id"].numpy() == b"r3"
    assert parsed["num_samples"].numpy() == RATE
    assert parsed["sample_rate"].numpy() == RATE
    assert json.loads(parsed["extra"].numpy()) == item.extra
    samples = tf.io.decode_raw(parsed["audio"], tf.int16).numpy() / 32768
    np.testing.assert_allclose(samples, item.load_audio(RATE), atol=1.01 / 32768)


def test_manifest_counts(tmp_path):
    items = [recording(0, seconds=1.0), recording(1, seconds=16.0, program=40), recording(2, seconds=16.5)]
    with RecordWriter(tmp_path, "set", "train", num_shards=2, seed=7, config={"a": (1, 2)}) as writer:
        for item in items:
            writer.write(item)
        writer.skip("bad.mid", "it is broken")
    manifest = read_manifest(tmp_path, "train")
    assert manifest.num_recordings == 3
    assert manifest.seconds == pytest.approx(33.5)
    assert manifest.num_notes == 6
    assert manifest.programs == {"0": 2, "40": 1, "drums": 3}
    # 2000 frames of 8 ms are 16 s.
    assert [info.num_chunks for info in manifest.recordings] == [1, 1, 2]
    assert manifest.num_chunks == 4
    assert manifest.licences == ("CC0",)
    assert manifest.skipped == (SkippedItem("bad.mid", "it is broken"),)
    assert manifest.seed == 7
    assert manifest.config == {"a": [1, 2]}
    assert [shard.num_recordings for shard in manifest.shards] == [2, 1]
    assert [shard.file for shard in manifest.shards] == [shard_name("set", "train", i, 2) for i in range(2)]
    assert manifest.shards[0].file == "set-train.tfrecord-00000-of-00002"
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_checksums_are_those_of_the_files(tmp_path):
    import hashlib

    for shard in write(tmp_path, [recording(0), recording(1)], num_shards=2).shards:
        content = (tmp_path / shard.file).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard.num_bytes, shard.sha256)


def test_writing_twice_gives_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, [recording(i) for i in range(3)], num_shards=2)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def fail():
        with RecordWriter(tmp_path, "set", "train") as writer:
            writer.write(recording(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RecordError, match="no prepared dataset"):
        read_recordings(tmp_path, "train")


def test_what_a_killed_run_left_behind_is_removed(tmp_path):
    (tmp_path / ".set-train.tfrecord-00003-of-00007.tmp").write_bytes(b"half")
    write(tmp_path, [recording(0)])
    assert len(list(tmp_path.iterdir())) == 2


def test_writing_again_replaces_shards_of_another_number(tmp_path):
    write(tmp_path, [recording(0), recording(1)], num_shards=2)
    write(tmp_path, [recording(2)], num_shards=1)
    assert [r.id for r in read_recordings(tmp_path, "train")] == ["r2"]
    assert len(list(tmp_path.glob("*tfrecord*"))) == 1


def test_damaged_shards_are_named_in_one_line(tmp_path):
    manifest = write(tmp_path, [recording(0), recording(1)])
    shard = tmp_path / manifest.shards[0].file
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    assert read_recordings(tmp_path, "train")[0].id == "r0"
    with pytest.raises(RecordError, match="truncated") as error:
        read_recordings(tmp_path, "train")[1]
    assert str(shard) in str(error.value)
    assert "\n" not in str(error.value)
    shard.unlink()
    with pytest.raises(RecordError, match="cannot be read"):
        read_recordings(tmp_path, "train")[0]


def test_foreign_records_are_refused():
    from mt3.data.tfrecords import encode_example

    with pytest.raises(RecordError, match="lacks feature 'id'"):
        records.parse_recording(encode_example({"text": "hello"}))


def test_damaged_manifest_is_named(tmp_path):
    write(tmp_path, [recording(0)])
    manifest_path(tmp_path, "set", "train").write_text("{}")
    with pytest.raises(RecordError, match=r"set-train\.manifest\.json is no manifest"):
        read_recordings(tmp_path, "train")


def test_dataset_must_be_named_where_there_are_several(tmp_path):
    write(tmp_path, [recording(0)])
    with RecordWriter(tmp_path, "other", "train") as writer:
        writer.write(recording(1))
    with pytest.raises(RecordError, match=r"2 datasets \(other, set\)"):
        read_recordings(tmp_path, "train")
    assert read_recordings(tmp_path, "train", name="other")[0].id == "r1"
    with pytest.raises(RecordError, match="mt3 prepare third"):
        read_recordings(tmp_path, "train", name="third")


def test_audio_that_is_not_encoded_is_written_as_flac(tmp_path):
    samples = np.linspace(-0.5, 0.5, RATE, dtype=np.float32)
    notes = Notes.from_rows([(0.0, 0.5, 60, 80, 0, False)])
    made = []

    def make():
        made.append(1)
        return SampledAudio(samples, RATE)

    item = Recording("x", notes, DeferredAudio(make))
    assert not made
    write(tmp_path, [item])
    (back,) = read_recordings(tmp_path, "train")
    assert back.audio.format == "flac"
    np.testing.assert_allclose(back.load_audio(RATE), samples, atol=1 / 32768)


def test_audio_is_resampled_when_asked(tmp_path):
    samples = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
    for audio in (
        SampledAudio(samples, RATE),
        *(EncodedAudio.encode(samples, RATE, f) for f in ("flac", "pcm16")),
    ):
        assert len(audio.load(8000)) == 8000
    path = tmp_path / "x.flac"
    path.write_bytes(EncodedAudio.encode(samples, RATE).data)
    np.testing.assert_allclose(AudioFile(path).load(RATE), samples, atol=1 / 32768)


def test_unknown_audio_format_is_refused():
    with pytest.raises(ValueError, match="'mp3' is unknown"):
        EncodedAudio(b"", "mp3", RATE, 0)
