"""What ``setup_env.py`` shows while it works: the running step, and pip's and ninja's lines condensed.

Only the standard library is used: it runs before anything is installed.
"""

from __future__ import annotations

import re
import shutil
import sys
import time

CLEAR_LINE = '\r\x1b[K'


class Console:
    """The running step: one line rewritten in place on a terminal, a line now and then elsewhere.

    Args:
        steps: How many steps there will be.
        stream: Where to write; standard output by default.
    """

    QUIET_S = 5  # without a terminal: at least so long between two lines,
    HEARTBEAT_S = 30  # and at most so long

    def __init__(self, steps, stream=None):
        self.steps = steps
        self.stream = stream or sys.stdout
        self.tty = self.stream.isatty()
        self.step = self.decile = 0
        self.label = self.text = ''
        self.fraction = None
        self.began = self.printed = time.monotonic()

    def start(self, label):
        """Begin the next step."""
        self.step += 1
        self.label, self.text, self.fraction, self.decile = label, '', None, 0
        self.began = self.printed = time.monotonic()
        if not self.tty:
            self._write(f'[{self.step}/{self.steps}] {label}\n')

    def update(self, text, fraction=None):
        """Show what the step is doing, and how much of that is done (0 to 1) where known.

        Without a terminal a line is printed for another text (up to its first colon) and for
        every tenth of the way, but not more often than every ``QUIET_S`` seconds.
        """
        changed = text.split(':')[0] != self.text.split(':')[0]
        decile = int(fraction * 10) if fraction is not None else 0
        if changed:
            self.decile = 0
        self.text, self.fraction = text, fraction
        quiet = time.monotonic() - self.printed >= self.QUIET_S
        if not self.tty and quiet and (changed or decile > self.decile):
            self.decile = decile
            self._line()

    def tick(self):
        """Keep the display alive; called several times a second while a command runs."""
        if not self.tty:
            if time.monotonic() - self.printed >= self.HEARTBEAT_S:
                self._line()
            return
        bar = ''
        if self.fraction is not None:
            full = int(self.fraction * 20)
            bar = f' [{"#" * full}{"." * (20 - full)}]'
        spinner = '|/-\\'[int(time.monotonic() * 5) % 4]
        head = f'[{self.step}/{self.steps}] {self.label} {spinner} {self._elapsed()}'
        width = shutil.get_terminal_size().columns - 1
        self._write(CLEAR_LINE + f'{head}{bar} {self.text}'[:width])

    def done(self, note=''):
        """End the step."""
        if self.tty:
            note = f'{self.label}{": " + note if note else ""}'
            self.say(f'[{self.step}/{self.steps}] {note} ({self._elapsed()})')
        else:
            self.say(f'      {note or "done"} ({self._elapsed()})')

    def say(self, message):
        """A line that stays."""
        self._write(f'{CLEAR_LINE if self.tty else ""}{message}\n')

    def _line(self):
        self.printed = time.monotonic()
        self._write(f'      {self._elapsed()} {self.text or "working"}\n')

    def _elapsed(self):
        seconds = int(time.monotonic() - self.began)
        return f'{seconds // 60}:{seconds % 60:02d}'

    def _write(self, text):
        self.stream.write(text)
        self.stream.flush()


def pip_reader(console):
    """A reader of pip's lines (with ``--progress-bar raw``)."""

    def read(line):
        if match := re.match(r'Progress (\d+) of (\d+)', line):
            done, total = int(match[1]), int(match[2])
            if total:
                text = console.text.split(':')[0]
                console.update(f'{text}: {done >> 20} of {total >> 20} MB', done / total)
        elif match := re.match(r'\s*(Collecting|Downloading|Building wheels? for) (\S+)', line):
            console.update(f'{match[1].lower()} {match[2].split("/")[-1]}')
        elif line.startswith('Installing collected packages'):
            console.update(f'installing {line.count(",") + 1} packages')

    return read


def ninja_reader(console):
    """A reader of ninja's ``[n/78]`` lines: files compiled, and about how long it still takes."""
    first = []  # when the first file was done

    def read(line):
        if match := re.match(r'\s*\[(\d+)/(\d+)\] ', line):
            done, total = int(match[1]), int(match[2])
            now = time.monotonic()
            first.append(now)
            left = (now - first[0]) / max(done - 1, 1) * (total - done)
            eta = f', about {max(1, round(left / 60))} min left' if done > 3 else ''
            console.update(f'compiling mmcv: file {done} of {total}{eta}', done / total)

    return read
