"""A Python that has imported the large libraries once; the scripts that tests run are forks of it.

Nine tenths of the time that a tool takes on a small task are imports, and the suite starts hundreds. Each process
still imports by itself what registers something, mmdwnet and the OpenMMLab libraries but for mmengine and mmcv, so
that a tool which forgets an import fails here too. `tests/docs` runs the tools as plain processes.

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

ROOT = Path(__file__).resolve().parents[1]
OWN = {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
LIBRARIES = (
    *('torch', 'torchvision', 'timm', 'scipy.stats', 'pandas', 'sklearn.mixture', 'numba', 'imgaug', 'cv2'),
    *('matplotlib.pyplot', 'rich.progress', 'pycocotools.coco', 'mmengine.runner', 'mmcv'),
)
NUMBER = 8  # bytes of an answer


def run_python(*args: object, cwd: Path = ROOT, timeout: float = 600, **env: str) -> subprocess.CompletedProcess:
    """Run `python ARGS...` on one thread, and return the finished process with its outputs as text.

    A script is a fork, unless it is given variables of its own: the libraries may have read them when imported.
    """
    command = [*map(str, args)]
    if env or not command[0].endswith('.py'):
        command = [sys.executable, *command]
        env = {**os.environ, **OWN, **env}
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Process(command, cwd, out.fileno(), err.fileno())
        try:
            code = process.wait(timeout)
        except TimeoutError:
            process.send_signal(signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout) from None
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(command, code, out.read().decode(), err.read().decode())


def start_python(*args: object) -> Process:
    """Start `python -u ARGS...`, a script, and return it as it runs; its `stdout` is a stream with its stderr."""
    read, write = os.pipe()
    try:
        process = Process([*map(str, args)], ROOT, write, write)
    finally:
        os.close(write)
    process.stdout = os.fdopen(read)
    return process


class Process:
    """A script that runs, as `subprocess.Popen` has it.

    Args:
        command: the script and its arguments.
        cwd: the folder to run it in.
        out, err: descriptors for its outputs.
    """

    def __init__(self, command: list[str], cwd: Path, out: int, err: int):
        self._answers, theirs = socket.socketpair()
        with ExitStack() as stack:
            asked = stack.enter_context(tempfile.TemporaryFile())
            stack.enter_context(theirs)
            wish = dict(command=command, cwd=str(cwd), env={**os.environ, **OWN})
            asked.write(json.dumps(wish).encode())
            asked.seek(0)
            socket.send_fds(_server(), [b'.'], [asked.fileno(), out, err, theirs.fileno()])
        self.pid = self._answer()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, or minus the signal that ended it.

        Raises:
            TimeoutError: it still runs after so many seconds.
        """
        self._answers.settimeout(timeout)
        with self._answers:
            return self._answer()

    def _answer(self) -> int:
        answer = self._answers.recv(NUMBER)
        if not answer:
            raise RuntimeError(f'{__file__} has ended')
        return int.from_bytes(answer, 'little', signed=True)


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        descriptor = theirs.fileno()
        command = [sys.executable, __file__, str(descriptor)]
        nothing = subprocess.DEVNULL
        env = {**os.environ, **OWN}
        subprocess.Popen(command, env=env, pass_fds=[descriptor], stdin=nothing, stdout=nothing)
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
    """Fork once more, and return in the new process; the old one answers with its number and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        answers.close()
        return
    for file in files:
        os.close(file)
    answers.sendall(process.to_bytes(NUMBER, 'little', signed=True))
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    answers.sendall(code.to_bytes(NUMBER, 'little', signed=True))
    os._exit(0)


def become(asked: int, out: int, err: int) -> str:
    """Make this process what the file asks for, and return its script."""
    with os.fdopen(asked, 'rb') as file:
        wish = json.load(file)
    for descriptor, standard in ((out, 1), (err, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    # new streams, for these know of the old files whether they are seekable
    sys.stdout = sys.__stdout__ = os.fdopen(1, 'w', buffering=1, closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, 'w', buffering=1, closefd=False, errors='backslashreplace')
    os.chdir(wish['cwd'])
    os.environ.clear()
    os.environ.update(wish['env'])
    sys.argv = wish['command']
    sys.path[0] = str(Path(sys.argv[0]).absolute().parent)
    draw_anew()
    return sys.argv[0]


def draw_anew() -> None:
    """Seed the generators that a process starts with a seed of its own; torch starts with the same one always."""
    import numpy as np

    random.seed()
    np.random.seed()


if __name__ == '__main__':
    for library in LIBRARIES:
        with suppress(ImportError):  # not every environment has all
            importlib.import_module(library)
    gc.freeze()  # what is here already is shared, and stays so
    runpy.run_path(become(*serve(socket.socket(fileno=int(sys.argv[1])))), run_name='__main__')
