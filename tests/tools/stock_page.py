"""The commands of docs/stock-extras.md, run word for word in a folder that looks like a checkout."""

import os
import re
import subprocess
import sys
from pathlib import Path

from warm_python import run_python

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'stock-extras.md'
MARK = r'<!-- tested by: tests/tools/test_stock_extras\.py::(\w+) -->\n```(\w+)\n(.*?)```'


def blocks(test: str, language: str) -> str:
    """The page's blocks of a language that name this test, one after the other."""
    found = re.findall(MARK, PAGE.read_text(encoding='utf-8'), re.DOTALL)
    text = ''.join(code for name, kind, code in found if (name, kind) == (test, language))
    assert text, f'{PAGE.name} has no {language} block that is tested by {test}'
    return text


class Place:
    """A folder with this checkout's configs and tools, a small mini dataset, and runs of its configs.

    Args:
        folder: is made.
        data: a mini dataset.
    """

    def __init__(self, folder: Path, data: Path):
        self.folder = folder
        (folder / 'data').mkdir(parents=True)
        (folder / 'data' / 'mini').symlink_to(data)
        for name in ('configs', 'tools'):
            (folder / name).symlink_to(ROOT / name)

    def shell(self, script: str) -> str:
        """Run a script after the page's names; return what it printed."""
        path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
        env = {**os.environ, 'PATH': path, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg'}
        command = ['bash', '-euo', 'pipefail', '-c', blocks('test_shell_names', 'bash') + script]
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def run(self, test: str) -> str:
        """Run the page's commands that name this test; return what they printed."""
        return self.shell(blocks(test, 'bash'))

    def train(self, config: str, *options: str) -> Path:
        """Train a config of the mini dataset with this project's tool, once; return the work directory."""
        work = self.folder / 'work_dirs' / config
        if not work.exists():
            loaders = [f'{split}_dataloader.num_workers=0' for split in ('train', 'val')]
            loaders += [f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val')]
            command = ['tools/train.py', f'configs/mini/{config}.py', '--cfg-options', *options, *loaders]
            done = run_python(*command, cwd=self.folder)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return work
