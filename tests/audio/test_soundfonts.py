"""SoundFont files: what they hold, and what is said of files that are none."""

import struct
import subprocess
import sys

import numpy as np
import pytest

from mt3.audio import soundfonts
from mt3.audio.synthesis import make_synthesizer


def test_the_default_soundfont_plays_all_of_general_midi():
    presets = soundfonts.soundfont_presets(soundfonts.default_soundfont())
    assert {(0, program) for program in range(128)} <= presets.keys()
    assert (soundfonts.PERCUSSION_BANK, 0) in presets
    assert "Piano" in presets[0, 0]
    assert not soundfonts.is_compressed(soundfonts.default_soundfont())


def test_finding_the_default_soundfont_imports_no_pretty_midi():
    code = (
        "import sys; from mt3.audio.soundfonts import default_soundfont; default_soundfont(); "
        "sys.exit('pretty_midi' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_dry_copy_differs_in_effect_sends_only():
    path = soundfonts.default_soundfont()
    original = np.frombuffer(path.read_bytes(), np.uint8)
    dry = np.frombuffer(soundfonts.dry_soundfont_bytes(path), np.uint8)
    changed = np.unique(np.flatnonzero(original != dry) // 2 * 2)  # generator amounts are 16-bit words
    assert len(changed)
    assert not dry[changed].any()
    numbers = {int.from_bytes(dry[at - 2 : at].tobytes(), "little") for at in changed}
    assert numbers <= {15, 16}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(soundfonts.SoundFontError, match=r"gone\.sf2 does not exist"):
        make_synthesizer(tmp_path / "gone.sf2")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"MThd" + bytes(100), b"RIFF\x04\0\0\0WAVE"])
def test_another_kind_of_file_is_no_soundfont(tmp_path, content):
    path = tmp_path / "not.sf2"
    path.write_bytes(content)
    with pytest.raises(soundfonts.SoundFontError, match="is not a SoundFont"):
        make_synthesizer(path)


@pytest.mark.parametrize("kept", [12, 1000, 3_000_000])
def test_a_truncated_file_is_damaged(tmp_path, kept):
    path = tmp_path / "short.sf2"
    path.write_bytes(soundfonts.default_soundfont().read_bytes()[:kept])
    with pytest.raises(soundfonts.SoundFontError, match="cut short"):
        make_synthesizer(path)


def test_compressed_soundfonts_are_refused_by_the_wheel(tmp_path):
    content = bytearray(soundfonts.default_soundfont().read_bytes())
    at = content.index(b"ifil") + 8
    content[at : at + 4] = struct.pack("<HH", 3, 0)
    path = tmp_path / "font.sf3"
    path.write_bytes(content)
    with pytest.raises(soundfonts.SoundFontError, match="SF3"):
        make_synthesizer(path, backend="midirenderer")
