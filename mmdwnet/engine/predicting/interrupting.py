"""Ctrl-C between two batches, where nothing is half done and nothing can swallow it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Ctrl-C raises where the block calls what it is given; a second one raises at once.

    Python raises KeyboardInterrupt wherever it is: between two lines that belong together, or in the callback of
    a weak reference, as matplotlib has them, which loses it. In a thread that is not the main one, and where the
    program has a handler of its own, nothing is changed.

    Yields:
        What to call where the work may be ended.

    Raises:
        KeyboardInterrupt: it was asked for.
    """
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def step() -> None:
        if asked:
            raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield step
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield step
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
