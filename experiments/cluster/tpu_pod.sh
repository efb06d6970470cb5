#!/bin/bash
# One run on all hosts of a Cloud TPU slice; the workdir and the cache must lie where all hosts see them.
#
#     NAME=my-pod ZONE=us-central2-b experiments/cluster/tpu_pod.sh --config mine.py --workdir /shared/runs/mine
#
# The checkout lies in ~/ltu_jax on each host, with '.[tpu]' installed in its .venv. Not tried on a pod.
set -euo pipefail
gcloud compute tpus tpu-vm ssh "$NAME" --zone "$ZONE" --worker=all \
  --command "cd ltu_jax && .venv/bin/python -m ltu_jax.unlearn --distributed $(printf '%q ' "$@")"
