"""tf.train.Example and TFRecord files, against TensorFlow's own reader and parser."""

import struct

import numpy as np
import pytest

from mt3.data import tfrecords
from mt3.data.tfrecords import RecordError

FEATURES = {
    "audio": bytes(range(256)),
    "id": "Präludium",
    "sample_rate": 16000,
    "offsets": [1, -2, 2**62],
    "gains": [0.5, -1.25],
    "empty": b"",
}


def write(path, payloads):
    path.write_bytes(b"".join(tfrecords.frame_record(payload) for payload in payloads))
    return path


def test_tensorflow_parses_what_is_written(tmp_path):
    import tensorflow as tf

    path = write(tmp_path / "x.tfrecord", [tfrecords.encode_example(FEATURES), b"second"])
    first, second = tf.data.TFRecordDataset([str(path)]).as_numpy_iterator()
    assert second == b"second"
    parsed = tf.io.parse_single_example(
        first,
        {
            "audio": tf.io.FixedLenFeature([], tf.string),
            "id": tf.io.FixedLenFeature([], tf.string),
            "sample_rate": tf.io.FixedLenFeature([], tf.int64),
            "offsets": tf.io.FixedLenFeature([3], tf.int64),
            "gains": tf.io.FixedLenFeature([2], tf.float32),
            "empty": tf.io.FixedLenFeature([], tf.string),
        },
    )
    assert parsed["audio"].numpy() == FEATURES["audio"]
    assert parsed["id"].numpy().decode() == FEATURES["id"]
    assert parsed["sample_rate"].numpy() == 16000
    np.testing.assert_array_equal(parsed["offsets"], FEATURES["offsets"])
    np.testing.assert_array_equal(parsed["gains"], FEATURES["gains"])
    assert parsed["empty"].numpy() == b""


def test_what_tensorflow_writes_is_read(tmp_path):
    import tensorflow as tf

    example = tf.train.Example()
    example.features.feature["audio"].bytes_list.value.append(b"\x00\xff")
    example.features.feature["offsets"].int64_list.value.extend([3, -4])
    example.features.feature["gains"].float_list.value.append(0.25)
    path = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())
        writer.write(b"")
    first, second = tfrecords.read_tfrecord(path)
    assert tfrecords.parse_example(first) == {"audio": [b"\x00\xff"], "offsets": [3, -4], "gains": [0.25]}
    assert second == b""


def test_masked_checksum_is_tensorflows():
    # The CRC-32C of 32 zero bytes is 0x8A9136AA (RFC 3720, B.4), here masked by hand:
    # rotate right by 15 bits, add 0xA282EAD8.
    crc = 0x8A9136AA
    masked = (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF
    assert tfrecords.frame_record(bytes(32))[-4:] == struct.pack("<I", masked)


def test_equal_features_give_equal_bytes():
    reversed_order = dict(reversed(FEATURES.items()))
    assert tfrecords.encode_example(FEATURES) == tfrecords.encode_example(reversed_order)


@pytest.mark.parametrize("value", [[], [1, b"x"], [None]])
def test_mixed_or_empty_features_are_refused(value):
    with pytest.raises(TypeError, match="'x' must hold"):
        tfrecords.encode_example({"x": value})


def test_what_is_no_example_is_refused():
    with pytest.raises(RecordError, match=r"tf\.train\.Example"):
        tfrecords.parse_example(b"\xff\xff\xff")


@pytest.mark.parametrize("kept", [5, 12, 20, -1])
def test_truncated_file_is_named(tmp_path, kept):
    path = write(tmp_path / "x.tfrecord", [b"some payload"])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RecordError, match="truncated") as error:
        list(tfrecords.read_tfrecord(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("position", [0, 9, 14, -1])
def test_every_flipped_byte_is_found(tmp_path, position):
    path = write(tmp_path / "x.tfrecord", [b"some payload"])
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match="corrupt") as error:
        list(tfrecords.read_tfrecord(path))
    assert str(path) in str(error.value)


def test_record_at_an_offset(tmp_path):
    path = write(tmp_path / "x.tfrecord", [b"first", b"second"])
    offset = len(tfrecords.frame_record(b"first"))
    assert tfrecords.read_tfrecord_at(path, offset) == b"second"
    with pytest.raises(RecordError, match="truncated"):
        tfrecords.read_tfrecord_at(path, path.stat().st_size)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"nothing\.tfrecord cannot be read"):
        list(tfrecords.read_tfrecord(tmp_path / "nothing.tfrecord"))
