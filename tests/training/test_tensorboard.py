"""What TensorBoard gets, read back from its files: checksums, tags, steps and what the entries hold."""

import io
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image as Pictures
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mt3.data.tfrecords import read_tfrecord
from mt3.evaluation.summaries import Audio, Histogram, Image
from mt3.training.tensorboard import EventFile, TensorBoardWriter


def events(folder):
    """All of them; `read_tfrecord` checks their checksums."""
    return [Event.FromString(record) for path in sorted(folder.iterdir()) for record in read_tfrecord(path)]


def values(folder):
    """(step, entry) of all entries."""
    return [(event.step, value) for event in events(folder) for value in event.summary.value]


def written(folder, value):
    """What is read back of a value; the tag has what TensorBoard allows in place of other characters."""
    EventFile(folder).write({"eval/Onset + offset F1 (hist)": value}, 7)
    [(step, entry)] = values(folder)
    assert (step, entry.tag) == (7, "eval/Onset___offset_F1__hist_")
    return entry


def test_first_event_says_what_the_file_is(tmp_path):
    EventFile(tmp_path)
    [event] = events(tmp_path)
    assert event.file_version == "brain.Event:2"
    [path] = tmp_path.iterdir()
    assert path.name.startswith("events.out.tfevents.")


def test_scalars(tmp_path):
    assert written(tmp_path, 0.5).simple_value == 0.5


def test_histograms_hold_every_value(tmp_path):
    """Each in the bin whose upper edge is the first above it; the last bin holds its upper edge too."""
    scores = np.array([0.0, 0.05, 0.49, 0.5, 0.5, 1.0])
    histogram = written(tmp_path, Histogram(scores, np.linspace(0, 1, 11))).histo
    assert (histogram.num, histogram.min, histogram.max) == (6, 0.0, 1.0)
    assert histogram.sum == pytest.approx(2.54)
    assert histogram.sum_squares == pytest.approx((scores**2).sum())
    bins = dict(zip(np.round(histogram.bucket_limit, 6), histogram.bucket, strict=True))
    assert {limit: count for limit, count in bins.items() if count} == {0.1: 2, 0.5: 1, 0.6: 2, 1.0: 1}


def test_pictures_are_png_of_the_same_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    picture = written(tmp_path, Image(pixels)).image
    assert (picture.height, picture.width, picture.colorspace) == (20, 30, 3)
    decoded = Pictures.open(io.BytesIO(picture.encoded_image_string))
    assert decoded.format == "PNG"
    np.testing.assert_array_equal(np.array(decoded), pixels)


def test_sound_is_wav_of_the_same_samples(tmp_path):
    samples = np.sin(np.arange(800) / 10)
    sound = written(tmp_path, Audio(samples, 8000)).audio
    assert (sound.sample_rate, sound.num_channels, sound.length_frames) == (8000, 1, 800)
    assert sound.content_type == "audio/wav"
    decoded, rate = soundfile.read(io.BytesIO(sound.encoded_audio_string))
    assert rate == 8000
    np.testing.assert_allclose(decoded, samples, atol=2**-15)


def test_a_run_s_metrics_and_summaries_go_to_its_folder(tmp_path):
    writer, run = TensorBoardWriter(tmp_path), SimpleNamespace(start_step=0, step=0)
    writer.on_start(run)
    run.step = 5
    writer.on_metrics(run, {"train/loss": 1.5})
    writer.on_summaries(run, {"eval/a/piano_roll": Image(np.zeros((2, 3, 3), np.uint8))})
    # Written at once, not when the run ends.
    scalar, picture = values(tmp_path / "tensorboard")
    assert (scalar[0], scalar[1].tag, scalar[1].simple_value) == (5, "train/loss", 1.5)
    assert (picture[0], picture[1].tag, picture[1].image.width) == (5, "eval/a/piano_roll", 3)


def test_resuming_hides_what_will_be_written_again(tmp_path):
    TensorBoardWriter(tmp_path).on_start(SimpleNamespace(start_step=20))
    _, event = events(tmp_path / "tensorboard")
    assert (event.step, event.session_log.status) == (21, SessionLog.START)


def test_full_disk_is_reported_once_and_leaves_whole_records(tmp_path, monkeypatch, caplog):
    """Half a record is taken back; when there is room again, writing goes on."""
    writer, run = TensorBoardWriter(tmp_path), SimpleNamespace(start_step=0, step=1)
    writer.on_start(run)
    [path] = (tmp_path / "tensorboard").iterdir()
    opened = type(path).open

    class FullDisk:
        """A file that takes ten bytes more."""

        def __init__(self, file):
            self.file, self.room = file, 10

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if not self.room:
                raise OSError(28, "No space left on device")
            size = min(self.room, len(data))
            self.room -= size
            return self.file.write(data[:size])

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "open", lambda *args, **options: FullDisk(opened(*args, **options)))
        for _ in range(30):  # More than any queue would take.
            writer.on_metrics(run, {"train/loss": 1.0})
    run.step = 2
    writer.on_metrics(run, {"train/loss": 0.5})
    assert [(step, entry.simple_value) for step, entry in values(path.parent)] == [(2, 0.5)]
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert "No space left on device" in line
    assert str(path.parent) in line


def test_folder_that_cannot_be_made_is_reported(tmp_path, caplog):
    (tmp_path / "tensorboard").touch()
    writer, run = TensorBoardWriter(tmp_path), SimpleNamespace(start_step=0, step=1)
    writer.on_start(run)
    writer.on_metrics(run, {"train/loss": 1.0})
    assert len(caplog.records) == 1
    assert str(tmp_path / "tensorboard") in caplog.text
