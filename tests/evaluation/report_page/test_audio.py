"""Sound of a page: what is in it, how long it is, and that limits hold."""

import base64
import io

import numpy as np
import pytest
import soundfile

from mt3.evaluation.report_page.audio import AudioOptions, Piece, encode_opus, make_sound
from mt3.symbolic.notes import Notes

NOTES = Notes.from_rows([(0.5, 1.5, 69, 100, 0, False)])
PIECE = Piece("a", NOTES, {1: NOTES[:0], 0: NOTES})


def decode(clip):
    return soundfile.read(io.BytesIO(base64.b64decode(clip.content)))


def test_opus_keeps_pitch_place_and_length():
    seconds = np.arange(24000) / 16000
    samples = np.where(seconds > 0.75, 0.5 * np.sin(2 * np.pi * 500 * seconds), 0).astype(np.float32)
    decoded, sample_rate = soundfile.read(io.BytesIO(encode_opus(samples, 16000, 32)))
    assert (len(decoded), sample_rate) == (24000, 16000)
    start = np.flatnonzero(np.abs(decoded) > 0.1)[0] / 16000
    assert start == pytest.approx(0.75, abs=0.01)
    spectrum = np.abs(np.fft.rfft(decoded[14000:22000]))
    assert np.argmax(spectrum) * 2 == pytest.approx(500, abs=2)


def test_original_reference_and_estimates():
    original = np.linspace(-0.5, 0.5, 16000, dtype=np.float32)
    sound = make_sound(
        [PIECE], AudioOptions(), lambda id, rate: original if (id, rate) == ("a", 16000) else None
    )
    assert [(clip.source, clip.run) for clip in sound.clips] == [
        ("original", 0),
        ("reference", 0),
        ("estimate", 1),
        ("estimate", 0),
    ]
    lengths = [len(decode(clip)[0]) / 16000 for clip in sound.clips]
    assert lengths == pytest.approx([1.0, 2.5, 1.0, 2.5], abs=0.001)
    rendered, _ = decode(sound.clips[1])
    assert 0.5 < np.abs(rendered).max() < 1.05
    assert np.abs(rendered[:7000]).max() < 0.02
    assert np.abs(decode(sound.clips[2])[0]).max() < 1e-3


def test_at_most_so_many_recordings():
    sound = make_sound([PIECE, Piece("b", NOTES, {})], AudioOptions(max_recordings=1))
    assert {clip.id for clip in sound.clips} == {"a"}
    assert make_sound([PIECE], AudioOptions(max_recordings=0)).clips == ()


def test_what_is_too_large_is_named_and_the_others_go_on():
    long = Piece("long", NOTES.replace(offset_seconds=600.0), {})
    sound = make_sound([long, PIECE], AudioOptions(max_megabytes=0.1))
    assert {clip.id for clip in sound.clips} == {"a"}
    assert len(sound.left_out) == 1
    assert "long: about 6.4 MB of audio" in sound.left_out[0]


def test_what_cannot_be_rendered_is_named():
    unplayable = Piece("odd", NOTES.replace(pitch=128), {})
    sound = make_sound([unplayable, PIECE], AudioOptions())
    assert {clip.id for clip in sound.clips} == {"a"}
    assert "odd: A note's pitch is 128" in sound.left_out[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_recordings": -1}, "max_recordings is -1"),
        ({"max_megabytes": float("nan")}, "max_megabytes is nan"),
        ({"sample_rate": 44100}, "sample_rate is 44100; Opus has"),
        ({"kilobits_per_second": 300}, "kilobits_per_second is 300; choose 6 to 256"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        AudioOptions(**settings)
