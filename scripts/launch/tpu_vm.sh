#!/usr/bin/env bash
# Trains on all hosts of a TPU slice, started from any machine that has gcloud.
#
#   bash scripts/launch/tpu_vm.sh TPU_NAME ZONE RUN_DIR --gin_file mt3_small.gin [more arguments of `mt3 train`]
#
# Before: this checkout at ~/mt3 of every host, with `pip install "jax[tpu]"` in its .venv; RUN_DIR and the
# data where all hosts see them under one path (Filestore, or a bucket mounted with gcsfuse). MESH as in
# one_host.sh. The same command again resumes the run.
set -euo pipefail

usage="usage: $0 TPU_NAME ZONE RUN_DIR --gin_file FILE [more arguments of mt3 train]"
name=${1:?$usage}
zone=${2:?$usage}
run_dir=${3:?$usage}
shift 3

# Quoted once more: a shell on the hosts reads it.
printf -v arguments ' %q' --run-dir "$run_dir" --mesh "${MESH:-data}" \
  "--gin.TransformerConfig.activation_dtype='bfloat16'" "$@"
exec gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all \
  --command "cd mt3 && exec .venv/bin/mt3 train --distributed$arguments"
