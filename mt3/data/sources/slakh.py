"""Slakh2100: music rendered from MIDI, with the stems of its instruments.

From a training track come sub-mixes of its instruments, drawn at random; a track
for validation or test is the full mix. Labels are those of the stems' own MIDI
files, with the program of the stem's class (`mt3.data.slakh_stems`). The authors
of MT3 did not publish the seed of their sub-mixes: ours are a function of the
seed and the track's number, whatever else is prepared.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mt3.data.recordings import AudioFile, EncodedAudio, Recording
from mt3.data.slakh_stems import (
    INSTRUMENT_CLASSES,
    InstrumentClass,
    Stem,
    TrackStems,
    describe_mix,
    instrument_class,
    read_notes,
    read_stems,
)
from mt3.data.slakh_tracks import (
    DOWNLOADS,
    HOMEPAGE,
    LICENCE,
    SlakhTracksConfig,
    TrackItem,
    check_at_least,
    check_choice,
    draw_distinct,
    find_mix,
    plan_tracks,
)
from mt3.data.sources.base import LeftOut, Plan, PlanOptions, Source
from mt3.data.stem_mixing import mix_stems
from mt3.symbolic.notes import Notes

DATASET = "slakh"

_SUBMIXES = 1  # what the random numbers are for


@dataclasses.dataclass(frozen=True)
class SlakhConfig(SlakhTracksConfig):
    """Which recordings are made of a track; the fields of `SlakhTracksConfig` come first.

    Attributes:
      num_submixes: recordings of a training track; fewer where it has fewer combinations.
      min_instruments: classes of instruments in a sub-mix, at least; a track
        that has fewer gives one recording, of all it has.
      full_mix: audio of validation and test: "mix" for the published mix, as
        scored in the literature, in which unlabelled instruments sound too;
        "stems" for the sum of the labelled stems.
    """

    num_submixes: int = 10
    min_instruments: int = 4
    full_mix: str = "mix"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("num_submixes", self.num_submixes, 1)
        check_at_least("min_instruments", self.min_instruments, 1)
        check_choice("full_mix", self.full_mix, ("mix", "stems"))


def plan(config: SlakhConfig, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """One item a track; only names are looked at.

    Raises:
      SourceError: when there is no track, or one is there twice.
    """
    return plan_tracks(DATASET, config, inputs, options)


def make(item: TrackItem) -> list[Recording]:
    """The sub-mixes "Track00001+0", "Track00001+1", ... of a training track, or the full mix "Track01501".

    Raises:
      LeftOut: when no stem is left.
      ValueError, OSError: for files that are missing or cannot be used.
    """
    config: SlakhConfig = item.config
    found, groups = group_stems(read_stems(item.track, config.skip_unrendered))
    if not groups:
        raise LeftOut("no stem has both audio and labels")
    if item.split == "train":
        rng = np.random.default_rng([_SUBMIXES, config.seed, item.track.number])
        mixes = choose_submixes(len(groups), config.min_instruments, config.num_submixes, rng)
        ids = [f"{item.id}+{number}" for number in range(len(mixes))]
    else:
        mixes, ids = [tuple(range(len(groups)))], [item.id]
    labels = {
        stem.id: read_notes(stem, group.instrument.program, config)
        for group in groups
        for stem in group.stems
    }
    return [
        _recording(item, id, found, [groups[member] for member in mix], labels, audio)
        for id, mix, audio in zip(ids, mixes, _encode(item, groups, mixes), strict=True)
    ]


def _encode(
    item: TrackItem, groups: Sequence[StemGroup], mixes: Sequence[Sequence[int]]
) -> list[EncodedAudio]:
    config: SlakhConfig = item.config
    if item.split != "train" and config.full_mix == "mix":
        mix = AudioFile(find_mix(item.track))
        return [EncodedAudio.of(mix, config.sample_rate, config.audio_format)]
    audio = [[stem.audio for stem in group.stems] for group in groups]
    return mix_stems(audio, mixes, config.sample_rate, config.audio_format)


def _recording(
    item: TrackItem,
    id: str,
    found: TrackStems,
    groups: Sequence[StemGroup],
    labels: Mapping[str, tuple[Notes, Mapping[str, int]]],
    audio: EncodedAudio,
) -> Recording:
    stems = [stem for group in groups for stem in group.stems]
    notes = Notes.concatenate([labels[stem.id][0] for stem in stems]).sorted()
    extra = describe_mix(item.track, found, stems, [labels[stem.id][1] for stem in stems])
    classes = [group.instrument.name for group in groups]
    return Recording(
        id=id,
        notes=notes,
        audio=audio,
        dataset=DATASET,
        split=item.split,
        licence=LICENCE,
        extra={**extra, "classes": classes},
    )


@dataclasses.dataclass(frozen=True, eq=False)
class StemGroup:
    """The stems of one class: to the labels, one instrument."""

    instrument: InstrumentClass
    stems: Sequence[Stem]


def group_stems(found: TrackStems) -> tuple[TrackStems, list[StemGroup]]:
    """Stems by class, in the order of `INSTRUMENT_CLASSES`; those without a class become skipped ones."""
    classes = {stem.id: instrument_class(stem.program, stem.is_drum) for stem in found.stems}
    skipped = {
        stem.id: f"program {stem.program} has no class" for stem in found.stems if classes[stem.id] is None
    }
    labelled = [stem for stem in found.stems if stem.id not in skipped]
    groups = [
        StemGroup(one, [stem for stem in labelled if classes[stem.id] == one]) for one in INSTRUMENT_CLASSES
    ]
    all_skipped = dict(sorted({**found.skipped, **skipped}.items()))
    found = dataclasses.replace(found, stems=labelled, skipped=all_skipped)
    return found, [group for group in groups if group.stems]


def choose_submixes(
    num_instruments: int, min_instruments: int, num_submixes: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Which instruments sound together in each sub-mix.

    All combinations of at least `min_instruments` where there are no more than
    `num_submixes`, else so many different ones, each equally likely: sizes
    occur in proportion to how many combinations they have.

    Args:
      num_instruments: of the track, numbered from 0.
      min_instruments: of a combination; with fewer in the track it is all that there is.
      num_submixes: combinations at most.
      rng: of the draw.

    Returns:
      Combinations, each in ascending order.
    """
    sizes = range(min(min_instruments, num_instruments), num_instruments + 1)
    ends = list(itertools.accumulate(math.comb(num_instruments, size) for size in sizes))
    chosen = []
    for rank in draw_distinct(ends[-1], num_submixes, rng):
        index = next(index for index, end in enumerate(ends) if rank < end)
        before = ends[index - 1] if index else 0
        chosen.append(_combination(num_instruments, sizes[index], rank - before))
    return chosen


def _combination(num_items: int, size: int, rank: int) -> tuple[int, ...]:
    """Number `rank` of `itertools.combinations(range(num_items), size)`, without going through the others."""
    members: list[int] = []
    for item in range(num_items):
        if len(members) == size:
            break
        with_item = math.comb(num_items - item - 1, size - len(members) - 1)
        if rank < with_item:
            members.append(item)
        else:
            rank -= with_item
    return tuple(members)


SOURCE = Source(
    name="slakh",
    config=SlakhConfig,
    plan=plan,
    make=make,
    licence=LICENCE,
    homepage=HOMEPAGE,
    downloads=DOWNLOADS,
    # Of redux. Its 1289 training tracks have up to 10 sub-mixes each, as many as their instruments allow.
    published_counts={"slakh/validation": 270, "slakh/test": 151},
    items_per_shard=4,
)
