"""Equal parameters have equal names, others have others."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from mt3.models.parameter_hash import parameter_hash

PARAMS = {"b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "a": np.float32([0.5])}


def test_what_is_hashed():
    text = (
        b"a [1]\n" + np.float32([0.5]).tobytes() + b"b/kernel [2, 3]\n" + np.arange(6, dtype="<f4").tobytes()
    )
    assert parameter_hash(PARAMS) == hashlib.sha256(text).hexdigest()


def test_the_same_wherever_they_are_and_however_they_were_stored():
    expected = parameter_hash(PARAMS)
    assert parameter_hash(dict(reversed(PARAMS.items()))) == expected
    assert parameter_hash(jax.tree.map(jnp.asarray, PARAMS)) == expected
    assert parameter_hash(jax.tree.map(lambda x: x.astype(">f4"), PARAMS)) == expected
    assert parameter_hash(jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), PARAMS)) == expected
    assert parameter_hash({**PARAMS, "b": {"kernel": np.asfortranarray(PARAMS["b"]["kernel"])}}) == expected


def test_any_difference_makes_another():
    kernel = PARAMS["b"]["kernel"]
    changed = kernel.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    others = [
        {**PARAMS, "b": {"kernel": changed}},
        {**PARAMS, "b": {"kernel": kernel.reshape(3, 2)}},
        {**PARAMS, "b": {"scale": kernel}},
        {"a": PARAMS["a"]},
    ]
    assert len({parameter_hash(params) for params in (PARAMS, *others)}) == 5
