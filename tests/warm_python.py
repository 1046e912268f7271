"""A Python that has imported the large libraries once; the scripts that tests run are forks of it.

Nine tenths of the time that a tool takes on a small task are imports, and the suite starts hundreds. Each process
still imports by itself what registers something, mmdwnet and the OpenMMLab libraries but for mmengine and mmcv.
What a fork cannot show: a submodule of another library that nobody imports, what libraries print when they are
imported, another seed of hashes. `test_warm_python.py` starts every tool as a process of its own for that.

As a script it is the server: `warm_python.py DESCRIPTOR`, a socket on which it is given, for one process after the
other, a file that says what to run, where its stdout and stderr go, and a socket for the answers.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import TextIO

import torch

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = [
    'torchvision',
    'timm',
    'scipy.stats',
    'pandas',
    'sklearn.mixture',
    'numba',
    'imgaug',
    'cv2',
    'matplotlib.pyplot',
    'rich.progress',
    'pycocotools.coco',
    'mmengine.runner',
    'mmcv',
]
NUMBER = 8  # bytes of an answer
START = 120  # seconds for the server to import them


def run_python(*args: object, cwd: Path = ROOT, timeout: float = 600, **env: str) -> subprocess.CompletedProcess:
    """Run `python ARGS...` on one thread, and return the finished process with its outputs as text.

    A script is a fork, unless it is given variables of its own: the libraries may have read them when imported.
    """
    command = [*map(str, args)]
    if env or not command[0].endswith('.py') or not _forks():
        command, env = [sys.executable, *command], {**environment(), **env}
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
        process = Fork(command, cwd, out.fileno(), err.fileno())
        try:
            code = process.wait(timeout)
        except BaseException:
            process.send_signal(signal.SIGKILL)
            raise
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


def start_python(*args: object) -> Fork | subprocess.Popen:
    """Start `python -u ARGS...`, a script, and return it as it runs; its `stdout` is a stream with its stderr."""
    command = [*map(str, args)]
    if not _forks():
        outputs = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return subprocess.Popen([sys.executable, '-u', *command], cwd=ROOT, env=environment(), **outputs)
    read, write = os.pipe()
    try:
        return Fork(command, ROOT, write, write, os.fdopen(read))
    finally:
        os.close(write)


def environment() -> dict[str, str]:
    """That of a process which a test starts in the repository, on one thread."""
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}


@cache
def _forks() -> bool:
    """Whether scripts are forks: not with a GPU, which mmengine looks at when imported, and CUDA does not fork."""
    return not torch.cuda.is_available()


class Fork:
    """A script that runs.

    Args:
        command: the script and its arguments.
        cwd: the folder to run it in.
        out, err: descriptors for its outputs.
        stdout: where to read what it prints, which it then does a line at a time.
    """

    def __init__(self, command: list[str], cwd: Path, out: int, err: int, stdout: TextIO | None = None):
        self.stdout = stdout
        self._answers, theirs = socket.socketpair()
        with ExitStack() as stack:
            asked = stack.enter_context(tempfile.TemporaryFile('w+'))
            stack.enter_context(theirs)
            wish = dict(command=command, cwd=str(cwd), env=environment(), by_lines=stdout is not None)
            json.dump(wish, asked)
            asked.seek(0)
            socket.send_fds(_server(), [b'.'], [asked.fileno(), out, err, theirs.fileno()])
        self.pid = self._answer(START)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)  # it is there, if only as a zombie, until the answers are closed

    def wait(self, timeout: float) -> int:
        """Its exit status, or minus the signal that ended it; to be asked for once.

        Raises:
            TimeoutError: it still runs after so many seconds.
        """
        return self._answer(timeout)

    def _answer(self, timeout: float) -> int:
        self._answers.settimeout(timeout)
        answer = self._answers.recv(NUMBER)
        if not answer:
            raise RuntimeError(f'{__file__} has ended')
        return int.from_bytes(answer, 'little', signed=True)


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        nothing = subprocess.DEVNULL
        subprocess.Popen(command, env=environment(), pass_fds=[theirs.fileno()], stdin=nothing, stdout=nothing)
    return ours


def serve(channel: socket.socket) -> list[int]:
    """Fork for whatever the channel asks for; return in the process that is to run it, with its files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is interrupted is pytest, which then closes the channel
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        asked, files, *_ = socket.recv_fds(channel, 1, 4)
        if not asked:
            os._exit(0)
        if os.fork() == 0:
            channel.close()
            keep(socket.socket(fileno=files.pop()), files)
            return files
        for file in files:
            os.close(file)


def keep(answers: socket.socket, files: list[int]) -> None:
    """Fork once more, and return in the new process; the old one answers with its number and how it ended.

    Until the other side closes the answers it is a zombie, so that its number is not given to another process.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        answers.close()
        return
    for file in files:
        os.close(file)
    with suppress(OSError):  # nobody asks any more
        answers.sendall(process.to_bytes(NUMBER, 'little', signed=True))
        end = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        answers.sendall(code.to_bytes(NUMBER, 'little', signed=True))
        answers.recv(1)
    os._exit(0)


def become(asked: int, out: int, err: int) -> str:
    """Make this process what the file asks for, and return the path of its script."""
    with os.fdopen(asked) as file:
        wish = json.load(file)
    for descriptor, standard in ((out, 1), (err, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    # new streams, for these know of the old files whether they are seekable
    by_lines = wish['by_lines'] or wish['env'].get('PYTHONUNBUFFERED')
    sys.stdout = sys.__stdout__ = os.fdopen(1, 'w', 1 if by_lines else -1, closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, 'w', 1, closefd=False, errors='backslashreplace')
    os.chdir(wish['cwd'])
    os.environ.clear()
    os.environ.update(wish['env'])
    sys.argv = wish['command']
    script = Path(sys.argv[0]).absolute()
    sys.path[0] = str(script.parent)
    draw_anew()
    return str(script)


def draw_anew() -> None:
    """Seed the global generators, as a process does when it starts: forks would draw the same numbers."""
    import numpy as np

    random.seed()
    np.random.seed()
    torch.seed()


if __name__ == '__main__':
    for library in LIBRARIES:
        with suppress(Exception):  # what is missing or broken concerns those who need it
            importlib.import_module(library)
    gc.freeze()  # what is here already is shared, and stays so
    runpy.run_path(become(*serve(socket.socket(fileno=int(sys.argv[1])))), run_name='__main__')
