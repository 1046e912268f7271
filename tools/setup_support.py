"""What ``setup_env.py`` looks at and holds on to: wheels, half-written packages, locks, causes.

Only the standard library is used: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import fcntl
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

# The known causes of a failed command: what its output says, and the one line for it.
DIAGNOSES = (
    (r'No space left on device', 'the disk is full: .venv takes about 6 GB; free some and call again'),
    (
        r'Python\.h: No such file',
        'the Python headers are missing: install them (Debian, Ubuntu: apt-get install python3-dev) '
        'and call again',
    ),
    (
        r"ensurepip is not available|No module named '?ensurepip",
        'this Python has no complete venv module: install it (Debian, Ubuntu: apt-get install python3-venv) '
        'and call again',
    ),
    (
        r'Killed signal terminated program|fatal error: Killed',
        'the compiler ran out of memory: call again with fewer jobs, MAX_JOBS=1 make setup',
    ),
    (
        r'(c\+\+|g\+\+|gcc)\W.*(not found|No such file)',
        'no C++ compiler: install one (Debian, Ubuntu: apt-get install build-essential) and call again',
    ),
    (
        r'name resolution|establish a new connection|Network is unreachable|Read timed out|'
        r'ConnectionError|ProxyError',
        "the package registry was not reached: check the network, the proxy and pip's index settings, and call "
        'again; what was done is kept',
    ),
    (
        r'lib(GL|gthread|glib)[-.\w]*\.so',
        'cv2 misses a system library: install it (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0) '
        'and call again',
    ),
    (
        r'CUDA version .* mismatches|nvcc fatal|CUDA_HOME environment variable is not set',
        'torch sees a GPU, so mmcv compiles CUDA ops, but no CUDA toolkit that fits this torch is there: install '
        'the version that torch.version.cuda says and set CUDA_HOME, or hide the GPU to compile for the CPU only '
        '(detection then runs there only): CUDA_VISIBLE_DEVICES= make setup',
    ),
)


class SetupError(Exception):
    """One line for the person who called: what is wrong and what to do.

    Args:
        message: The line.
        tail: The last lines of the command that failed, if one did.
    """

    def __init__(self, message, tail=()):
        super().__init__(message)
        self.tail = tail


def diagnose(command, code, output):
    """One line for a command that failed: the known cause, or what was called."""
    for pattern, cause in DIAGNOSES:
        if re.search(pattern, output):
            return cause
    return f'`{" ".join(command)[:200]}` ended with status {code}'


def check_wheel(path):
    """Why a wheel of mmcv is not to be used, or None: it must be whole and hold the ops."""
    try:
        with zipfile.ZipFile(path) as wheel:
            if broken := wheel.testzip():
                return f'it is damaged ({broken})'
            names = wheel.namelist()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        return f'it cannot be read ({error})'
    if not any(re.fullmatch(r'mmcv/_ext\..*(so|pyd)', name) for name in names):
        return 'it holds no compiled ops (mmcv/_ext)'
    return None


def damaged(site):
    """The ``*.dist-info`` folders in ``site`` whose files are not all there, whole.

    pip writes RECORD last. A size that differs counts, unless it is the size that another
    distribution lists for the same file (both OpenCV builds own ``cv2/``).
    """
    broken, sizes, owners = set(), {}, {}
    for info in site.glob('*.dist-info'):
        if not (info / 'RECORD').is_file() or not (info / 'METADATA').is_file():
            broken.add(info)
            continue
        with open(info / 'RECORD', newline='', encoding='utf-8') as record:
            for row in csv.reader(record):
                sizes.setdefault(row[0], set()).add(row[2])
                owners.setdefault(row[0], set()).add(info)
    for file, expected in sizes.items():
        if file.endswith('.pyc'):
            continue
        try:
            size = str(os.stat(site / file).st_size)
        except OSError:
            size = None
        if size is None or ('' not in expected and size not in expected):
            broken |= owners[file]
    return sorted(broken)


@contextlib.contextmanager
def locked(path, on_wait):
    """Hold ``path`` alone; ``on_wait(owner)`` is called once when somebody else has it.

    The kernel gives the lock back when its holder dies, however it dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            on_wait(file.read().strip() or 'unknown')
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f'process {os.getpid()}')
        file.flush()
        yield


def lines_of(pipe, tick, interval_s=0.2):
    """The lines of a pipe as they come; ``tick()`` is called in between, and while none comes."""
    buffer = b''
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            tick()
            if not selector.select(interval_s):
                continue
            chunk = os.read(pipe.fileno(), 1 << 16)
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b'\n')
            yield from (line.decode(errors='replace').rstrip('\r') for line in lines)
    if buffer:
        yield buffer.decode(errors='replace')


def run_command(command, cwd, env, on_line, tick):
    """Run a command, hand over its lines (both streams) as they come, and return its status.

    It gets a process group of its own, which is killed when anything is raised meanwhile, and on
    Linux it is killed when this process is.
    """
    libc = ctypes.CDLL(None)

    def die_with_parent():  # in the child, before the command starts
        if sys.platform == 'linux':
            libc.prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG

    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    with process.stdout:
        try:
            for line in lines_of(process.stdout, tick):
                on_line(line)
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def write_atomically(path, text):
    """Write a file that is there either whole or not at all."""
    part = path.with_name(f'{path.name}.{os.getpid()}')
    part.write_text(text, encoding='utf-8')
    os.replace(part, path)


def pinned(constraints, name):
    """The version that a constraints file pins for ``name``."""
    text = constraints.read_text(encoding='utf-8')
    match = re.search(rf'^{re.escape(name)}==(\S+)', text, re.MULTILINE)
    if match is None:
        raise SetupError(f'{constraints} pins no {name}: expected a line {name}==VERSION')
    return match[1]


def check_compiler():
    """Raise SetupError before the download and the minutes, where mmcv cannot be compiled."""
    compiler = os.environ.get('CXX', 'c++')
    if shutil.which(compiler.split()[0]) is None:
        raise SetupError(
            f'no C++ compiler ({compiler}), which mmcv needs: install one (Debian, Ubuntu: '
            'apt-get install build-essential) and call again'
        )
    header = Path(sysconfig.get_paths()['include']) / 'Python.h'
    if not header.exists():
        raise SetupError(
            f'no Python headers ({header}), which mmcv needs: install them (Debian, Ubuntu: '
            'apt-get install python3-dev) and call again'
        )


def jobs():
    """How many compilers to run at once: one per core, and 2 GB of memory for each."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return max(1, min(cores, memory >> 31))
