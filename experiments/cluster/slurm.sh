#!/bin/bash
# One run on the GPUs of several nodes, a process for each GPU; all nodes must see this folder.
#
#     sbatch experiments/cluster/slurm.sh --config mine.py --workdir runs/mine
#
# Preempted, it is sent SIGTERM, saves, and Slurm starts it again: it goes on. Not tried on a cluster.
#SBATCH --job-name=ltu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --output=ltu-%j.txt
set -euo pipefail
. .venv/bin/activate # of: python3 -m venv .venv && .venv/bin/pip install '.[cuda]'
srun python -m ltu_jax.unlearn --distributed "$@"
