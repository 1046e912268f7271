"""The form of the page: findings under headings, printed as they come, in colour where rich is installed."""

from __future__ import annotations

import contextlib
import io
import shutil
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

COLOURS = dict(ok='green', note='dim', warning='yellow', fails='bold red')
INDENT = 2 + 9 + 13  # margin, status, name
WIDTH = 108  # at most


@dataclass(frozen=True)
class Finding:
    """One line of the page.

    Args:
        status: 'ok', 'note' (neither good nor bad), 'warning', or 'fails': a run would not work.
        name: what was looked at, in a word or two.
        text: what was found.
        cure: what to do about it.
        values: the numbers behind the text, for programs.
    """

    status: str
    name: str
    text: str
    cure: str = ''
    values: dict[str, Any] = field(default_factory=dict)


class Page:
    """Prints and keeps findings.

    Args:
        file: where the page is printed.
    """

    def __init__(self, file: TextIO):
        try:
            from rich.console import Console
        except ImportError:
            self._console = None
        else:
            self._console = Console(file=file, highlight=False)
        self._file = file
        self._width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH) if file.isatty() else WIDTH
        self.sections: list[tuple[str, list[Finding]]] = []

    def section(self, title: str) -> None:
        """Begin a section."""
        self.sections.append((title, []))
        self._print(f'\n{title}', 'bold')

    def look(self, name: str, check: Callable[[], Iterator[Finding]]) -> bool:
        """Run a check, print what it finds, and return whether nothing fails.

        Args:
            name: of the check.
            check: yields findings; an exception becomes one that fails.
        """
        found = []
        with self._busy(name), quiet():
            try:
                found.extend(check())
            except Exception as error:  # a page about what is broken must go on
                found.append(failure(name, error))
        for finding in found:
            self.sections[-1][1].append(finding)
            self._show(finding)
        return all(finding.status != 'fails' for finding in found)

    def count(self, status: str) -> int:
        """How many findings have a status."""
        return sum(finding.status == status for _, findings in self.sections for finding in findings)

    def end(self, good: str) -> bool:
        """Print the last line, `good` if nothing fails, and return whether nothing does."""
        fails, warned = self.count('fails'), self.count('warning')
        counted = f'{fails} problem{"s" * (fails != 1)}, {warned} warning{"s" * (warned != 1)}'
        self._print(
            f'\n{"This would not work" if fails else good}: {counted}.', 'bold red' if fails else 'bold green'
        )
        return not fails

    def as_json(self) -> dict[str, Any]:
        """The page as plain data."""
        sections = [dict(title=t, findings=[asdict(finding) for finding in f]) for t, f in self.sections]
        return dict(fails=self.count('fails'), warnings=self.count('warning'), sections=sections)

    def _show(self, finding: Finding) -> None:
        first, *rest = self._wrapped(finding.text) or ['']
        status = f'{finding.status:<9}'
        lead = f'{finding.name:<12} '
        if len(lead) > INDENT - 11:  # a name that is too long for its column
            rest, first = [first, *rest], ''
        if self._console is None:
            print(f'  {status}{lead}{first}'.rstrip(), file=self._file)
        else:
            from rich.text import Text

            parts = ('  ', (status, COLOURS[finding.status]), lead, first)
            self._console.print(Text.assemble(*parts), soft_wrap=True)
        for line in rest:
            self._print(' ' * INDENT + line)
        for line in self._wrapped(f'cure: {finding.cure}') if finding.cure else ():
            self._print(' ' * INDENT + line, 'cyan')

    def _wrapped(self, text: str) -> list[str]:
        return textwrap.wrap(text, max(self._width - INDENT, 30), break_on_hyphens=False, break_long_words=False)

    def _print(self, line: str, style: str = '') -> None:
        if self._console is None:
            print(line, file=self._file)
        else:
            self._console.print(line, style=style, soft_wrap=True, markup=False)

    def _busy(self, name: str) -> contextlib.AbstractContextManager:
        if self._console is None or not self._console.is_terminal:
            return contextlib.nullcontext()
        return self._console.status(f'{name} ...')


def failure(name: str, error: Exception) -> Finding:
    """The finding that an exception is; a `UserError` says itself what to do."""
    text = ' '.join(str(error).split())
    if type(error).__name__ != 'UserError':
        text = f'{type(error).__name__}: {text[:300]}'
    return Finding('fails', name, text)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries log, warn of and print while a check runs off the page."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


def size(count: float) -> str:
    """Bytes in words."""
    units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
    while count >= 1024 and len(units) > 1:
        count, units = count / 1024, units[1:]
    return f'{count:.0f} {units[0]}' if units[0] == 'bytes' or count >= 100 else f'{count:.1f} {units[0]}'


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 1:
        return f'{seconds * 1000:.3g} ms'
    for unit, length in (('days', 86400), ('hours', 3600), ('minutes', 60)):
        if seconds >= 2 * length:
            return f'{seconds / length:.1f} {unit}'
    return f'{seconds:.1f} s'
