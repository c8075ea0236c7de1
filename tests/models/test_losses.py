"""The loss against hand-worked values and a second implementation."""

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from mt3.models.losses import token_loss


def test_hand_worked_case():
    # Two classes with odds 3:1, the right one the likelier; then the other, at half weight.
    logits = np.log(np.array([[[3.0, 1.0], [3.0, 1.0]]]))
    loss, metrics = token_loss(logits, np.array([[0, 1]]), np.array([[1.0, 0.5]]), z_loss=0.25)
    z_loss = 0.25 * np.log(4.0) ** 2 * 1.5
    np.testing.assert_allclose(metrics["z_loss"], z_loss, rtol=1e-6)
    np.testing.assert_allclose(loss, np.log(4 / 3) + 0.5 * np.log(4.0) + z_loss, rtol=1e-6)
    assert metrics["loss"] == loss
    assert metrics["weight"] == 1.5
    assert metrics["correct"] == 1.0


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_equals_cross_entropy_with_soft_targets(smoothing):
    rng = np.random.default_rng(0)
    num_classes = 11
    logits = rng.normal(0, 3, (4, 5, num_classes))
    targets = rng.integers(0, num_classes, (4, 5))
    weights = rng.uniform(0, 2, (4, 5))
    soft = (
        np.full(num_classes, smoothing / (num_classes - 1))[None, None] * (1 - np.eye(num_classes)[targets])
        + (1 - smoothing) * np.eye(num_classes)[targets]
    )
    entropy = -np.sum(soft * np.log(np.where(soft > 0, soft, 1.0)), axis=-1)
    cross_entropy = -np.sum(soft * log_softmax(logits, axis=-1), axis=-1) - entropy
    expected = np.sum(weights * (cross_entropy + 0.01 * logsumexp(logits, axis=-1) ** 2))
    loss, _ = token_loss(logits, targets, weights, label_smoothing=smoothing, z_loss=0.01)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_perfectly_smoothed_prediction_costs_nothing():
    smoothing, num_classes = 0.1, 5
    probabilities = np.full(num_classes, smoothing / (num_classes - 1))
    probabilities[2] = 1 - smoothing
    loss, _ = token_loss(
        np.log(probabilities)[None], np.array([2]), np.ones(1), label_smoothing=smoothing, z_loss=0.0
    )
    np.testing.assert_allclose(loss, 0.0, atol=1e-6)


def test_sums_of_parts_are_the_sum_of_the_whole():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (6, 3, 7))
    targets = rng.integers(0, 7, (6, 3))
    weights = (rng.random((6, 3)) < 0.7).astype(np.float32)
    parts = [token_loss(logits[i::2], targets[i::2], weights[i::2])[1] for i in range(2)]
    whole = token_loss(logits, targets, weights)[1]
    for name, value in whole.items():
        np.testing.assert_allclose(sum(part[name] for part in parts), value, rtol=1e-5)


def test_positions_without_weight_send_no_gradient():
    logits = np.random.default_rng(2).normal(size=(1, 2, 4)).astype(np.float32)
    gradient = jax.grad(lambda x: token_loss(x, np.array([[1, 2]]), np.array([[1.0, 0.0]]))[0])(logits)
    assert np.abs(gradient[0, 0]).max() > 0
    np.testing.assert_array_equal(gradient[0, 1], 0)


@pytest.mark.parametrize(("name", "value"), [("label_smoothing", 1.0), ("z_loss", -1e-4)])
def test_refuses_nonsense_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        token_loss(np.zeros((1, 2)), np.zeros(1, int), np.ones(1), **{name: value})
