"""Peak memory of a call of a case, beyond what the net and its images take.

On a GPU torch's allocator counts it. A CPU's peak can only rise in the life of a process, so each case runs in one
of its own: `python -m mmdwnet.analysis.benchmark.memory CASE_AS_JSON THREADS`, which prints the bytes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import torch

from .cases import Case, Workshop


def peak_bytes(case: Case, threads: int) -> int:
    """Return the bytes that a call of the case takes at its peak: activations, gradients, buffers.

    Args:
        case: the case.
        threads: threads of the process that runs it, on a CPU.

    Raises:
        RuntimeError: the case failed; the message is its last line.
    """
    if case.device == 'cuda':
        return _cuda_peak(case)
    command = [sys.executable, '-m', __name__, json.dumps(case.as_json()), str(threads)]
    # What is freed inside glibc's heap stays resident; blocks of their own go back to the system. So what is
    # counted is what the case holds, and not how its sizes happen to fill the heap.
    environment = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': str(2**20)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        killed = f'ended by signal {-done.returncode}, as happens where memory runs out'
        last = done.stderr.strip().splitlines()[-1:] or ['no message']
        raise RuntimeError(killed if done.returncode < 0 else last[0])
    return int(done.stdout.split()[-1])


def _cuda_peak(case: Case) -> int:
    run = Workshop().prepare(case)
    _call(run, case)  # what cuDNN and Triton try out is not the net's
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _cpu_peak(case: Case) -> int:
    run = Workshop().prepare(case)
    before = resident_peak()
    _call(run, case)
    return resident_peak() - before


def _call(run, case: Case) -> None:
    for _ in range(2 if case.optimizer else 1):  # the optimizer makes its state at the end of the first step
        run()


def resident_peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    status = Path('/proc/self/status')
    if status.exists():
        # ru_maxrss of a new process starts from its parent's on Linux, where exec carries it over
        line = next(line for line in status.read_text().splitlines() if line.startswith('VmHWM:'))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _main() -> None:
    score = Path('/proc/self/oom_score_adj')
    if score.exists():
        score.write_text('1000')  # where memory runs out, this process goes first
    torch.set_num_threads(int(sys.argv[2]))
    print(_cpu_peak(Case(**json.loads(sys.argv[1]))))


if __name__ == '__main__':
    _main()
