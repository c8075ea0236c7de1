"""URMP from its published layout."""

import json
import pickle
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mt3.data.sources.base import PlanOptions, SourceError
from mt3.data.sources.urmp import PROGRAMS, SOURCE, UrmpConfig
from mt3.symbolic.notes import Notes

GOLDEN = Path(__file__).parents[2] / "golden"
RATE = 48000

# Piece -> for each track its instrument as files name it, and (onset, offset, pitch with cents).
PIECES = {
    "02_Sonata_vn_vn": [
        ("vn", [(0.1234, 0.5678, 76.2), (0.6543, 1.4321, 74.8)]),
        ("vn", [(0.1311, 0.9137, 67.0), (0.9871, 1.3579, 71.49)]),
    ],
    "15_Surprise_tpt_tpt_tbn": [
        ("tpt", [(0.2222, 1.1111, 72.0)]),
        ("tpt", [(0.2345, 1.1234, 67.4)]),
        ("tpt", [(0.2111, 0.6789, 52.0), (0.7123, 1.2345, 47.7)]),
    ],
    "40_Miserere_fl_fl_ob_cl_bn": [
        (instrument, [(0.1 + 0.0137 * track, 1.0 + 0.0371 * track, 80.0 - 7 * track)])
        for track, instrument in enumerate(("fl", "fl", "ob", "cl", "bn"))
    ],
}
PLAYED = {
    "02_Sonata_vn_vn": (40, 40),
    "15_Surprise_tpt_tpt_tbn": (56, 56, 57),
    "40_Miserere_fl_fl_ob_cl_bn": (73, 73, 68, 71, 70),
}
SPLITS = {
    "train": ["15_Surprise_tpt_tpt_tbn", "40_Miserere_fl_fl_ob_cl_bn"],
    "validation": ["02_Sonata_vn_vn"],
}


def write_notes_file(path, rows):
    lines = [
        f"{onset:.4f}\t{440 * 2 ** ((pitch - 69) / 12):.4f}\t{end - onset:.4f}" for onset, end, pitch in rows
    ]
    path.write_text("\r\n".join(lines) + "\r\n")


def write_piece(folder, piece, tracks, seed=0):
    """The published files of a piece; audio of every track has its own level."""
    folder = folder / piece
    folder.mkdir(parents=True)
    short = "_".join(piece.split("_")[:2])
    rng = np.random.default_rng(seed)
    stems = []
    for number, (instrument, rows) in enumerate(tracks, 1):
        write_notes_file(folder / f"Notes_{number}_{instrument}_{short}.txt", rows)
        (folder / f"F0s_{number}_{instrument}_{short}.txt").write_text("0.023 440.0\n0.033 0\n")
        stems.append(rng.uniform(-0.01, 0.01, 3 * RATE // 2) * number)
        soundfile.write(folder / f"AuSep_{number}_{instrument}_{short}.wav", stems[-1], RATE, "PCM_24")
    soundfile.write(folder / f"AuMix_{piece}.wav", np.sum(stems, axis=0), RATE, "PCM_24")
    (folder / f"Sco_{piece}.mid").write_bytes(b"MThd")
    (folder / f"Vid_{piece}.mp4").write_bytes(b"")
    return folder


def write_urmp(root, pieces=PIECES):
    for seed, (piece, tracks) in enumerate(pieces.items()):
        write_piece(root / "Dataset", piece, tracks, seed)
    # Other folders are ignored, even one of a piece's name that comes first.
    clips = root / "Clips" / next(iter(pieces))
    clips.mkdir(parents=True)
    (clips / "Notes_9_vn_about.txt").write_text("not notes")
    (root / "Supplementary_Files").mkdir()
    (root / "Supplementary_Files" / "README.txt").write_text("About")
    return root


def expected_notes(piece, tracks=None):
    rows = [
        (onset, offset, round(pitch), 0, program, False)
        for number, ((_, played), program) in enumerate(zip(PIECES[piece], PLAYED[piece], strict=True), 1)
        for onset, offset, pitch in played
        if tracks is None or number in tracks
    ]
    return Notes.from_rows(rows).sorted()


def plan(*inputs, tmp_path=None, **config):
    options = PlanOptions(index_dir=tmp_path)
    return SOURCE.plan(UrmpConfig(**config), [str(given) for given in inputs], options)


def ids(made):
    return {split: [item.id for item in items] for split, items in made.items.items()}


def same_notes(found, expected):
    for column in ("pitch", "velocity", "program", "is_drum"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    np.testing.assert_allclose(found.onset_seconds, expected.onset_seconds, atol=1e-9)
    np.testing.assert_allclose(found.offset_seconds, expected.offset_seconds, atol=1e-9)


@pytest.fixture(scope="module")
def urmp(tmp_path_factory):
    return write_urmp(tmp_path_factory.mktemp("urmp"))


def test_pieces_are_recordings_of_all_tracks(urmp):
    made = plan(urmp)
    assert made.dataset == "urmp"
    assert ids(made) == SPLITS
    assert not made.skipped
    for split, items in made.items.items():
        for item in items:
            (recording,) = SOURCE.make(pickle.loads(pickle.dumps(item)))
            same_notes(recording.notes, expected_notes(item.id))
            assert (recording.id, recording.split, recording.dataset) == (item.id, split, "urmp")
            assert recording.extra["piece"] == item.id
            assert len(recording.load_audio(16000)) == 24000


def test_the_third_part_of_piece_15_is_a_trombone(urmp):
    (recording,) = SOURCE.make(plan(urmp).items["train"][0])
    assert recording.extra["instruments"] == ["tpt", "tpt", "tbn"]
    assert recording.extra["corrections"] == {"instrument_renamed": 2}
    assert Counter(recording.notes.program.tolist()) == {56: 2, 57: 2}


def test_stems_are_for_training_alone(urmp):
    made = plan(urmp, include_stems=True)
    assert ids(made)["validation"] == SPLITS["validation"]
    assert ids(made)["train"][:5] == [
        "15_Surprise_tpt_tpt_tbn",
        "15_Surprise_tpt_tpt_tbn+1_tpt",
        "15_Surprise_tpt_tpt_tbn+2_tpt",
        "15_Surprise_tpt_tpt_tbn+3_tbn",
        "40_Miserere_fl_fl_ob_cl_bn",
    ]
    (recording,) = SOURCE.make(made.items["train"][3])
    same_notes(recording.notes, expected_notes("15_Surprise_tpt_tpt_tbn", tracks=(3,)))
    # The third stem is the loudest.
    assert 0.02 < np.abs(recording.load_audio(48000)).max() <= 0.03


def test_archives_are_read_like_folders(urmp, tmp_path):
    archive = tmp_path / "URMP.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(urmp / "Dataset", "Dataset")
    made = plan(archive, tmp_path=tmp_path / "index")
    assert ids(made) == SPLITS
    (recording,) = SOURCE.make(pickle.loads(pickle.dumps(made.items["validation"][0])))
    same_notes(recording.notes, expected_notes("02_Sonata_vn_vn"))
    assert len(recording.load_audio(16000)) == 24000


def test_impossible_notes_are_dropped_and_counted(tmp_path):
    rows = [(0.1, 0.5, 60.0), (0.6, 0.6, 60.0)]
    folder = write_piece(tmp_path, "11_Maria_ob_vc", [("ob", rows), ("vc", rows[:1])])
    with (folder / "Notes_2_vc_11_Maria.txt").open("a") as file:
        file.write("\n0.7  0.0  0.1\n0.7 -1 0.1\n0.7 nan 0.1\n")
    (recording,) = SOURCE.make(plan(tmp_path).items["train"][0])
    assert recording.notes.program.tolist() == [42, 68]
    assert recording.extra["corrections"] == {"zero_length": 1, "without_pitch": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no notes; every track"),
        ("0.5 440.0 0.0\n", "has no notes; every track"),
        ("0.1 440.0 0.5\n0.7 440.0\n", "line 2: '0.7 440.0' is not onset, frequency, duration"),
        ("onset 440.0 0.5\n", "line 1: 'onset 440.0 0.5' is not"),
        ("inf 440.0 0.5\n", "line 1: 'inf 440.0 0.5' is not"),
    ],
)
def test_broken_notes_are_named(tmp_path, content, message):
    folder = write_piece(tmp_path, "11_Maria_ob_vc", [("ob", [(0.1, 0.5, 60.0)])] * 2)
    path = folder / "Notes_2_ob_11_Maria.txt"
    path.rename(folder / "Notes_2_vc_11_Maria.txt").write_text(content)
    (item,) = plan(tmp_path).items["train"]
    with pytest.raises(ValueError, match=message) as error:
        SOURCE.make(item)
    assert "Notes_2_vc_11_Maria.txt" in str(error.value)


def test_pieces_whose_files_do_not_fit_their_name_are_named(tmp_path):
    part = [(0.1, 0.5, 60.0)]
    write_piece(tmp_path, "01_Jupiter_vn_vc", [("vn", part), ("vc", part)])
    write_piece(tmp_path, "03_Dance_fl_cl", [("fl", part)])
    write_piece(tmp_path, "04_Allegro_fl_fl", [("fl", part), ("ob", part)])
    write_piece(tmp_path, "05_Entertainer_tpt_kazoo", [("tpt", part), ("kazoo", part)])
    write_piece(tmp_path, "45_More_vn_vc", [("vn", part), ("vc", part)])
    silent = write_piece(tmp_path, "06_Entertainer_sax_sax", [("sax", part), ("sax", part)])
    (silent / "AuMix_06_Entertainer_sax_sax.wav").unlink()
    made = plan(tmp_path)
    assert ids(made) == {"validation": ["01_Jupiter_vn_vc"]}
    assert {skip.item: skip.reason for skip in made.skipped} == {
        "03_Dance_fl_cl": "it has 1 files Notes_*.txt for 2 instruments",
        "04_Allegro_fl_fl": "its notes are of fl, ob, its name says fl, fl",
        "05_Entertainer_tpt_kazoo": f"its instrument 'kazoo' is none of {', '.join(PROGRAMS)}",
        "06_Entertainer_sax_sax": "it has 0 files AuMix_*.wav, there must be one",
        "45_More_vn_vc": "URMP's pieces are 01 to 44",
    }


def test_a_missing_stem_leaves_the_mix(tmp_path):
    part = [(0.1, 0.5, 60.0)]
    folder = write_piece(tmp_path, "03_Dance_fl_cl", [("fl", part), ("cl", part)])
    (folder / "AuSep_2_cl_03_Dance.wav").unlink()
    made = plan(tmp_path, include_stems=True)
    assert ids(made) == {"train": ["03_Dance_fl_cl", "03_Dance_fl_cl+1_fl"]}
    assert [(skip.item, skip.reason) for skip in made.skipped] == [
        ("03_Dance_fl_cl+2_cl", "there is no AuSep_2_cl_*.wav")
    ]


def test_other_input_is_refused(tmp_path):
    (tmp_path / "01_Jupiter").mkdir()
    with pytest.raises(SourceError, match=r"holds no folder like 01_Jupiter_vn_vc .*; give URMP's Dataset"):
        plan(tmp_path)


def test_programs():
    strings = {"vn": 40, "va": 41, "vc": 42, "db": 43}
    brass = {"tpt": 56, "tbn": 57, "tba": 58, "hn": 60}
    woodwind = {"sax": 64, "ob": 68, "bn": 70, "cl": 71, "fl": 73}
    assert {**strings, **brass, **woodwind} == PROGRAMS


def test_counts_of_the_full_listing(tmp_path):
    listing = json.loads((GOLDEN / "listings" / "urmp.json").read_text())
    for piece in listing["pieces"]:
        number, name, *instruments = piece.split("_")
        folder = tmp_path / "Dataset" / piece
        folder.mkdir(parents=True)
        names = [f"{track}_{instrument}_{number}_{name}" for track, instrument in enumerate(instruments, 1)]
        if piece in listing["misnamed"]:
            names[2] = listing["misnamed"][piece].removeprefix("Notes_").removesuffix(".txt")
        for track in names:
            (folder / f"Notes_{track}.txt").touch()
            (folder / f"AuSep_{track}.wav").touch()
        (folder / f"AuMix_{piece}.wav").touch()
    made = plan(tmp_path)
    assert not made.skipped
    counts = {f"urmp/{split}": len(items) for split, items in made.items.items()}
    assert counts == SOURCE.published_counts == {"urmp/train": 35, "urmp/validation": 9}
    numbers = {int(item.id[:2]) for item in made.items["validation"]}
    assert numbers == {1, 2, 12, 13, 24, 25, 31, 38, 39}
    pieces = [item for items in made.items.values() for item in items]
    # Duets, trios, quartets and quintets, as the dataset's paper counts them.
    assert Counter(len(item.tracks) for item in pieces) == {2: 11, 3: 12, 4: 14, 5: 7}
    assert {track.instrument for item in pieces for track in item.tracks} == set(PROGRAMS)
    stems = plan(tmp_path, include_stems=True)
    num_tracks = sum(len(item.tracks) for item in made.items["train"])
    assert len(stems.items["train"]) == 35 + num_tracks


def test_round_trip(check_round_trip, urmp):
    expected = {split: {piece: expected_notes(piece) for piece in pieces} for split, pieces in SPLITS.items()}
    manifests = check_round_trip("urmp", [str(urmp)], expected)
    assert manifests["train"].corrections == {"instrument_renamed": 2}
