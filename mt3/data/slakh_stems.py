"""The stems of a Slakh2100 track: which can be used, what they are labelled as, and their notes.

`metadata.yaml` says what each stem is and whether it has audio and labels; the
notes are those of the stems' own MIDI files. Known faults of the labels are
corrected here, as `SlakhTracksConfig` says.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mt3.data.file_tree import FileRef
from mt3.data.slakh_tracks import AUDIO_SUFFIXES, SlakhTracksConfig, Track
from mt3.symbolic.conversions import MidiError, read_midi
from mt3.symbolic.notes import Notes

_SOUND_EFFECTS = "sound effects"
_OCTAVE = 12  # semitones


@dataclasses.dataclass(frozen=True)
class InstrumentClass:
    """Instruments that are labelled alike.

    Attributes:
      name: of the class.
      program: General MIDI program that its notes get; None for drums.
      members: 0-based General MIDI programs that belong to it; none for drums, whose programs do not count.
    """

    name: str
    program: int | None
    members: Collection[int] = ()


DRUMS = InstrumentClass("Drums", None)

# The classes that MT3 labels Slakh's stems with; programs that are in none of them are not labelled.
INSTRUMENT_CLASSES: tuple[InstrumentClass, ...] = (
    InstrumentClass("Acoustic Piano", 0, (0, 1, 3, 6, 7)),
    InstrumentClass("Electric Piano", 4, (2, 4, 5)),
    InstrumentClass("Chromatic Percussion", 8, range(8, 16)),
    InstrumentClass("Organ", 16, range(16, 24)),
    InstrumentClass("Acoustic Guitar", 24, (24, 25)),
    InstrumentClass("Clean Electric Guitar", 26, (26, 27, 28)),
    InstrumentClass("Distorted Electric Guitar", 29, (29, 30, 31)),
    InstrumentClass("Acoustic Bass", 32, (32, 35)),
    InstrumentClass("Electric Bass", 33, (33, 34, 36, 37, 38, 39)),
    InstrumentClass("Violin", 40, (40,)),
    InstrumentClass("Viola", 41, (41,)),
    InstrumentClass("Cello", 42, (42,)),
    InstrumentClass("Contrabass", 43, (43,)),
    InstrumentClass("Orchestral Harp", 46, (46,)),
    InstrumentClass("Timpani", 47, (47,)),
    InstrumentClass("String Ensemble", 48, (44, 45, 48, 49)),
    InstrumentClass("Synth Strings", 50, (50, 51)),
    InstrumentClass("Choir and Voice", 52, (52, 53, 54)),
    InstrumentClass("Orchestral Hit", 55, (55,)),
    InstrumentClass("Trumpet", 56, (56, 59)),
    InstrumentClass("Trombone", 57, (57,)),
    InstrumentClass("Tuba", 58, (58,)),
    InstrumentClass("French Horn", 60, (60,)),
    InstrumentClass("Brass Section", 61, (61, 62, 63)),
    InstrumentClass("Soprano/Alto Sax", 64, (64, 65)),
    InstrumentClass("Tenor Sax", 66, (66,)),
    InstrumentClass("Baritone Sax", 67, (67,)),
    InstrumentClass("Oboe", 68, (68,)),
    InstrumentClass("English Horn", 69, (69,)),
    InstrumentClass("Bassoon", 70, (70,)),
    InstrumentClass("Clarinet", 71, (71,)),
    InstrumentClass("Pipe", 73, range(72, 80)),
    InstrumentClass("Synth Lead", 80, range(80, 88)),
    InstrumentClass("Synth Pad", 88, range(88, 96)),
    DRUMS,
)
_CLASS_OF_PROGRAM = {program: one for one in INSTRUMENT_CLASSES for program in one.members}
_BASS_PROGRAMS = range(32, 40)


def instrument_class(program: int, is_drum: bool = False) -> InstrumentClass | None:
    """The class of a 0-based General MIDI program; None where it has none."""
    return DRUMS if is_drum else _CLASS_OF_PROGRAM.get(program)


@dataclasses.dataclass(frozen=True, eq=False)
class Stem:
    """One instrument of a track that has audio and MIDI.

    Attributes:
      id: "S00".
      inst_class: family of the instrument, in the metadata's words, such as "Strings (continued)".
      program: General MIDI program, 0-based; Slakh writes 128 for drums.
      is_drum: whether it is the drums.
      plugin: what it was rendered with.
      audio, midi: its files.
    """

    id: str
    inst_class: str
    program: int
    is_drum: bool
    plugin: str
    audio: FileRef
    midi: FileRef

    @property
    def is_bass(self) -> bool:
        return not self.is_drum and self.program in _BASS_PROGRAMS


@dataclasses.dataclass(frozen=True, eq=False)
class TrackStems:
    """What the metadata of a track and its files say together.

    Attributes:
      uuid: of the MIDI file that the track was made from; empty where it is not given.
      stems: those that can be used, by id.
      skipped: id of each other stem -> why.
      flags_ignored: whether the metadata denies every stem, so that the files were believed.
    """

    uuid: str
    stems: Sequence[Stem]
    skipped: Mapping[str, str]
    flags_ignored: bool


def read_stems(track: Track, skip_unrendered: bool = True) -> TrackStems:
    """Reads `metadata.yaml`; leaves out sound effects and stems without audio or labels.

    Args:
      track: whose.
      skip_unrendered: whether `audio_rendered: false` and `midi_saved: false`
        count; where they do not, or deny every stem, a stem is there if its files are.

    Raises:
      ValueError: for metadata that is missing or broken, or for a stem whose
        file is missing though the metadata says that it is there.
      OSError: for a file that cannot be read.
    """
    metadata = _read_metadata(track)
    rows = {str(name): row for name, row in sorted(metadata["stems"].items(), key=lambda item: str(item[0]))}
    files = {name: _stem_files(track, name) for name in rows}
    # Some copies of the dataset deny every stem, though the files are there.
    flags_ignored = skip_unrendered and all(_denial(row) for row in rows.values())
    believe_files = flags_ignored or not skip_unrendered
    stems, skipped = [], {}
    for name, row in rows.items():
        audio, midi = files[name]
        if str(row.get("inst_class")).lower() == _SOUND_EFFECTS:
            skipped[name] = str(row["inst_class"])
        elif not believe_files and (denial := _denial(row)):
            skipped[name] = denial
        elif audio and midi:
            stems.append(_read_stem(track, name, row, audio, midi))
        elif believe_files:
            skipped[name] = "no audio file" if midi else "no MIDI file"
        else:
            missing = f"MIDI/{name}.mid" if audio else f"stems/{name}.flac"
            raise ValueError(
                f"{track.folder}/{missing} is missing, but metadata.yaml says it is there; fetch it again."
            )
    return TrackStems(str(metadata.get("UUID") or ""), stems, skipped, flags_ignored)


def _read_metadata(track: Track) -> Mapping[str, Any]:
    import yaml

    file = track.find("metadata.yaml")
    if file is None:
        raise ValueError(f"{track.folder}/metadata.yaml is missing; fetch the track again.")
    try:
        metadata = yaml.load(file.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} is broken YAML ({reason}); fetch it again.") from error
    stems = metadata.get("stems") if isinstance(metadata, dict) else None
    if not isinstance(stems, dict) or not all(isinstance(row, dict) for row in stems.values()):
        raise ValueError(f"{file} does not describe stems; fetch it again.")
    return metadata


def _stem_files(track: Track, name: str) -> tuple[FileRef | None, FileRef | None]:
    """Audio and MIDI."""
    audio = track.find(*(f"stems/{name}{suffix}" for suffix in AUDIO_SUFFIXES))
    return audio, track.find(f"MIDI/{name}.mid")


def _denial(row: Mapping[str, Any]) -> str:
    """What the metadata says is not there of a stem; empty where all is."""
    flags = ("audio_rendered", "midi_saved")
    return next((f"{flag} is false" for flag in flags if row.get(flag) is False), "")


def _read_stem(track: Track, name: str, row: Mapping[str, Any], audio: FileRef, midi: FileRef) -> Stem:
    program, is_drum = row.get("program_num"), row.get("is_drum")
    if not isinstance(program, int) or not isinstance(is_drum, bool):
        raise ValueError(
            f"{track.folder}/metadata.yaml: stem {name} has program_num {program!r} and is_drum {is_drum!r}; "
            "they must be a number and true or false; fetch it again."
        )
    inst_class, plugin = (str(row.get(key, "")) for key in ("inst_class", "plugin_name"))
    return Stem(name, inst_class, program, is_drum, plugin, audio, midi)


def read_notes(stem: Stem, program: int | None, config: SlakhTracksConfig) -> tuple[Notes, dict[str, int]]:
    """The notes of a stem, and how many were corrected or dropped, by the name of the correction.

    Args:
      stem: whose MIDI file is read; its own programs and channels do not count.
      program: what the notes are labelled with; None for drums.
      config: which corrections are made.

    Raises:
      ValueError: for a broken MIDI file, by name.
      OSError: for one that cannot be read.
    """
    try:
        notes = read_midi(stem.midi.read_bytes(), apply_sustain=program is not None)
    except MidiError as error:
        raise ValueError(f"{stem.midi}: {error}") from error
    notes = notes.replace(program=program or 0, is_drum=program is None)
    if not (stem.is_bass and config.octave_correction) or stem.plugin in config.octave_exceptions:
        return notes, {}
    possible = notes.pitch >= _OCTAVE
    lowered = notes[possible].replace(pitch=notes.pitch[possible] - _OCTAVE)
    return lowered, {"bass_octave": len(lowered), "out_of_range": len(notes) - len(lowered)}


def describe_mix(
    track: Track, found: TrackStems, stems: Sequence[Stem], corrections: Sequence[Mapping[str, int]]
) -> dict[str, Any]:
    """What a recording of some stems keeps of the dataset's own fields.

    Args:
      track, found: that the stems are of.
      stems: of the recording.
      corrections: made to their notes.
    """
    if found.flags_ignored:
        corrections = [*corrections, {"stem_flags_ignored": len(stems)}]
    totals = Counter[str]()
    for one in corrections:
        totals.update(one)
    return {
        "track": track.name,
        "uuid": found.uuid,
        "stems": [stem.id for stem in stems],
        "plugins": {stem.id: stem.plugin for stem in stems},
        "skipped_stems": dict(found.skipped),
        "corrections": {name: total for name, total in sorted(totals.items()) if total},
    }
