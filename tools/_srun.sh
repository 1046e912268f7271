#!/usr/bin/env bash
# Start a tool under srun: _srun.sh PARTITION JOB_NAME TOOL ARGUMENTS..., for slurm_train.sh and slurm_test.sh.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
tasks=${GPUS:-8} per_node=${GPUS_PER_NODE:-8}
resources=(--ntasks "$tasks" --cpus-per-task "${CPUS_PER_TASK:-5}")
if [ "$per_node" -gt 0 ]; then
    resources+=(--gres "gpu:$per_node" --ntasks-per-node "$per_node")
fi
# shellcheck disable=SC2086  # SRUN_ARGS holds several words on purpose
PYTHONPATH="$tools/..:${PYTHONPATH:-}" exec srun --partition "$1" --job-name "$2" "${resources[@]}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$tools/$3" "${@:4}" --launcher slurm
