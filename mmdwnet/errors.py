"""Errors that are shown to the person at the command line, in one line and without a traceback."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Callable, Sequence


class UserError(Exception):
    """Something that the caller can put right: a path, an option, a missing package.

    The message is one line that says what is wrong, what was expected and what to do.
    """


class Preempted(Exception):
    """A run gave way to a signal, after it had saved its state; started again with --resume, it goes on."""

    # EX_TEMPFAIL of sysexits.h, "try again later": what tools/slurm/dwnet.sbatch turns into a requeue
    status = 75


def listed(names: Sequence[str], most: int = 3, length: int = 160) -> str:
    """Names that a file may have made up, as a part of one line: the first few, cut and escaped, and a count."""
    shown = ', '.join(ascii(name[:length])[1:-1] for name in names[:most])
    return shown + (f' and {len(names) - most} more' if len(names) > most else '')


def run_tool(main: Callable[[], None], verbose: bool = False) -> None:
    """Run a command line's main function; a `UserError` becomes one line on stderr and exit status 2.

    A `Preempted` becomes one line and its status.

    Args:
        main: without arguments.
        verbose: show the traceback of a `UserError` before its line.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr: a name that cannot be printed is printed in escapes
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        main()
    except Preempted as pause:
        print(pause, file=sys.stderr)
        raise SystemExit(Preempted.status) from None
    except UserError as error:
        if verbose:
            traceback.print_exc()
        print(f'error: {error}', file=sys.stderr)
        raise SystemExit(2) from None
