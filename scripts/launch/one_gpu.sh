#!/usr/bin/env bash
# Trains on one GPU: 16-bit activations, flash attention.
#
#   bash scripts/launch/one_gpu.sh RUN_DIR --gin_file mt3_small.gin [more arguments of `mt3 train`]
#
# CUDA_VISIBLE_DEVICES=N chooses the GPU. The same command again resumes the run.
# Needs JAX for the GPU: .venv/bin/pip install "jax[cuda12]"
set -euo pipefail

MESH=single exec bash "$(dirname "$0")/one_host.sh" "$@"
