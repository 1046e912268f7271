"""Train, test and show a nano DWNet on three tasks: what `make demo` runs after the set-up.

usage: python tools/demo.py [--work-dir DIR]
"""

import argparse
from pathlib import Path

from rich.console import Console

from mmdwnet.engine.demo import run_demo
from mmdwnet.errors import run_tool


def main() -> None:
    """Exit with 1 if a metric stays below what is expected."""
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(
        description='Train and test a nano DWNet on three tasks, and show the results.'
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'), help='where the results go')
    work_dir = parser.parse_args().work_dir
    if not run_demo(root, (root / work_dir).resolve(), Console()):
        raise SystemExit(1)


if __name__ == '__main__':
    run_tool(main)
