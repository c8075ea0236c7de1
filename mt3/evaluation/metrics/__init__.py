"""How well one set of notes transcribes another: the published MT3 scores and those of other papers.

`score` gives a flat dictionary of metric name -> value for one recording; means
over recordings are the evaluator's job. Nothing but NumPy is imported.

Scores are defined for notes at any time, negative ones included, and for sides
that are empty. An undefined score is 0, as in the published code, or left out:
each family's module says which. What asks for something that the reference does
not have (an instrument, a drum, a note at a border) is left out; an empty
estimate scores 0.
"""

from mt3.evaluation.metrics.comparison import (
    DRUMS_INSTRUMENT,
    SEGMENT_SECONDS,
    Comparison,
    Counts,
    Metric,
    Scores,
    Track,
    instruments_of,
)
from mt3.evaluation.metrics.confusion import ConfusionMatrix, confusion_matrix
from mt3.evaluation.metrics.event_rates import event_rates
from mt3.evaluation.metrics.instrument_activity import instrument_auc
from mt3.evaluation.metrics.registry import METRIC_GROUPS, METRICS, PUBLISHED_METRICS, expand, score

__all__ = [
    "DRUMS_INSTRUMENT",
    "METRICS",
    "METRIC_GROUPS",
    "PUBLISHED_METRICS",
    "SEGMENT_SECONDS",
    "Comparison",
    "ConfusionMatrix",
    "Counts",
    "Metric",
    "Scores",
    "Track",
    "confusion_matrix",
    "event_rates",
    "expand",
    "instrument_auc",
    "instruments_of",
    "score",
]
