"""Optimizers against T5X's golden values and hand-worked ones; schedules at known steps."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mt3.cli import configuration
from mt3.training.optimizers import OptimizerConfig, build_optimizer, build_schedule

GOLDEN = Path(__file__).parents[1] / "golden" / "adafactor.npz"
# The order in which the golden gradients are drawn.
NAMES = ("kernel_128x192", "embedding_256x128", "scale_128", "kernel_32x64", "kernel_192x128")


def apply(config, params, gradients):
    """Parameters after one update for each tree of gradients."""
    optimizer = build_optimizer(config)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def configured(*gin_files):
    """The optimizer of a training run that gin files describe."""
    configuration.parse(gin_files, [])
    return configuration.build("TrainingRun").optimizer


@pytest.mark.parametrize("num_updates", [1, 10])
@pytest.mark.parametrize("gin_file", ["mt3_small.gin", "piano.gin"])
def test_the_configured_adafactor_equals_t5x(gin_file, num_updates):
    with np.load(GOLDEN) as golden:
        values = dict(golden)
    params = {name: jnp.asarray(values[f"params_0/{name}"]) for name in NAMES}
    generator = np.random.default_rng(int(values["grad_seed"]))
    gradients = [
        {
            name: (generator.normal(0, 1, params[name].shape) * scale * 0.01).astype(np.float32)
            for name in NAMES
        }
        for scale in values["grad_scale"][:num_updates]
    ]
    params = apply(configured(gin_file), params, gradients)
    for name in NAMES:
        np.testing.assert_allclose(
            params[name], values[f"params_{num_updates}/{name}"], rtol=0, atol=1e-6, err_msg=name
        )


def test_default_config_is_the_published_one():
    config = OptimizerConfig()
    assert (config.name, config.learning_rate, config.schedule) == ("adafactor", 1e-3, "constant")
    assert (config.adafactor_decay_rate, config.clip_norm, config.weight_decay) == (0.8, None, 0.0)


def test_adamw_equals_its_formula():
    config = OptimizerConfig(name="adamw", learning_rate=0.1, weight_decay=0.5, adamw_b1=0.8, adamw_b2=0.9)
    kernel, first, second = np.array([[2.0]]), np.zeros((1, 1)), np.zeros((1, 1))
    gradients = [np.array([[3.0]]), np.array([[-1.0]])]
    for t, gradient in enumerate(gradients, start=1):
        first = 0.8 * first + 0.2 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        ratio = (first / (1 - 0.8**t)) / (np.sqrt(second / (1 - 0.9**t)) + 1e-8)
        kernel = kernel - 0.1 * (ratio + 0.5 * kernel)
    params = {"kernel": jnp.array([[2.0]])}
    params = apply(config, params, [{"kernel": jnp.asarray(g, jnp.float32)} for g in gradients])
    np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-5)


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_weight_decay_is_decoupled_and_spares_norm_scales(name):
    config = OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.5)
    params = {"kernel": jnp.full((2, 2), 4.0), "norm": {"scale": jnp.full(2, 4.0)}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    after = apply(config, params, [zeros])
    np.testing.assert_allclose(after["kernel"], 4.0 * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_allclose(after["norm"]["scale"], 4.0)


def test_gradients_are_clipped_to_their_global_norm():
    # AdamW with a huge epsilon is proportional to the gradient, so that its size shows.
    plain = OptimizerConfig(name="adamw", learning_rate=1.0, adamw_epsilon=1e6)
    clipped = OptimizerConfig(name="adamw", learning_rate=1.0, adamw_epsilon=1e6, clip_norm=2.5)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    gradient = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}  # Norm 5.
    step = apply(plain, params, [gradient])
    half = apply(clipped, params, [gradient])
    for key in params:
        np.testing.assert_allclose(half[key], 0.5 * step[key], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0: 1.0, 1: 1.0, 10**6: 1.0}),
        ({"warmup_steps": 100}, {0: 0.0, 1: 0.01, 50: 0.5, 100: 1.0, 101: 1.0, 9999: 1.0}),
        ({"schedule": "rsqrt", "warmup_steps": 100}, {50: 0.5, 100: 1.0, 400: 0.5, 10_000: 0.1}),
        ({"schedule": "rsqrt"}, {0: 1.0, 1: 1.0, 4: 0.5}),
        (
            {"schedule": "cosine", "decay_steps": 200},
            {0: 1.0, 50: 0.5 + 0.5**1.5, 100: 0.5, 200: 0.0, 300: 0.0},
        ),
        (
            {"schedule": "cosine", "warmup_steps": 100, "decay_steps": 200, "final_scale": 0.2},
            {50: 0.5, 100: 1.0, 150: 0.6, 200: 0.2, 1000: 0.2},
        ),
        ({"schedule": "linear", "warmup_steps": 10, "decay_steps": 30}, {5: 0.5, 10: 1.0, 20: 0.5, 30: 0.0}),
    ],
)
def test_schedules_at_known_steps(options, expected):
    schedule = build_schedule(OptimizerConfig(learning_rate=3.0, **options))
    for step, factor in expected.items():
        assert float(schedule(step)) == pytest.approx(3.0 * factor, abs=1e-6), step


def test_schedule_ends_with_the_run_unless_told_otherwise():
    config = OptimizerConfig(learning_rate=1.0, schedule="linear")
    assert float(build_schedule(config, num_steps=50)(25)) == pytest.approx(0.5)
    own_end = OptimizerConfig(learning_rate=1.0, schedule="linear", decay_steps=100)
    assert float(build_schedule(own_end, num_steps=50)(25)) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="decay_steps"):
        build_schedule(config)


def test_warm_up_reaches_the_parameters():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=4, adafactor_multiply_by_parameter_scale=False)
    gradient = {"scale": jnp.ones(2)}  # Adafactor makes every update of this 1.
    params, moved = {"scale": jnp.zeros(2)}, []
    for count in range(7):
        moved.append(float(-apply(config, params, [gradient] * count)["scale"][0]))
    np.testing.assert_allclose(np.diff(moved), [0.0, 0.25, 0.5, 0.75, 1.0, 1.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "sgdd"}, "'sgdd'.*adafactor, adamw"),
        ({"schedule": "step"}, "'step'.*constant, cosine, linear, rsqrt"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"warmup_steps": 10, "decay_steps": 10}, "decay_steps is 10.*more than the 10"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
        ({"accumulation_steps": 0}, "accumulation_steps is 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"final_scale": 1.5}, "final_scale is 1.5"),
    ],
)
def test_bad_configurations_say_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**options)


def frozen_example(frozen, **options):
    """Parameters after three updates with and without some frozen, the others with equal gradients."""
    generator = np.random.default_rng(0)
    params = {
        "encoder": {"kernel": jnp.asarray(generator.normal(size=(128, 130)), jnp.float32)},
        "decoder": {"kernel": jnp.asarray(generator.normal(size=(130, 128)), jnp.float32)},
        "norm": {"scale": jnp.ones(5)},
    }
    gradients = [
        jax.tree.map(lambda x: jnp.asarray(generator.normal(size=x.shape), jnp.float32), params)
        for _ in range(3)
    ]
    frozen_config = OptimizerConfig(frozen=frozen, learning_rate=0.1, **options)
    free = {name: value for name, value in params.items() if name not in ("encoder", "norm")}
    free_gradients = [{name: gradient[name] for name in free} for gradient in gradients]
    free_config = OptimizerConfig(learning_rate=0.1, **options)
    return params, apply(frozen_config, params, gradients), apply(free_config, free, free_gradients)


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_frozen_parameters_stay_and_do_not_count(name):
    """The others go as if the frozen ones were not there, clipping by the global norm included."""
    frozen = ("encoder/.*", ".*/scale")
    before, after, alone = frozen_example(frozen, name=name, weight_decay=0.1, clip_norm=0.5)
    for kept in ("encoder", "norm"):
        jax.tree.map(np.testing.assert_array_equal, before[kept], after[kept])
    np.testing.assert_array_equal(after["decoder"]["kernel"], alone["decoder"]["kernel"])
    assert not np.array_equal(after["decoder"]["kernel"], before["decoder"]["kernel"])


def test_frozen_parameters_take_no_memory():
    params = {"encoder": {"kernel": jnp.ones((7, 3))}, "decoder": {"kernel": jnp.ones((5, 3))}}
    for name in ("adafactor", "adamw"):
        state = build_optimizer(OptimizerConfig(name=name, frozen=["encoder/.*"])).init(params)
        shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
        assert (5, 3) in shapes
        assert (7, 3) not in shapes


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (
            ("encoder",),
            "frozen has 'encoder', which is the whole path of no parameter: there are decoder/kernel",
        ),
        (("encoder/.*", "nothing"), "frozen has 'nothing'"),
        ((".*",), "leaves no parameter to train"),
        (("(",), "which is no regular expression"),
    ],
)
def test_frozen_patterns_that_make_no_sense(frozen, message):
    params = {"encoder": {"kernel": jnp.ones((2, 2))}, "decoder": {"kernel": jnp.ones((2, 2))}}
    with pytest.raises(ValueError, match=message):
        build_optimizer(OptimizerConfig(frozen=frozen)).init(params)
