"""Pieces: what counts as the same music, splits, the cache file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.data.manifests import SkippedItem
from mt3.data.pieces import (
    Piece,
    PieceError,
    assign_splits,
    content_key,
    load_saved_pieces,
    save_pieces,
)
from mt3.symbolic.notes import Notes

FRACTIONS = {"test": 0.2, "validation": 0.2, "train": 0.6}


def pieces(make_tune, count, **options):
    return [Piece.from_notes(f"tune{seed}", make_tune(seed, **options)) for seed in range(count)]


def test_parts_are_the_instruments(make_tune):
    piece = Piece.from_notes("x", make_tune(0, programs=(40, 32)))
    for part in range(3):
        assert len(piece[piece.part == part].notes.instruments) == 1
    assert piece.part.max() == 2


def test_parts_must_match_the_notes():
    with pytest.raises(ValueError, match="part has shape"):
        Piece("x", Notes.empty(), np.zeros(1))


def test_content_key_sees_through_name_key_tempo_and_instruments(make_tune):
    original = make_tune(3)
    other = make_tune(3, transpose=5, programs=(56, 33), drums=False)
    faster = other.replace(
        onset_seconds=other.onset_seconds / 1.3 + 2.0, offset_seconds=other.offset_seconds / 1.3 + 2.0
    )
    assert content_key(Piece.from_notes("a", original)) == content_key(Piece.from_notes("b", faster))
    assert content_key(Piece.from_notes("a", original)) != content_key(Piece.from_notes("a", make_tune(4)))


def test_content_key_without_a_melody_is_of_all_notes():
    rows = [(0.5 * i, 0.5 * i + 0.1, 36 + i % 2, 90, 0, True) for i in range(40)]
    drums = Piece.from_notes("a", Notes.from_rows(rows))
    louder = Piece.from_notes("b", drums.notes.replace(velocity=120))
    changed = Piece.from_notes("a", drums.notes.replace(pitch=np.roll(drums.notes.pitch, 1)))
    assert content_key(drums) == content_key(louder)
    assert content_key(drums) != content_key(changed)
    assert content_key(Piece.from_notes("a", Notes.empty())) == content_key(
        Piece.from_notes("b", Notes.empty())
    )


def test_the_same_music_shares_a_split(make_tune):
    originals = pieces(make_tune, 60)
    copies = [Piece.from_notes(f"copy{i}", make_tune(i, transpose=i % 7 - 3)) for i in range(60)]
    splits = assign_splits([*originals, *copies], FRACTIONS)
    split_of = {piece.id: split for split, members in splits.items() for piece in members}
    assert len(split_of) == 120
    assert all(split_of[f"tune{i}"] == split_of[f"copy{i}"] for i in range(60))
    # 60 pieces: within 4 standard deviations of the shares asked for.
    assert abs(len(splits["train"]) - 72) < 4 * 2 * np.sqrt(60 * 0.6 * 0.4)
    assert all(splits.values())


def test_splits_do_not_depend_on_the_other_pieces(make_tune):
    everything = pieces(make_tune, 40)
    whole = assign_splits(everything, FRACTIONS)
    part = assign_splits(everything[10:30], FRACTIONS)
    for split, members in part.items():
        assert {piece.id for piece in members} <= {piece.id for piece in whole[split]}


@settings(deadline=None, max_examples=20)
@given(first=st.integers(0, 100), count=st.integers(3, 6))
def test_required_splits_are_never_empty(make_tune, first, count):
    few = [Piece.from_notes(f"{seed}", make_tune(seed)) for seed in range(first, first + count)]
    splits = assign_splits(few, FRACTIONS, required=FRACTIONS)
    assert all(splits.values())
    assert sum(len(members) for members in splits.values()) == count


def test_too_few_pieces_for_the_splits(make_tune):
    same = [Piece.from_notes(f"{i}", make_tune(0)) for i in range(5)]
    with pytest.raises(PieceError, match="1 different pieces are too few"):
        assign_splits(same, FRACTIONS, required=FRACTIONS)


def test_saved_pieces_come_back(tmp_path, make_tune):
    some = [*pieces(make_tune, 3), Piece("empty", Notes.empty(), np.zeros(0), licence="CC0")]
    path = tmp_path / "folder" / "x.npz"
    save_pieces(path, some, [SkippedItem("bad.mid", "broken")])
    found, skipped = load_saved_pieces(path)
    assert [piece.id for piece in found] == [piece.id for piece in some]
    assert all(
        a.notes == b.notes and np.array_equal(a.part, b.part) and a.licence == b.licence
        for a, b in zip(found, some, strict=True)
    )
    assert skipped == [SkippedItem("bad.mid", "broken")]
    assert [path.name for path in path.parent.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 broken"])
def test_damaged_saved_pieces_are_named(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(PieceError, match=r"x\.npz holds no saved pieces"):
        load_saved_pieces(path)
    with pytest.raises(PieceError, match="holds no saved pieces"):
        load_saved_pieces(tmp_path / "missing.npz")
