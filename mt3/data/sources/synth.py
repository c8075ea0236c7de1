"""A dataset like Slakh from any scores: arranged, rendered with SoundFonts, mixed.

Music comes from music21's corpus or from MIDI files; the pieces of the three
splits differ. Every recording is a function of (configuration, split, index):
its labels are exactly the notes that are rendered.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mt3.audio.synthesis import make_synthesizer
from mt3.data.arranging import ArrangementConfig, arrange, playable
from mt3.data.augmentation import NO_AUGMENTATION, AugmentationConfig, augment
from mt3.data.manifests import SkippedItem
from mt3.data.piece_collections import load_pieces
from mt3.data.pieces import Piece, PieceError, assign_splits
from mt3.data.recordings import DeferredAudio, EncodedAudio, Recording, SampledAudio
from mt3.data.sources.base import SPLITS, Plan, PlanOptions, Source
from mt3.symbolic.notes import Notes

LICENCE = "rendered by mt3"

# What a generator is for: choices of one kind do not depend on how many of another were made.
# 0 is left out: trailing zeros do not change a seed.
_ORDER, _ARRANGEMENT, _STEMS, _SUBMIXES, _MIXES = range(1, 6)


@dataclasses.dataclass(frozen=True)
class SynthConfig(ArrangementConfig):
    """What music is rendered, and how; the arrangement's fields come first.

    Attributes:
      collections: where music comes from; see `piece_collections.load_pieces`.
      num_train, num_validation, num_test: recordings, each of one piece; more
        than there are pieces means several arrangements of each; None for one
        of each piece; 0 leaves out the split.
      validation_fraction, test_fraction: shares of the pieces.
      min_notes: recordings of fewer notes are left out.
      num_submixes: further recordings of each, of some of its stems.
      include_stems: further recordings of each, one for each stem.
      soundfonts: SoundFont files; each stem is rendered with one of them, drawn
        at random. Empty for the General MIDI one of pretty_midi.
      stem_gain_db: lowest and highest gain of a stem.
      lead_seconds: longest silence before the first note.
      tail_seconds: rendered after the last offset.
      augmentation: what is done to each mix; by default only a level of -3 dB.
      sample_rate: in Hz.
      audio_format: of the records, "flac" or "pcm16".
      synthesizer: see `mt3.audio.synthesis`.
      dataset: name of the dataset.
      seed: of all choices but the splits, which depend on the music alone.
    """

    collections: tuple[str, ...] = ("bach_chorales",)
    num_train: int | None = None
    num_validation: int | None = None
    num_test: int | None = None
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    min_notes: int = 8
    num_submixes: int = 0
    include_stems: bool = False
    soundfonts: tuple[str, ...] = ()
    stem_gain_db: tuple[float, float] = (-8.0, 0.0)
    lead_seconds: float = 0.5
    tail_seconds: float = 1.0
    augmentation: AugmentationConfig = NO_AUGMENTATION
    sample_rate: int = 16000
    audio_format: str = "flac"
    synthesizer: str = "auto"
    dataset: str = "synth"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # gin and JSON give lists.
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        if not self.collections:
            raise ValueError("collections is empty; name music, such as ('bach_chorales',).")
        held_out = self.validation_fraction + self.test_fraction
        if not (self.validation_fraction >= 0 and self.test_fraction >= 0 and held_out < 1):
            raise ValueError(
                f"validation_fraction + test_fraction is {held_out}; "
                "they must be 0 or more and leave music to train on."
            )

    def num_recordings(self, split: str) -> int | None:
        """How many recordings of a split are asked for."""
        return {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}[split]


@dataclasses.dataclass(frozen=True, eq=False)
class SynthJob:
    """One recording to be made.

    Attributes:
      config: how.
      piece: of which piece.
      split: for which split.
      key: numbers that, with the configuration's seed, fix all choices.
      rendition: counts the recordings of this piece in the split, from 0.
    """

    config: SynthConfig
    piece: Piece
    split: str
    key: tuple[int, ...]
    rendition: int = 0

    @property
    def id(self) -> str:
        """Of the recording of the full mix."""
        return self.piece.id + (f"@{self.rendition}" if self.rendition else "")

    def rng(self, purpose: int, number: int = 0) -> np.random.Generator:
        """A generator of its own for each purpose."""
        return np.random.default_rng([purpose, self.config.seed, *self.key, number])


@dataclasses.dataclass(frozen=True, eq=False)
class Stems:
    """The rendered instruments of a recording.

    Attributes:
      notes: what each stem plays, exactly.
      samples: float32 [num_stems, num_samples], gains applied.
    """

    notes: tuple[Notes, ...]
    samples: np.ndarray


def arranged_notes(job: SynthJob) -> Notes:
    """The notes that a recording is to have, before silent ones are left out.

    Raises:
      PieceError: when fewer remain than the configuration wants.
    """
    rng = job.rng(_ARRANGEMENT)
    notes = arrange(job.piece, job.config, rng).shift(rng.uniform(0.0, job.config.lead_seconds))
    if len(notes) < job.config.min_notes:
        raise PieceError(
            f"{len(notes)} notes are left within the arrangement's bounds; "
            f"min_notes is {job.config.min_notes}"
        )
    return notes


def stem_notes(job: SynthJob) -> list[tuple[Notes, Path | None, float]]:
    """For each instrument its notes, its SoundFont and its gain; without notes that the font lacks."""
    config, rng = job.config, job.rng(_STEMS)
    notes = arranged_notes(job)
    stems = []
    for program, is_drum in notes.instruments:
        soundfont = Path(str(rng.choice(config.soundfonts))) if config.soundfonts else None
        gain = 10 ** (rng.uniform(*config.stem_gain_db) / 20)
        played = notes[(notes.is_drum == is_drum) & (is_drum | (notes.program == program))]
        if is_drum:
            played = playable(played.replace(program=0))  # one kit, whatever was written
        synthesizer = make_synthesizer(soundfont, config.sample_rate, config.synthesizer)
        played = played[synthesizer.is_sounding(played)]
        if len(played):
            stems.append((played, soundfont, gain))
    return stems


def render_stems(job: SynthJob) -> Stems:
    """Renders every instrument of a recording."""
    stems = stem_notes(job)
    if not stems:
        raise PieceError("none of its notes has a sound in the SoundFont")
    seconds = max(notes.end_seconds for notes, _, _ in stems) + job.config.tail_seconds
    samples = []
    for notes, soundfont, gain in stems:
        synthesizer = make_synthesizer(soundfont, job.config.sample_rate, job.config.synthesizer)
        samples.append(synthesizer.render(notes, duration_seconds=seconds, gain=gain))
    return Stems(tuple(notes for notes, _, _ in stems), np.stack(samples))


def mix_stems(
    job: SynthJob, stems: Stems, members: Sequence[int], number: int = 0
) -> tuple[Notes, np.ndarray]:
    """Notes and samples, float32 [num_samples], of some stems together; `number` tells mixes apart."""
    mixed = stems.samples[list(members)].sum(axis=0)
    samples = augment(mixed, job.config.sample_rate, job.config.augmentation, job.rng(_MIXES, number))
    return Notes.concatenate([stems.notes[member] for member in members]).sorted(), samples


def make_recordings(job: SynthJob) -> list[Recording]:
    """The full mix of a job, then its sub-mixes and stems as the configuration says; audio encoded."""
    stems = render_stems(job)
    recordings = []
    for number, (suffix, members) in enumerate(_mixes(job, len(stems.notes))):
        notes, samples = mix_stems(job, stems, members, number)
        audio = EncodedAudio.encode(samples, job.config.sample_rate, job.config.audio_format)
        recordings.append(_recording(job, notes, audio, suffix))
    return recordings


def _mixes(job: SynthJob, num_stems: int) -> Iterator[tuple[str, list[int]]]:
    """What is appended to the id, and the stems, of each recording of a job."""
    everything = list(range(num_stems))
    yield "", everything
    if num_stems == 1:
        return
    rng = job.rng(_SUBMIXES)
    for number in range(1, job.config.num_submixes + 1):
        size = int(rng.integers(1, num_stems))
        yield f"+mix{number}", sorted(rng.choice(num_stems, size, replace=False).tolist())
    if job.config.include_stems:
        yield from ((f"+stem{number}", [number]) for number in everything)


def _recording(
    job: SynthJob, notes: Notes, audio: EncodedAudio | DeferredAudio, suffix: str = ""
) -> Recording:
    licence = f"{LICENCE}; {job.piece.licence}" if job.piece.licence else LICENCE
    return Recording(
        id=job.id + suffix,
        notes=notes,
        audio=audio,
        dataset=job.config.dataset,
        split=job.split,
        licence=licence,
        extra={"piece": job.piece.id, "rendition": job.rendition},
    )


def split_pieces(
    config: SynthConfig, *, cache_dir: Path | str | None = None, workers: int = 0, strict: bool = False
) -> tuple[dict[str, list[Piece]], list[SkippedItem]]:
    """The pieces of each split, and what could not be read."""
    pieces, skipped = load_pieces(config.collections, cache_dir=cache_dir, workers=workers, strict=strict)
    held_out = config.validation_fraction + config.test_fraction
    # Held-out music first: its share of the hashes stays where it is when shares of training change.
    fractions = {
        "test": config.test_fraction,
        "validation": config.validation_fraction,
        "train": 1.0 - held_out,
    }
    required = [split for split in SPLITS if config.num_recordings(split) != 0 and fractions[split] > 0]
    return assign_splits(pieces, fractions, required=required), skipped


def make_jobs(config: SynthConfig, split: str, pieces: Sequence[Piece]) -> list[SynthJob]:
    """The recordings of a split: all pieces in random order, then all again, as many as asked for."""
    wanted = config.num_recordings(split)
    count = len(pieces) if wanted is None else wanted
    if count and not pieces:
        raise PieceError(f"No music is left for split {split!r}; raise its fraction or name more music.")
    split_index = SPLITS.index(split)
    order_rng = np.random.default_rng([_ORDER, config.seed, split_index])
    rounds = -(-count // len(pieces)) if pieces else 0
    order = [
        (rendition, piece) for rendition in range(rounds) for piece in order_rng.permutation(len(pieces))
    ]
    return [
        SynthJob(config, pieces[piece], split, (split_index, index), rendition)
        for index, (rendition, piece) in enumerate(order[:count])
    ]


def plan(config: SynthConfig, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """The recordings of all splits; `inputs` are collections, in place of the configuration's.

    Raises:
      ValueError: for music or SoundFonts that cannot be used.
    """
    if inputs:
        config = dataclasses.replace(config, collections=tuple(inputs))
    backends = _check_synthesizers(config)
    pieces, skipped = split_pieces(
        config, cache_dir=options.cache_dir, workers=options.workers, strict=options.strict
    )
    jobs = {split: make_jobs(config, split, pieces[split]) for split in SPLITS}
    jobs = {split: made for split, made in jobs.items() if made}
    used = [piece for split in jobs for piece in pieces[split]]
    return Plan(config.dataset, jobs, _describe(config, backends, used), skipped, config.seed)


def _check_synthesizers(config: SynthConfig) -> list[str]:
    """Names of the synthesizers that will be used, so that unusable ones are told before any work."""
    fonts = config.soundfonts or (None,)
    return sorted({make_synthesizer(font, config.sample_rate, config.synthesizer).backend for font in fonts})


def _describe(config: SynthConfig, backends: Sequence[str], pieces: Sequence[Piece]) -> Mapping[str, Any]:
    """What a split was made from, for its manifest."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.id.encode())
        for column in (piece.notes.onset_seconds, piece.notes.pitch, piece.part):
            digest.update(column.tobytes())
    return {**dataclasses.asdict(config), "synthesizer": list(backends), "pieces_sha256": digest.hexdigest()}


def synthetic_recordings(
    config: SynthConfig,
    split: str = "validation",
    count: int | None = None,
    *,
    cache_dir: Path | str | None = None,
    workers: int = 0,
) -> list[Recording]:
    """Recordings without any files: the ones that preparing writes, full mixes only.

    The audio is rendered whenever `load_audio` is called; only notes are kept.

    Args:
      config: what music, and how it is rendered.
      split: train, validation or test.
      count: how many; None for as many as the configuration says.
      cache_dir: for parsed pieces.
      workers: processes that parse music which is not in the cache.
    """
    pieces, _ = split_pieces(config, cache_dir=cache_dir, workers=workers)
    if count is not None:
        name = {"train": "num_train", "validation": "num_validation", "test": "num_test"}[split]
        config = dataclasses.replace(config, **{name: count})
    recordings = []
    for job in make_jobs(config, split, pieces[split]):
        try:
            notes = Notes.concatenate([notes for notes, _, _ in stem_notes(job)]).sorted()
        except PieceError:
            continue  # left out when preparing, too
        recordings.append(_recording(job, notes, DeferredAudio(functools.partial(_render, job))))
    return recordings


def _render(job: SynthJob) -> SampledAudio:
    stems = render_stems(job)
    _, samples = mix_stems(job, stems, range(len(stems.notes)))
    return SampledAudio(samples, job.config.sample_rate)


SOURCE = Source(
    name="synth",
    config=SynthConfig,
    plan=plan,
    make=make_recordings,
    licence=LICENCE,
    # A piece is rendered in about a second: small shards keep all cores busy to the end.
    items_per_shard=8,
)
