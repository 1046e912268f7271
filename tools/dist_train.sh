#!/usr/bin/env bash
# Train on several GPUs, or several CPU processes: dist_train.sh CONFIG PROCESSES_PER_NODE [OPTIONS of train.py]
# On several nodes run it on each, with NNODES, NODE_RANK (0 on the first) and MASTER_ADDR (the first) set.
# PORT is the rendezvous port; on one node a free one is taken when it is not set.
if [ $# -lt 2 ]; then
    echo "error: expected CONFIG PROCESSES_PER_NODE, got $# arguments" >&2
    exit 2
fi
exec "$(dirname "$0")/_torchrun.sh" train.py "$2" "$1" "${@:3}"
