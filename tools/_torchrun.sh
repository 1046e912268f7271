#!/usr/bin/env bash
# Start a tool under torchrun: _torchrun.sh TOOL PROCESSES_PER_NODE ARGUMENTS..., for dist_train.sh and dist_test.sh.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
tool=$1 processes=$2
case $processes in
    '' | *[!0-9]*) echo "error: expected a number of processes per node, got '$processes'" >&2; exit 2 ;;
esac
nodes=${NNODES:-1}
if [ "$nodes" -gt 1 ] && [ -z "${MASTER_ADDR:-}" ]; then
    echo "error: NNODES=$nodes needs MASTER_ADDR, the name of the first node" >&2
    exit 2
fi
if [ -n "${PORT:-}" ] && [ "${NODE_RANK:-0}" = 0 ] && (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then
    echo "error: PORT=$PORT is in use: choose another one, or leave PORT out on a single node" >&2
    exit 2
fi
# port 0: torchrun chooses a free one, which works on one node only, where nobody else has to know it
rendezvous=(--master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" --node_rank "${NODE_RANK:-0}")
if [ "$nodes" = 1 ] && [ -z "${PORT:-}" ]; then
    rendezvous=(--rdzv_backend c10d --rdzv_endpoint localhost:0)
fi
PYTHONPATH="$tools/..:${PYTHONPATH:-}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "$nodes" --nproc_per_node "$processes" "${rendezvous[@]}" \
    "$tools/$tool" "${@:3}" --launcher pytorch
