"""Operations counted by hand, by the usual rule of thumb, and by XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mt3.audio.spectrograms import SpectrogramConfig
from mt3.models.flops import transformer_training_flops
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig


def test_a_network_small_enough_to_count_by_hand():
    config = TransformerConfig(
        vocab_size=7,
        emb_dim=3,
        num_heads=1,
        head_dim=2,
        mlp_dim=5,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    frames, tokens, features = 10, 4, 6
    encoder = frames * (6 * 3 + 4 * 3 * 2 + 3 * 3 * 5) + 2 * frames * frames * 2
    decoder = tokens * (4 * 3 * 2 + 2 * 3 * 2 + 3 * 3 * 5 + 3 * 7) + 2 * tokens * tokens * 2
    cross = frames * 2 * 3 * 2 + 2 * tokens * frames * 2
    # 2 operations a multiplication, 3 times for forward and backward.
    assert transformer_training_flops(config, frames, tokens, features) == 6 * (encoder + decoder + cross)


def test_six_operations_a_parameter_and_position():
    """Kaplan et al.'s 6 N, where sequences are so short that attention is nothing."""
    config, spec = TransformerConfig(), ModelSpec()
    params = TranscriptionModel(spec).abstract_params()
    encoder = sum(leaf.size for leaf in jax.tree.leaves(params["encoder"]))
    decoder = sum(leaf.size for leaf in jax.tree.leaves(params["decoder"]))
    embedding = config.vocab_size * config.emb_dim
    # As many frames as tokens, so that it does not matter which of them a parameter is used for.
    flops = transformer_training_flops(config, 1, 1, spec.spectrogram.num_mel_bins)
    assert flops == pytest.approx(6 * (encoder + decoder - embedding), rel=0.001)


def test_xla_counts_about_the_same():
    """It counts norms, softmax and dropout too; and not the gradient of the inputs, which nobody needs."""
    spec = ModelSpec(
        network=TransformerConfig(
            vocab_size=640,
            emb_dim=128,
            num_heads=2,
            head_dim=64,
            mlp_dim=256,
            num_encoder_layers=1,
            num_decoder_layers=1,
            dropout_rate=0.0,
        ),
        tokenizer=Tokenizer(VocabularyConfig(1, max_shift_seconds=1)),
        spectrogram=SpectrogramConfig(num_mel_bins=64),
        input_kind="log_mel",
    )
    model = TranscriptionModel(spec)
    batch = {
        "inputs": jax.ShapeDtypeStruct((2, 128, 64), jnp.float32),
        **{
            name: jax.ShapeDtypeStruct((2, 96), dtype)
            for name, dtype in (
                ("decoder_input_tokens", np.int32),
                ("decoder_target_tokens", np.int32),
                ("decoder_loss_weights", np.float32),
            )
        },
    }
    step = jax.jit(jax.grad(model.loss, has_aux=True)).lower(model.abstract_params(), batch)
    counted = step.compile().cost_analysis()["flops"]
    assert model.training_flops(batch) == pytest.approx(counted, rel=0.1)
