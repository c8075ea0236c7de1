"""Fine-tuning: which parameters a run starts from, by rules; and that what is frozen stays."""

import jax
import numpy as np
import pytest

from mt3.models.checkpoints import CheckpointError, CheckpointMismatchError
from mt3.models.formats import write_model
from mt3.models.formats.base import StoredArray, StoredModel
from mt3.training.initialization import InitialParameters, resolve
from mt3.training.loop import train
from mt3.training.optimizers import OptimizerConfig

NAMES = ("embedder/embedding", "logits/kernel", "norm/scale")
SHAPES = {"embedder/embedding": (11, 8), "logits/kernel": (8, 11), "norm/scale": (8,)}
RNG = jax.random.key(5)


@pytest.fixture
def write(tmp_path):
    """Writes arrays as a safetensors file -> its path."""

    def write(arrays):
        path = tmp_path / "source.safetensors"
        stored = {name: StoredArray.of(array) for name, array in arrays.items()}
        write_model(path, StoredModel(path, stored), "safetensors")
        return str(path)

    return write


@pytest.fixture
def source():
    generator = np.random.default_rng(1)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def leaf(params, name):
    group, last = name.split("/")
    return np.asarray(params[group][last])


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), {name: name for name in NAMES}),
        (((".*", None),), dict.fromkeys(NAMES)),
        ((("norm/.*", None),), {**{name: name for name in NAMES}, "norm/scale": None}),
        # The first that matches is taken, and the whole path must match.
        (
            (("norm/scale", "a/scale"), (".*/scale|.*/kernel", None)),
            {"embedder/embedding": "embedder/embedding", "logits/kernel": None, "norm/scale": "a/scale"},
        ),
        ((("(.*)/(.*)", r"old/\2/\1"),), {name: "old/" + "/".join(name.split("/")[::-1]) for name in NAMES}),
    ],
)
def test_rules_are_tried_in_order(rules, expected):
    assert resolve(rules, NAMES) == expected


def test_all_parameters_are_restored_by_default(make_model, source, write):
    params = InitialParameters(write(source)).read(make_model(), RNG)
    assert jax.tree.structure(params) == jax.tree.structure(make_model().init(RNG))
    for name, array in source.items():
        np.testing.assert_array_equal(leaf(params, name), array)


def test_some_start_anew_and_some_come_from_elsewhere(make_model, source, write):
    """Anew: what a run without a checkpoint would draw from the same key."""
    path = write({"old/kernel": source["logits/kernel"], "embedder/embedding": source["embedder/embedding"]})
    rules = ((r"logits/(.*)", r"old/\1"), ("norm/.*", None))
    params = InitialParameters(path, rules).read(make_model(), RNG)
    np.testing.assert_array_equal(leaf(params, "logits/kernel"), source["logits/kernel"])
    np.testing.assert_array_equal(leaf(params, "norm/scale"), leaf(make_model().init(RNG), "norm/scale"))
    np.testing.assert_array_equal(leaf(params, "embedder/embedding"), source["embedder/embedding"])
    fresh = InitialParameters(path, ((".*", None),)).read(make_model(), RNG)
    jax.tree.map(np.testing.assert_array_equal, fresh, make_model().init(RNG))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("norm", None),), "the rule 'norm' of initial parameters is the whole path of no parameter"),
        (((".*", None), ("norm/.*", None)), "the rule 'norm/.*' .* that the rules before it leave"),
        (((".*", r"\3"),), r"the source '\\\\3' of a rule .*invalid group reference"),
        ((("(", None),), "which is no regular expression"),
        ((("a", "b", "c"),), r"the rule \('a', 'b', 'c'\): give \(pattern, source or None\)"),
    ],
)
def test_rules_that_cannot_be_followed(make_model, source, write, rules, message):
    with pytest.raises(ValueError, match=message) as caught:
        InitialParameters(write(source), rules).read(make_model(), RNG)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_named(make_model, source, write):
    source["norm/scale"] = source["norm/scale"][:-1]
    del source["logits/kernel"]
    path = write(source)
    with pytest.raises(CheckpointMismatchError) as caught:
        InitialParameters(path, (("embedder/(.*)", r"nowhere/\1"),)).read(make_model(), RNG)
    message = str(caught.value)
    assert "norm/scale is float32[7] in it, [8] here" in message
    assert "logits/kernel is not in it" in message
    assert "nowhere/embedding (for embedder/embedding) is not in it" in message
    assert "(pattern, None) to start them anew" in message
    params = InitialParameters(path, (("norm/.*|logits/.*", None),)).read(make_model(), RNG)
    np.testing.assert_array_equal(leaf(params, "embedder/embedding"), source["embedder/embedding"])


def test_numbers_that_are_not_finite_are_named_where_they_are_used(make_model, source, write):
    source["norm/scale"][2] = np.inf
    path = write(source)
    with pytest.raises(CheckpointError, match="NaN or infinite numbers: norm/scale has 1"):
        InitialParameters(path).read(make_model(), RNG)
    InitialParameters(path, (("norm/.*", None),)).read(make_model(), RNG)


def test_a_missing_checkpoint(make_model, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        InitialParameters(str(tmp_path / "none")).read(make_model(), RNG)


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_frozen_parameters_stay_through_training_and_resuming(
    make_model, make_batches, source, write, tmp_path, name
):
    params = InitialParameters(write(source)).read(make_model(), RNG)
    optimizer = OptimizerConfig(
        name=name, learning_rate=0.1, weight_decay=0.1, clip_norm=1.0, frozen=("logits/.*",)
    )
    for num_steps in (2, 4):
        state = train(
            make_model(),
            make_batches(),
            num_steps=num_steps,
            run_dir=tmp_path / "run",
            optimizer=optimizer,
            initial_params=params,
            progress=False,
            tensorboard=False,
        )
    assert int(state.step) == 4
    np.testing.assert_array_equal(leaf(state.params, "logits/kernel"), source["logits/kernel"])
    for trained in ("embedder/embedding", "norm/scale"):
        assert not np.array_equal(leaf(state.params, trained), source[trained])
    assert not [leaf.shape for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == (8, 11)]
