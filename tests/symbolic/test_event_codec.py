import numpy as np
import pytest

from mt3.symbolic.event_codec import INVALID_KIND, Codec, EventRange

CODEC = Codec((EventRange("shift", 0, 4), EventRange("pitch", 21, 30), EventRange("tie", 0, 0)))


def test_ids_are_consecutive():
    assert CODEC.num_classes == 16
    assert CODEC.id_range("shift") == (0, 4)
    assert CODEC.id_range("pitch") == (5, 14)
    assert CODEC.id_range("tie") == (15, 15)


def test_every_id_decodes_to_what_encodes_to_it():
    kinds, values = CODEC.decode(np.arange(16))
    again = [CODEC.encode(CODEC.kinds[kind], value) for kind, value in zip(kinds, values, strict=True)]
    assert again == list(range(16))


def test_encode_keeps_the_shape():
    assert CODEC.encode("pitch", [[21, 22], [30, 29]]).tolist() == [[5, 6], [14, 13]]
    assert CODEC.encode("pitch", 22) == 6
    assert CODEC.encode("pitch", []).shape == (0,)


def test_ids_outside_are_invalid():
    kinds, values = CODEC.decode([-2, 16, 10**9, 15])
    assert kinds.tolist() == [INVALID_KIND] * 3 + [2]
    assert values.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("value", [20, 31])
def test_values_outside_are_refused(value):
    with pytest.raises(ValueError, match=rf"pitch {value} is outside 21\.\.30"):
        CODEC.encode("pitch", [25, value])


def test_unknown_and_repeated_kinds_are_refused():
    with pytest.raises(ValueError, match="this codec has shift, pitch, tie"):
        CODEC.encode("drum", 3)
    with pytest.raises(ValueError, match="one range"):
        Codec((EventRange("shift", 0, 1), EventRange("shift", 0, 1)))
    with pytest.raises(ValueError, match="before its start"):
        EventRange("shift", 1, 0)
