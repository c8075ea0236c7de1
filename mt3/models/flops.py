"""How many floating-point operations a model's training takes, by formula.

A product of matrices with p parameters takes 2 p operations a position forwards
and 4 p backwards (Kaplan et al. 2020, section 2.1); attention adds, for each
query and key, 2 operations a feature for the logit and 2 for the weighted sum,
three times as many with the backward pass (Chowdhery et al. 2022, appendix B).
Counted as there: causal attention in full; not counted: what is computed again
to save memory, lookups, norms, softmax, the spectrogram. Utilisation of a device
by these operations is "model FLOPs utilisation" (MFU).
"""

from __future__ import annotations

from mt3.models.transformer import TransformerConfig

# The backward pass computes gradients of both factors of every product.
_FORWARD_AND_BACKWARD = 3


def transformer_training_flops(
    config: TransformerConfig, num_frames: int, num_tokens: int, input_features: int
) -> int:
    """Of the forward and backward pass over one example.

    Args:
      config: sizes of the network.
      num_frames: of the encoder, padding included.
      num_tokens: of the decoder, padding included.
      input_features: of a frame, as the network sees it.
    """
    joined = config.num_heads * config.head_dim
    one_of_four = config.emb_dim * joined  # parameters of query, key, value or output projection
    mlp = 3 * config.emb_dim * config.mlp_dim
    a_frame = (
        input_features * config.emb_dim
        + config.num_encoder_layers * (4 * one_of_four + mlp)
        + config.num_decoder_layers * 2 * one_of_four  # keys and values that the decoder attends to
    )
    a_token = config.num_decoder_layers * (6 * one_of_four + mlp) + config.emb_dim * config.vocab_size
    queries_and_keys = config.num_encoder_layers * num_frames**2 + config.num_decoder_layers * num_tokens * (
        num_tokens + num_frames
    )
    multiplications = num_frames * a_frame + num_tokens * a_token + 2 * joined * queries_and_keys
    return _FORWARD_AND_BACKWARD * 2 * multiplications
