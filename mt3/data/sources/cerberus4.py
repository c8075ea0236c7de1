"""Cerberus4: mixes of one piano, one guitar, one bass and one drum stem, made of Slakh2100.

Every combination of such stems of a track is a recording, in all splits. The
paper counts 960 for training, 235 for validation and 132 for testing, of 20 to
26 minutes each. A track lasts about four minutes, so that these seem to be
tracks (of the original split, by their proportions), each with all its mixes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from mt3.data.recordings import Recording
from mt3.data.slakh_stems import Stem, describe_mix, read_notes, read_stems
from mt3.data.slakh_tracks import (
    DOWNLOADS,
    HOMEPAGE,
    LICENCE,
    SlakhTracksConfig,
    TrackItem,
    check_at_least,
    draw_distinct,
    plan_tracks,
)
from mt3.data.sources.base import LeftOut, Plan, PlanOptions, Source
from mt3.data.stem_mixing import mix_stems
from mt3.symbolic.notes import Notes

DATASET = "cerberus4"

# Slakh's inst_class -> program, in the order of the tracks; drums have none.
FAMILIES: dict[str, int | None] = {"Bass": 32, "Drums": None, "Guitar": 24, "Piano": 0}

_MIXES = 2  # what the random numbers are for


@dataclasses.dataclass(frozen=True)
class Cerberus4Config(SlakhTracksConfig):
    """Which recordings are made of a track; the fields of `SlakhTracksConfig` come first.

    Attributes:
      max_mixes_per_track: so many of a track's combinations, drawn at random; None for all.
    """

    max_mixes_per_track: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_mixes_per_track is not None:
            check_at_least("max_mixes_per_track", self.max_mixes_per_track, 1)


def plan(config: Cerberus4Config, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """One item a track; only names are looked at.

    Raises:
      SourceError: when there is no track, or one is there twice.
    """
    return plan_tracks(DATASET, config, inputs, options)


def make(item: TrackItem) -> list[Recording]:
    """The mixes of a track, named by its stems: "Track00001+S03+S01+S00+S02" (bass, drums, guitar, piano).

    Raises:
      LeftOut: when the track lacks one of the four.
      ValueError, OSError: for files that are missing or cannot be used.
    """
    config: Cerberus4Config = item.config
    found = read_stems(item.track, config.skip_unrendered)
    families = {family: [stem for stem in found.stems if stem.inst_class == family] for family in FAMILIES}
    missing = [family.lower() for family, stems in families.items() if not stems]
    if missing:
        raise LeftOut(f"it has no stem of {' and '.join(missing)} with both audio and labels")
    combinations = _choose_combinations(item, list(families.values()))
    used = list(dict.fromkeys(stem for combination in combinations for stem in combination))
    labels = {stem: read_notes(stem, FAMILIES[stem.inst_class], config) for stem in used}
    members = [[used.index(stem) for stem in combination] for combination in combinations]
    audio = mix_stems([[stem.audio] for stem in used], members, config.sample_rate, config.audio_format)
    return [
        Recording(
            id="+".join([item.id, *(stem.id for stem in stems)]),
            notes=Notes.concatenate([labels[stem][0] for stem in stems]).sorted(),
            audio=mix,
            dataset=DATASET,
            split=item.split,
            licence=LICENCE,
            extra=describe_mix(item.track, found, stems, [labels[stem][1] for stem in stems]),
        )
        for stems, mix in zip(combinations, audio, strict=True)
    ]


def _choose_combinations(item: TrackItem, families: Sequence[Sequence[Stem]]) -> list[tuple[Stem, ...]]:
    """One stem of each family: all ways, or as many as the configuration allows, in order."""
    combinations = list(itertools.product(*families))
    config: Cerberus4Config = item.config
    if config.max_mixes_per_track is None:
        return combinations
    rng = np.random.default_rng([_MIXES, config.seed, item.track.number])
    chosen = draw_distinct(len(combinations), config.max_mixes_per_track, rng)
    return [combinations[index] for index in sorted(chosen)]


SOURCE = Source(
    name="cerberus4",
    config=Cerberus4Config,
    plan=plan,
    make=make,
    licence=LICENCE,
    homepage=HOMEPAGE,
    downloads=DOWNLOADS,
    items_per_shard=6,
)
