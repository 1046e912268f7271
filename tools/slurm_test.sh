#!/usr/bin/env bash
# Test under Slurm: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [OPTIONS of test.py]
# GPUS in all (8), GPUS_PER_NODE (8; 0: CPU processes, as many as GPUS), CPUS_PER_TASK (5), SRUN_ARGS.
if [ $# -lt 4 ]; then
    echo "error: expected PARTITION JOB_NAME CONFIG CHECKPOINT, got $# arguments" >&2
    exit 2
fi
exec "$(dirname "$0")/_srun.sh" "$1" "$2" test.py "$3" "$4" "${@:5}"
