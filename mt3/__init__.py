"""MT3: multi-task multitrack music transcription, to train, evaluate and use.

The rooms (`symbolic`, `audio`, `models`, `inference`, `evaluation`, `data`,
`training`, `cli`) are described in `docs/architecture.md`. Importing `mt3`
imports none of them.
"""

__version__ = "0.1.0"
