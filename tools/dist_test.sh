#!/usr/bin/env bash
# Test on several GPUs, or several CPU processes: dist_test.sh CONFIG CHECKPOINT PROCESSES_PER_NODE [OPTIONS of test.py]
# On several nodes run it on each, with NNODES, NODE_RANK (0 on the first) and MASTER_ADDR (the first) set.
# PORT is the rendezvous port; on one node a free one is taken when it is not set.
if [ $# -lt 3 ]; then
    echo "error: expected CONFIG CHECKPOINT PROCESSES_PER_NODE, got $# arguments" >&2
    exit 2
fi
exec "$(dirname "$0")/_torchrun.sh" test.py "$3" "$1" "$2" "${@:4}"
