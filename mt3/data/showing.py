"""Shows what a model is taught: examples of a task as sound, notes and pictures.

`show_task` takes examples from the very pipeline that training reads, decodes
their targets as a transcriber decodes a model's tokens, and writes the audio,
the notes as MIDI and as sound, a picture, and a page that lists them.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mt3 import files
from mt3.audio.io import write_audio
from mt3.audio.spectrograms import SpectrogramConfig, log_mel_numpy
from mt3.audio.synthesis import Synthesizer, make_synthesizer
from mt3.data.pictures import ExamplePicture, example_picture
from mt3.data.prepared import DataDirectories
from mt3.data.seqio_batches import load_tensorflow
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import DEFAULT_VELOCITY, NUM_SPECIAL_IDS, velocity_to_bin

# What is read is that of MT3's spectrogram; its frame rate is the tokenizers'.
_SPECTROGRAM = SpectrogramConfig()

# Tied notes are made to begin this long before the example.
_LEAD_SECONDS = 1


@dataclasses.dataclass(frozen=True, eq=False)
class TaskExample:
    """An example as it leaves a task.

    Attributes:
      inputs: float32 [num_frames, hop_samples] audio frames.
      targets: int32 [num_tokens] target ids, EOS included.
      recording: its id; None where the task does not tell (training).
      start_frame: of the example in the recording; None likewise.
    """

    inputs: np.ndarray
    targets: np.ndarray
    recording: str | None = None
    start_frame: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedExample:
    """The notes that the targets of one example tell.

    Attributes:
      notes: times from the start of the example, cut to it.
      sounds_before: bool [num_notes], in the tie section: began before.
      sounds_after: bool [num_notes], not ended within the example.
      invalid_events: tokens that make no sense; without ties, also the ends of
        notes that began before.
    """

    notes: Notes
    sounds_before: np.ndarray
    sounds_after: np.ndarray
    invalid_events: int


@dataclasses.dataclass(frozen=True, eq=False)
class ShownExample:
    """An example and the files that show it.

    Attributes:
      title: which example of which task, how many tokens.
      example: as it left the task.
      decoded: its notes.
      audio: WAV file of the inputs.
      midi: of the notes.
      rendered: WAV file of the notes, as a SoundFont plays them; None if not asked for.
      picture: PNG file.
    """

    title: str
    example: TaskExample
    decoded: DecodedExample
    audio: Path
    midi: Path
    rendered: Path | None
    picture: Path


def show_task(
    task_name: str,
    data_dir: DataDirectories | None,
    output_dir: Path | str,
    *,
    count: int = 8,
    seed: int = 0,
    shuffle: bool = True,
    input_frames: int = 256,
    max_target_tokens: int = 1024,
    max_examples_per_mix: int = 1,
    cache_dir: Path | str | None = None,
    tokenizers: Sequence[Tokenizer] = (),
    mixture_datasets: str | Sequence[str] = "paper",
    missing_datasets: str = "error",
    render: bool = True,
    soundfont: Path | str | None = None,
) -> list[ShownExample]:
    """Writes examples of a task or mixture as files, and `index.html` that shows them.

    Args:
      task_name: of a task or mixture.
      data_dir: of prepared datasets; None where the tasks are registered already.
      output_dir: made where it is not there; files of the same names are replaced.
      count: how many examples; there are fewer where the data ends.
      seed: of the order and of all random cuts.
      shuffle: whether examples come in random order; without, evaluation tasks
        give the segments of a recording one after the other.
      input_frames, max_target_tokens: size of an example.
      max_examples_per_mix: most segments that are summed into an example.
      cache_dir: of caches; they are read where all tasks have one, as in training.
      tokenizers: by which tasks are named; by default MT3's three.
      mixture_datasets, missing_datasets: see `mt3.data.tasks.find_provider`.
      render: also play the decoded notes with a SoundFont.
      soundfont: which; by default the one that comes with the project.

    Raises:
      MissingDatasetError: when the task, its dataset or its cache is not there.
      SynthesisError, SoundFontError: when notes cannot be rendered.
      ValueError: for settings out of range.
    """
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1.")
    synthesizer = make_synthesizer(soundfont, _SPECTROGRAM.sample_rate) if render else None
    provider = _find_provider(
        task_name,
        data_dir,
        tokenizers=tokenizers,
        mixture_datasets=mixture_datasets,
        missing_datasets=missing_datasets,
        max_examples_per_mix=max_examples_per_mix,
    )
    tokenizer, examples = _take_examples(
        provider,
        count=count,
        seed=seed,
        shuffle=shuffle,
        lengths={"inputs": input_frames, "targets": max_target_tokens},
        cache_dir=cache_dir,
    )
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    shown = []
    for index, example in enumerate(examples):
        decoded = decode_example(example, tokenizer)
        title = _title(task_name, index, example, decoded, max_target_tokens)
        shown.append(_write_example(title, output_dir / f"{index:03d}", example, decoded, synthesizer))
    files.write_text(output_dir / "index.html", _page(task_name, shown))
    return shown


def _find_provider(
    task_name: str,
    data_dir: DataDirectories | None,
    *,
    tokenizers: Sequence[Tokenizer],
    max_examples_per_mix: int,
    **choices: Any,
) -> Any:
    """The seqio task or mixture."""
    load_tensorflow()
    from mt3.data import tasks

    return tasks.find_provider(
        task_name,
        data_dir,
        tokenizers=tokenizers or tasks.DEFAULT_TOKENIZERS,
        options=tasks.TaskOptions(max_examples_per_mix=max_examples_per_mix),
        **choices,
    )


def _take_examples(
    provider: Any,
    *,
    count: int,
    seed: int,
    shuffle: bool,
    lengths: dict[str, int],
    cache_dir: Path | str | None,
) -> tuple[Tokenizer, list[TaskExample]]:
    """The first examples of a task or mixture and the tokenizer of their targets."""
    from mt3.data import features, tasks

    members = tasks.tasks_of(provider)
    split = members[0].kind.split
    tasks.add_cache_directory(cache_dir)
    use_cached = all(task.cache_dir is not None for task in members)
    if use_cached:
        for task in members:
            task.check_cache(split)
    settings = {"split": split, "use_cached": use_cached, "shuffle": shuffle, "seed": seed, "num_epochs": 1}
    if members != [provider]:
        settings["passthrough_features"] = ["id", "start_frame"]  # a mixture would drop them
    dataset = provider.get_dataset(lengths, **settings).take(count)
    rows = features.numpy_examples(dataset, provider, split, use_cached)
    return members[0].tokenizer, [_task_example(row) for row in rows]


def _task_example(features: dict[str, Any]) -> TaskExample:
    id_bytes, start_frame = features.get("id"), features.get("start_frame")
    return TaskExample(
        inputs=features["inputs"],
        targets=features["targets"],
        recording=None if id_bytes is None else id_bytes.decode(),
        start_frame=None if start_frame is None else int(start_frame),
    )


def decode_example(example: TaskExample, tokenizer: Tokenizer) -> DecodedExample:
    """The notes that the targets of an example tell, tied ones included.

    Where the start of the example in its recording is known, times are met to
    half a step; else a step may be missing, as target times count from the step
    in which an example starts.
    """
    steps_per_second = tokenizer.vocabulary.steps_per_second
    seconds = len(example.inputs) / tokenizer.frames_per_second
    # No event of the example is this late, wherever between two steps it starts.
    end_seconds = np.ceil(seconds * steps_per_second - 1e-6) / steps_per_second
    opening, closing = _neighbours(example.targets, tokenizer)
    decoded = tokenizer.decode(
        [(0, opening), (_LEAD_SECONDS, example.targets), (_LEAD_SECONDS + end_seconds, closing)]
    )
    notes = decoded.notes.shift(-_LEAD_SECONDS)
    half_step = 0.5 / steps_per_second
    sounds_before = notes.onset_seconds < -half_step
    has_ends = ~notes.is_drum & (not tokenizer.onsets_only)
    sounds_after = has_ends & (notes.offset_seconds > end_seconds - half_step)
    start_seconds = (example.start_frame or 0) / tokenizer.frames_per_second
    start_step = np.floor(start_seconds * steps_per_second + 1e-6)
    notes = notes.shift(start_step / steps_per_second - start_seconds)
    notes = notes.replace(
        onset_seconds=np.clip(notes.onset_seconds, 0.0, seconds),
        offset_seconds=np.where(sounds_after, seconds, np.clip(notes.offset_seconds, 0.0, seconds)),
    )
    order = np.lexsort((notes.pitch, notes.program, notes.is_drum, notes.onset_seconds))
    order = order[(notes.offset_seconds > notes.onset_seconds)[order]]
    return DecodedExample(notes[order], sounds_before[order], sounds_after[order], decoded.invalid_events)


def _neighbours(targets: np.ndarray, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Target ids of a segment before the example, in which the tied notes begin, and of one after it.

    A decoder ties only what it has heard begin; and it ends what still sounds
    with the last event, unless a further segment says until when it sounds.
    """
    codec, vocabulary = tokenizer.codec, tokenizer.vocabulary
    if tokenizer.onsets_only:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    silence = codec.encode("velocity", [0])
    if not tokenizer.ties:
        return np.zeros(0, np.int32), silence + NUM_SPECIAL_IDS
    tie = codec.encode("tie", [0])
    events = np.asarray(targets) - NUM_SPECIAL_IDS
    ends = np.flatnonzero((events == tie[0]) | (events < 0))
    tied = events[: ends[0]] if len(ends) else events
    velocity = codec.encode("velocity", [velocity_to_bin(DEFAULT_VELOCITY, vocabulary.num_velocity_bins)])
    return np.concatenate([tie, velocity, tied]) + NUM_SPECIAL_IDS, tie + NUM_SPECIAL_IDS


def _title(
    task_name: str, index: int, example: TaskExample, decoded: DecodedExample, max_target_tokens: int
) -> str:
    where = f"example {index}"
    if example.recording is not None and example.start_frame is not None:
        seconds = example.start_frame * _SPECTROGRAM.hop_samples / _SPECTROGRAM.sample_rate
        where = f"{example.recording} from {seconds:.3f} s"
    tokens = f"{len(example.targets):,} of {max_target_tokens:,} tokens"
    return f"{task_name}: {where}\n{tokens}, {len(decoded.notes):,} notes"


def _write_example(
    title: str,
    path: Path,
    example: TaskExample,
    decoded: DecodedExample,
    synthesizer: Synthesizer | None,
) -> ShownExample:
    samples = example.inputs.reshape(-1)
    sample_rate = _SPECTROGRAM.sample_rate
    seconds = len(samples) / sample_rate
    shown = ShownExample(
        title=title,
        example=example,
        decoded=decoded,
        audio=path.with_name(f"{path.name}.wav"),
        midi=path.with_name(f"{path.name}.mid"),
        rendered=path.with_name(f"{path.name}_rendered.wav") if synthesizer else None,
        picture=path.with_name(f"{path.name}.png"),
    )
    # A mix may be louder than 16 bits can say.
    bits = 16 if np.abs(samples).max(initial=0.0) <= 1 else 32
    write_audio(shown.audio, samples, sample_rate, bits=bits)
    write_midi(decoded.notes, shown.midi)
    if synthesizer is not None and shown.rendered is not None:
        write_audio(shown.rendered, synthesizer.render(decoded.notes, duration_seconds=seconds), sample_rate)
    picture = ExamplePicture(
        title=title,
        seconds=seconds,
        log_mel=centred_log_mel(example.inputs, _SPECTROGRAM),
        spectrogram=_SPECTROGRAM,
        notes=decoded.notes,
        sounds_before=decoded.sounds_before,
        sounds_after=decoded.sounds_after,
    )
    example_picture(picture, shown.picture)
    return shown


def centred_log_mel(frames: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """Log-mel whose frame i looks at as much audio before i * hop_samples as after it.

    The model's own frames look ahead alone, so that a note shows before it is
    struck; to compare it with notes by eye, it is moved by half a window.

    Returns:
      float32 [num_frames + 1, num_mel_bins].
    """
    half_window = -(-config.fft_size // 2 // config.hop_samples)
    padded = np.pad(frames, ((half_window, 0), (0, 0)))
    return log_mel_numpy(padded, config)[: len(frames) + 1]


_STYLE = """
body { font-family: sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
section { margin: 2em 0 3em; }
img { width: 100%; }
h2 { font-size: 1.1em; }
.sounds { display: flex; flex-wrap: wrap; gap: 0.6em 2em; align-items: center; }
.sounds label { display: flex; gap: 0.6em; align-items: center; }
"""


def _page(task_name: str, shown: Sequence[ShownExample]) -> str:
    name = html.escape(task_name)
    sections = "\n".join(_section(one) for one in shown) or "<p>The task has no examples.</p>"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{name}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{name}</h1>\n{sections}\n</body>\n</html>\n"
    )


def _section(shown: ShownExample) -> str:
    title = html.escape(shown.title.replace("\n", ": "))
    sounds = [("What the model hears", shown.audio)]
    if shown.rendered is not None:
        sounds.append(("The notes it is taught", shown.rendered))
    players = "\n".join(
        f'<label>{label} <audio controls preload="none" src="{path.name}"></audio></label>'
        for label, path in sounds
    )
    unread = shown.decoded.invalid_events
    remark = f"\n<p>Tokens that tell no note of this example: {unread}</p>" if unread else ""
    return (
        f'<section id="{shown.audio.stem}">\n<h2>{title}</h2>\n'
        f'<div class="sounds">\n{players}\n<a href="{shown.midi.name}">MIDI file</a>\n</div>\n'
        f'<img src="{shown.picture.name}" alt="{title}">{remark}\n</section>'
    )
