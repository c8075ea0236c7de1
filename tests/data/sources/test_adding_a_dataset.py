"""The page on adding a dataset is true: its file and its row are all that it takes."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mt3.audio.io import write_audio
from mt3.data.records import read_recordings
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes

PAGE = Path(__file__).parents[3] / "docs" / "adding_a_dataset.md"

# `mt3` with a row more in the table: what editing mt3/data/sources/__init__.py does.
PROGRAM = """
import sys
from mt3.data.sources import SOURCES, SourceRow
SOURCES.update({{{row}}})
from mt3.cli.main import main
sys.argv = ["mt3", *sys.argv[1:]]
main()
"""


@pytest.fixture
def toyset(tmp_path):
    """The published dataset: a recording to train with and one to test with."""
    folder = tmp_path / "toyset"
    for sub in ("recordings", "labels"):
        (folder / sub).mkdir(parents=True)
    for number, name in enumerate(("one", "two")):
        samples = np.sin(np.arange(44100) * 0.05).astype(np.float32) / 2
        write_audio(folder / "recordings" / f"{name}.wav", samples, 44100)
        notes = Notes.from_rows([(0.25, 0.5, 60 + number, 80, 0, False)])
        write_midi(notes, folder / "labels" / f"{name}.mid")
    (folder / "split.csv").write_text("name,split\none,train\ntwo,test\n")
    return folder


def test_one_file_and_one_row(tmp_path, toyset):
    file, row = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "toyset_source.py").write_text(file)
    program = PROGRAM.format(row=row.replace("mt3.data.sources.toyset", "toyset_source"))

    def mt3(*arguments):
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    output = tmp_path / "data"
    outcome = mt3("prepare", "toyset", "-i", toyset, "-o", output, "--gin.ToysetConfig.program=24")
    assert outcome.returncode == 0, outcome.stderr
    (recording,) = read_recordings(output, "test")
    assert recording.id == "two"
    assert recording.dataset == "toyset"
    assert recording.notes.program.tolist() == [24]
    assert recording.notes.pitch.tolist() == [61]
    assert len(recording.load_audio(16000)) == 16000
    shown = mt3(
        "data", "show", "toyset_notes_ties_vb1_test", "-d", output, "-o", tmp_path / "seen", "--no-render"
    )
    assert shown.returncode == 0, shown.stderr
    assert "1 examples of toyset_notes_ties_vb1_test" in shown.stdout
    missing = mt3("prepare", "toyset", "-i", tmp_path / "data", "-o", tmp_path / "none")
    assert missing.returncode == 1
    assert "The input has no split.csv" in missing.stderr
    assert "toyset" in mt3("prepare", "--help").stdout
