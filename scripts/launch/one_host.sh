#!/usr/bin/env bash
# Trains on all accelerators of this machine, in one process: 16-bit activations, flash attention.
#
#   bash scripts/launch/one_host.sh RUN_DIR --gin_file mt3_small.gin [more arguments of `mt3 train`]
#
# MESH=data (the default), fsdp or fsdp+model says how they share the work; see docs/scaling.md.
# The same command again resumes the run.
set -euo pipefail

usage="usage: $0 RUN_DIR --gin_file FILE [more arguments of mt3 train]"
run_dir=${1:?$usage}
shift
mt3=$(dirname "$0")/../../.venv/bin/mt3
[ -x "$mt3" ] || mt3=mt3

exec "$mt3" train --run-dir "$run_dir" --mesh "${MESH:-data}" \
  "--gin.TransformerConfig.activation_dtype='bfloat16'" \
  "--gin.TrainingRun.compute=@ComputeConfig()" "--gin.ComputeConfig.attention='fused'" \
  "$@"
