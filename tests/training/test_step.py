"""The update: normalisation, accumulation, dropout keys, skipped updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mt3.training.optimizers import OptimizerConfig, build_optimizer, build_schedule
from mt3.training.step import init_state, jit_train_step, mean_loss, mean_metrics, train_step

CONFIG = OptimizerConfig(name="adamw", learning_rate=0.01, warmup_steps=10)


def start(model, config=CONFIG, seed=0):
    return init_state(model, build_optimizer(config), jax.random.key(seed))


def stepper(model, config=CONFIG, **options):
    return jit_train_step(
        model=model, optimizer=build_optimizer(config), schedule=build_schedule(config), **options
    )


def assert_trees_close(left, right, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), left, right)


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_accumulation_does_not_change_the_result(make_model, make_batches, name):
    config = OptimizerConfig(name=name, learning_rate=0.01, clip_norm=0.5)
    results = {}
    for parts in (1, 2, 4):
        batches, model = make_batches(batch_size=8), make_model()
        state, losses = start(model, config), []
        step = stepper(model, config, accumulation_steps=parts)
        for _ in range(3):
            state, metrics = step(state, next(batches))
            losses.append(metrics["loss"])
        results[parts] = (state.params, losses, metrics)
    for parts in (2, 4):
        assert_trees_close(results[parts], results[1], 1e-6)


def test_loss_is_the_sum_over_tokens_by_their_number(make_model, make_batches):
    model, batch = make_model(), next(make_batches())
    state = start(model)

    def mean(params):
        loss, sums = model.loss(params, batch)
        return loss / batch["decoder_loss_weights"].sum(), sums

    (loss, sums), gradient = jax.value_and_grad(mean, has_aux=True)(state.params)
    norm = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient)))
    _, metrics = stepper(model)(state, batch)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-6)
    assert float(metrics["gradient_norm"]) == pytest.approx(norm, rel=1e-5)
    assert float(metrics["tokens"]) == batch["decoder_loss_weights"].sum()
    assert float(metrics["accuracy"]) == pytest.approx(float(sums["correct"] / sums["weight"]))


def test_learning_rate_metric_is_that_of_the_update(make_model, make_batches):
    model, batches = make_model(), make_batches()
    state, rates, step = start(model), [], stepper(model)
    for _ in range(3):
        state, metrics = step(state, next(batches))
        rates.append(float(metrics["learning_rate"]))
    np.testing.assert_allclose(rates, [0.0, 0.001, 0.002], rtol=1e-6)


def test_dropout_follows_the_key_and_the_step(make_model, make_batches):
    model, batch = make_model(dropout_rate=0.5), next(make_batches())
    config = OptimizerConfig(learning_rate=1e-30)  # Parameters stay as they are; only dropout varies.

    step = stepper(model, config)

    def losses(seed):
        state, values = start(model, config).replace(rng=jax.random.key(seed)), []
        for _ in range(3):
            state, metrics = step(state, batch)
            values.append(float(metrics["loss"]))
        return values

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert len(set(losses(1))) == 3


def test_microbatches_have_their_own_dropout(make_model, make_batches):
    model = make_model(dropout_rate=0.5)
    half = next(make_batches(batch_size=1))
    twice = {name: np.repeat(array, 2, axis=0) for name, array in half.items()}
    _, accumulated = stepper(model, accumulation_steps=2)(start(model), twice)
    _, one = stepper(model)(start(model), half)
    assert float(accumulated["loss"]) != float(one["loss"])


def test_non_finite_update_is_skipped_and_counted(make_model, make_batches):
    model, batches = make_model(), make_batches()
    good, bad = next(batches), next(batches)
    bad["inputs"][0, 0, 0] = np.nan
    step = stepper(model)
    before, _ = step(start(model), good)
    before = jax.device_get((before.params, before.opt_state))
    state, _ = step(start(model), good)
    state, metrics = step(state, bad)
    assert int(state.step) == 2
    assert int(state.skipped_steps) == 1 == int(metrics["skipped_steps"])
    assert_trees_close((state.params, state.opt_state), before, 0)
    state, metrics = step(state, good)
    assert np.isfinite(metrics["loss"])
    assert int(metrics["skipped_steps"]) == 1
    # The schedule counts updates, not batches.
    assert float(metrics["learning_rate"]) == pytest.approx(0.001)


def test_batch_without_targets_changes_no_parameter(make_model, make_batches):
    model, batch = make_model(), next(make_batches())
    batch["decoder_loss_weights"][:] = 0
    state = start(model)
    params = jax.device_get(state.params)
    state, metrics = stepper(model)(state, batch)
    assert_trees_close(state.params, params, 0)
    assert float(metrics["loss"]) == 0
    assert int(metrics["skipped_steps"]) == 0


def test_batch_that_does_not_split_is_refused(make_model, make_batches):
    model = make_model()
    with pytest.raises(ValueError, match=r"batch of 4 examples.*accumulation_steps=3.*multiple of 3"):
        train_step(
            start(model),
            next(make_batches()),
            model=model,
            optimizer=build_optimizer(CONFIG),
            accumulation_steps=3,
        )


def test_state_is_donated(make_model, make_batches):
    model = make_model()
    state = start(model)
    stepper(model)(state, next(make_batches()))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_mean_loss_weighs_tokens_alike(make_model, make_batches):
    model, batches = make_model(), make_batches()
    params = model.init(jax.random.key(0))
    few = [next(batches), next(batches)]
    sums = [model.loss(params, batch)[1] for batch in few]
    total = {name: sums[0][name] + sums[1][name] for name in sums[0]}
    expected = {name: float(value) for name, value in mean_metrics(total).items()}
    assert mean_loss(model, params, few) == pytest.approx(expected, rel=1e-6)
    assert mean_loss(model, params, few, z_loss=0.0)["loss"] < expected["loss"]
    with pytest.raises(ValueError, match="no batches"):
        mean_loss(model, params, [])
