"""Say on one page whether this machine, and a config on it, will work, before a job is queued.

usage: python tools/doctor.py [CONFIG] [--quick] [--work-dir DIR] [--amp] [--cfg-options KEY=VALUE ...]

Exit status 0: it would work; 1: something would fail, and the page names the cure. It runs where libraries are
missing too, and then says which. All options: `python tools/doctor.py --help`.
"""

import importlib
import sys
import types
from importlib.util import find_spec
from pathlib import Path


def import_package() -> str | None:
    """Import mmdwnet; where that fails, make its modules importable one by one, and return why."""
    spec, reason = find_spec('mmdwnet'), None
    if spec is None:
        folder = str(Path(__file__).resolve().parents[1] / 'mmdwnet')
        reason = 'it is not installed: make setup, or pip install --no-build-isolation -e .'
    else:
        (folder,) = spec.submodule_search_locations
        try:
            importlib.import_module('mmdwnet')
        except Exception as error:  # a broken library may raise anything; the page says which one it is
            reason = ' '.join(str(error).split())
    if reason is not None:
        package = types.ModuleType('mmdwnet')  # without its __init__, which imports all that is needed
        package.__path__ = [folder]
        sys.modules['mmdwnet'] = package
    return reason


def main() -> None:
    reason = import_package()
    from mmdwnet.engine.doctor.running import diagnose, doctor_parser
    from mmdwnet.errors import run_tool

    args = doctor_parser(usable=reason is None).parse_args()

    def report() -> None:
        if not diagnose(args, reason):
            raise SystemExit(1)

    run_tool(report)


if __name__ == '__main__':
    main()
