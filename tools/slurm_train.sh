#!/usr/bin/env bash
# Train under Slurm: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [OPTIONS of train.py]
# GPUS in all (8), GPUS_PER_NODE (8; 0: CPU processes, as many as GPUS), CPUS_PER_TASK (5), SRUN_ARGS.
if [ $# -lt 4 ]; then
    echo "error: expected PARTITION JOB_NAME CONFIG WORK_DIR, got $# arguments" >&2
    exit 2
fi
exec "$(dirname "$0")/_srun.sh" "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
