"""Make a virtual environment in the checkout: everything pinned, mmcv compiled against the installed torch.

``make setup`` calls it; only the standard library is used. It may be killed at any moment: every
step looks at what is in the environment rather than at what was started, files that others rely on
get their name only when they are complete, and the stamp that turns later calls into a no-op is
written last. ``setup_stacks.py`` says which libraries and which folder: what is installed is extras
of ``setup.py``, the pins are a file in ``requirements/``. The compiled mmcv wheel is kept in
``~/.cache/mmdwnet`` for the next checkout.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from urllib.parse import unquote

from setup_progress import Console, ninja_reader, pip_reader
from setup_stacks import DEFAULT, STACKS
from setup_support import (
    SetupError,
    check_compiler,
    check_wheel,
    damaged,
    diagnose,
    jobs,
    locked,
    pinned,
    run_command,
    write_atomically,
)

ROOT = Path(__file__).resolve().parent.parent
STEPS = 6
BUILD_TOOLS = ('pip', 'setuptools', 'wheel', 'ninja', 'psutil', 'packaging')

# Variables that would make Python or pip work on something else than the environment.
MISLEADING = {'PYTHONPATH', 'PYTHONHOME', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX', 'PIP_DRY_RUN'}

# The torch that mmcv is compiled against, and for what: mmcv compiles CUDA ops where torch sees a GPU
# (for its architecture) or where FORCE_CUDA=1.
PROBE = """
import json, os, re, torch
arch = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
if torch.cuda.is_available():
    arch = "cuda-" + (arch or "{}.{}".format(*torch.cuda.get_device_capability()))
elif os.environ.get("FORCE_CUDA") == "1":
    arch = "cuda-" + (arch or "default")
else:
    arch = "cpu"
print(json.dumps([torch.__version__, re.sub("[^a-z0-9.+]+", "-", arch.lower())]))
"""
CHECK_ALL = """
import cv2, torch, torchvision, mmengine, mmcv, mmpretrain, mmdet, mmseg, mmdwnet
from mmcv.ops import nms, RoIAlign
boxes, scores = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7]]), torch.tensor([0.9, 0.8])
assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [0]
assert nms(boxes, scores, 0.5)[1].tolist() == [0]
"""


class Setup:
    """The steps, each of which may be repeated at no cost.

    Args:
        stack: Which libraries, and where.
        root: The checkout.
        cache: Where built wheels are kept, one folder per torch, Python and machine.
        console: What shows the progress.
    """

    def __init__(self, stack, root, cache, console):
        self.stack, self.root, self.cache, self.console = stack, root, cache, console
        self.venv = root / stack.venv
        self.python = self.venv / 'bin' / 'python'
        self.stamp = self.venv / 'setup.stamp'
        self.scratch = None
        self.progress_bar = 'off'
        self.mmcv_version = pinned(root / stack.constraints, stack.mmcv)

    @property
    def log(self):
        """Everything that the commands print; beside the environment until that is there."""
        in_venv = (self.venv / 'pyvenv.cfg').exists()
        return self.venv / 'setup.log' if in_venv else self.root / '.setup.log'

    @property
    def site(self):
        """Where the packages of the environment are."""
        version = 'python{}.{}'.format(*sys.version_info)
        return self.venv / 'lib' / version / 'site-packages'

    def fingerprint(self):
        """A hash of what determines the environment."""
        parts = [str(self.root), '{}.{}'.format(*sys.version_info), platform.machine()]
        parts += [(self.root / name).read_text(encoding='utf-8') for name in self.stack.inputs]
        return hashlib.sha256('\0'.join(parts).encode()).hexdigest()

    def is_done(self):
        """Whether a set-up with the same fingerprint has ended here."""
        with contextlib.suppress(OSError):
            return self.python.exists() and self.stamp.read_text() == self.fingerprint()
        return False

    def run(self):
        """All the steps, then the stamp."""
        self.stamp.unlink(missing_ok=True)
        fingerprint = self.fingerprint()  # of what is installed now, whatever is edited meanwhile
        for leftover in self.root.glob('.setup-*'):
            shutil.rmtree(leftover, ignore_errors=True)
        self.scratch = Path(tempfile.mkdtemp(prefix='.setup-', dir=self.root))
        try:
            self.make_venv()
            self.repair()
            self.install('build tools', *BUILD_TOOLS)
            self.progress_bar = 'raw'  # the pip that came with the environment may not know it
            self.install(f'torch and torchvision ({self.stack.torch_size} to download)', 'torch', 'torchvision')
            self.install_mmcv()
            ours = ('--no-build-isolation', '-e', f'.[{self.stack.extras}]')
            self.install('libraries, test tools, mmdwnet', *ours)
            self.console.start('check that everything imports and runs')
            self.call(self.python, '-c', CHECK_ALL)
            self.console.done()
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
        write_atomically(self.stamp, fingerprint)

    def make_venv(self):
        """A virtual environment with this Python and a pip that runs; a half-made one goes."""
        self.console.start(f'virtual environment {self.stack.venv}')
        if os.path.lexists(self.venv) and (reason := self.venv_fault()):
            self.console.say(f'      making {self.stack.venv} anew: {reason}')
            if self.venv.is_symlink() or self.venv.is_file():
                self.venv.unlink()
            else:
                shutil.rmtree(self.venv)
        if not self.venv.exists():
            self.call(sys.executable, '-m', 'venv', self.venv)
        self.console.done('Python ' + platform.python_version())

    def venv_fault(self):
        """Why the environment that is there cannot be used, or None."""
        ours = '{}.{}'.format(*sys.version_info)
        command = [self.python, '-c', "import sys, pip; print('%d.%d' % sys.version_info[:2])"]
        try:
            version = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
            script = (self.venv / 'bin' / 'pip').read_text()
        except (OSError, subprocess.CalledProcessError):
            return 'it is not complete'
        if version != ours:
            return f'it has Python {version}, this is Python {ours}'
        if f'{self.venv}/bin/' not in script:
            return 'it was made for another folder'
        if any(re.match(r'pip-\d', info.name) for info in damaged(self.site)):
            return 'its pip is damaged'
        return None

    def repair(self):
        """Forget the packages that a killed pip left half-written, so that pip installs them."""
        for leftover in self.site.glob('~*'):  # what pip had moved aside
            shutil.rmtree(leftover, ignore_errors=True)
        for info in damaged(self.site):
            self.console.say(f'      to be installed again, not complete: {info.stem}')
            shutil.rmtree(info)

    def install(self, label, *what):
        """One step that is a call of ``pip install`` with the constraints."""
        self.console.start(label)
        self.pip('install', '-c', self.stack.constraints, *what)
        self.console.done()

    def install_mmcv(self):
        """mmcv compiled against the installed torch, and an OpenCV that needs no display."""
        self.console.start('mmcv with its compiled ops')
        torch_version, arch = json.loads(self.call(self.python, '-c', PROBE)[-1])
        cp = 'cp{}{}'.format(*sys.version_info)
        key = f'torch-{torch_version}-{cp}-{platform.machine()}-{arch}'
        folder = self.cache / key
        if self.mmcv_is_from(folder) and self.ops_work():
            self.console.done('was there')
            return

        def wait(owner):
            self.console.say(f'      waiting for another set-up ({owner}) that builds mmcv for {key}')

        with locked(folder / 'lock', wait):
            wheel = self.cached_wheel(folder)
            if wheel and self.mmcv_works_from(wheel):
                self.console.done(f'from {folder}')
                return
            wheel = self.build_mmcv(folder)
            if not self.mmcv_works_from(wheel):
                raise SetupError(self.stack.ops_missing)
        self.console.done(f'built, kept in {folder}')

    def mmcv_works_from(self, wheel):
        """Install a wheel of mmcv; one whose ops do not import is removed from the cache."""
        self.pip('uninstall', '-y', self.stack.mmcv)
        self.pip('install', '-c', self.stack.constraints, wheel)
        self.prefer_headless_opencv()
        if self.ops_work():
            return True
        self.console.say(f'      throwing away {wheel}: its ops do not import here')
        wheel.unlink()
        return False

    def mmcv_is_from(self, folder):
        """Whether the installed mmcv came from the wheels in ``folder``, by what pip noted."""
        for info in self.site.glob(f'{self.stack.wheel}-*.dist-info'):
            with contextlib.suppress(OSError, ValueError):
                url = json.loads((info / 'direct_url.json').read_text())['url']
                name = f'{self.stack.wheel}-{self.mmcv_version}-'
                return unquote(url).startswith(f'file://{folder}/{name}')
        return False

    def ops_work(self):
        """Whether the ops import, in a fresh process."""
        try:
            self.call(self.python, '-c', 'from mmcv.ops import nms, RoIAlign')
        except SetupError:
            return False
        return True

    def cached_wheel(self, folder):
        """The wheel that an earlier set-up left in ``folder``, or None; a bad one is removed."""
        for wheel in folder.glob(f'{self.stack.wheel}-{self.mmcv_version}-*.whl'):
            fault = check_wheel(wheel)
            if fault is None:
                return wheel
            self.console.say(f'      throwing away the cached {wheel}: {fault}')
            wheel.unlink()
        return None

    def build_mmcv(self, folder):
        """Compile mmcv and put the wheel, once it is known to be good, into ``folder``."""
        check_compiler()
        env = {
            'MMCV_WITH_OPS': '1',
            'MAX_JOBS': os.environ.get('MAX_JOBS', str(jobs())),
            # without the debug information that Python's own flags ask for: half the time
            'CPPFLAGS': f'{os.environ.get("CPPFLAGS", "")} -g0'.lstrip(),
        }
        self.console.update('fetching and preparing the sources of mmcv')
        self.console.say(f'      compiling with {env["MAX_JOBS"]} jobs: minutes, once per torch')
        name = f'{self.stack.mmcv}=={self.mmcv_version}'
        flags = ['-v', '--no-build-isolation', '--no-deps', '--no-cache-dir', '--no-binary', ':all:']
        self.pip('wheel', *flags, '-w', self.scratch, name, reader=ninja_reader, env=env)
        (built,) = self.scratch.glob(f'{self.stack.wheel}-*.whl')
        if fault := check_wheel(built):
            raise SetupError(f'the mmcv wheel just built is of no use: {fault}; {self.stack.ops_missing}')
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f'.{built.name}.{os.getpid()}'
        shutil.copyfile(built, part)  # the cache may be on another file system
        os.replace(part, folder / built.name)
        return folder / built.name

    def prefer_headless_opencv(self):
        """Of the two OpenCV builds that share ``cv2/``, let the one without GUI libraries win."""
        version = self.site / 'cv2' / 'version.py'
        if not version.exists() or 'headless = True' not in version.read_text():
            name = 'opencv-python-headless'
            self.pip('install', '-c', self.stack.constraints, '--no-deps', '--force-reinstall', name)
        self.call(self.python, '-c', 'import cv2')

    def pip(self, command, *args, reader=pip_reader, env=None):
        """Call the pip of the environment."""
        env = {'PIP_PROGRESS_BAR': self.progress_bar, **(env or {})}
        self.call(self.python, '-m', 'pip', command, *args, read=reader(self.console), env=env)

    def call(self, *command, read=None, env=None):
        """Run a command in the checkout, show its progress, keep what it prints in the log.

        Returns:
            list[str]: The last lines that it printed.

        Raises:
            SetupError: It failed; with the diagnosis where the cause is known.
        """
        command = [str(part) for part in command]
        env = {**self.environment(), **(env or {})}
        tail = deque(maxlen=200)
        with open(self.log, 'a', buffering=1, encoding='utf-8') as log:
            log.write(f'\n$ {shlex.join(command)}\n')

            def on_line(line):
                if not line.startswith('Progress '):
                    log.write(line + '\n')
                    tail.append(line)
                if read:
                    read(line)

            code = run_command(command, self.root, env, on_line, self.console.tick)
        if code:
            raise SetupError(diagnose(command, code, '\n'.join(tail)), list(tail)[-30:])
        return list(tail)

    def environment(self):
        """The variables of the commands: the environment first on PATH (torch looks for ninja there)."""
        env = {name: value for name, value in os.environ.items() if name not in MISLEADING}
        env['PATH'] = f'{self.venv / "bin"}{os.pathsep}{env.get("PATH", os.defpath)}'
        env['TMPDIR'] = str(
            self.scratch or tempfile.gettempdir()
        )  # in the checkout: what a killed pip leaves is found
        env['PIP_DISABLE_PIP_VERSION_CHECK'] = '1'
        return env


def check_python(version, stack):
    """Raise SetupError unless ``version`` (major, minor, ...) is one that the stack's pins are for."""
    if not (3, 10) <= tuple(version[:2]) <= (3, stack.last_python):
        *others, last = (f'3.{minor}' for minor in range(10, stack.last_python + 1))
        raise SetupError(
            f'Python {version[0]}.{version[1]} ({sys.executable}) is not supported: expected '
            f'{", ".join(others)} or {last}; name one: {stack.command} PYTHON=/path/to/python{last}'
        )


def leave_venv(stack):
    """Start again with the interpreter that the environment was made from, if this is the one in it."""
    if Path(sys.prefix).resolve() == (ROOT / stack.venv).resolve():
        base = sys._base_executable  # public API has only the prefix, not the file
        os.execv(base, [base, *sys.argv])


def stop(signum, frame):
    """Turn a signal into an exception, so that the running command is ended too."""
    raise SystemExit(128 + signum)


def parse_args():
    """The command line."""
    parser = argparse.ArgumentParser(description='Make the virtual environment of a stack, or complete it')
    parser.add_argument('--stack', choices=STACKS, default=DEFAULT, help=f'which libraries (default: {DEFAULT})')
    return parser.parse_args()


def main():
    """Set up, or return at once when that is done. Returns the exit status."""
    stack = STACKS[parse_args().stack]
    console = Console(STEPS)
    try:
        check_python(sys.version_info, stack)
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
        setup = Setup(stack, ROOT, cache / 'mmdwnet' / 'wheels', console)
        if setup.is_done():
            return 0
        leave_venv(stack)
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, stop)
        with locked(ROOT / ".setup.lock", lambda owner: console.say(
            f"waiting for another set-up of this checkout ({owner})"
        )):  # fmt: skip
            if not setup.is_done():
                console.say(f'setting up {stack.venv}; the log is in {setup.venv / "setup.log"}')
                setup.run()
        return 0
    except SetupError as error:
        for line in error.tail:
            console.say(f'    {line}')
        log = f' (log: {setup.log})' if error.tail else ''
        message = f'error: {error}{log}'
    except OSError as error:
        message = f'error: {error.filename or "set-up"}: {error.strerror}: put that right, call again'
    except KeyboardInterrupt:
        message = 'interrupted: call again, what was done is kept'
    print(f'\n{message}' if console.tty else message, file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main())
