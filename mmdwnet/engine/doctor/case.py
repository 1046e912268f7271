"""A config on this machine: loaded, checked, measured."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...errors import UserError
from ..amp import set_amp
from ..config import load_config, task_of
from . import hardware
from .forecast import Forecast
from .measuring import Job, measure
from .page import Page
from .settings import Settings


@dataclass(frozen=True)
class Case:
    """A config and where it came from.

    Args:
        cfg: the config, with the command line merged.
        task: 'cls', 'det' or 'seg'.
        file: its file.
        overrides: those of the command line.
    """

    cfg: Config
    task: str
    file: str
    overrides: dict[str, Any]

    def examine(self, page: Page, quick: bool) -> None:
        """Add the part of the page that is about the config.

        Args:
            page: the page; its section has begun.
            quick: nothing is measured.
        """
        settings = Settings(self.cfg)
        if not page.look('model', settings.model):
            return  # nothing else can be told
        fits = page.look('training', settings.training)
        loads = page.look('data', settings.data)
        page.look('weights', settings.weights)
        if quick:
            page.look('disk', lambda: hardware.disk(Path(self.cfg.work_dir)))
        elif fits:
            page.section('Measured')
            page.look('training steps and data loading', lambda: self._measured(settings, loads))

    def _measured(self, settings: Settings, loading: bool):
        job = Job(self.file, self.overrides, self.cfg.optim_wrapper.to_dict(), loading)
        yield from Forecast(self.cfg, settings.images.get('train', 0), *measure(job)).findings()


def open_case(args: argparse.Namespace) -> tuple[Case | None, str]:
    """Load the config of a command line; return it, or what is wrong with it in one line."""
    try:
        cfg = load_config(args.config, args.cfg_options)
        if args.amp or args.amp_dtype:
            set_amp(cfg.optim_wrapper, args.amp_dtype)
        cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
        return Case(cfg, task_of(cfg), args.config, args.cfg_options or {}), ''
    except UserError as error:
        return None, str(error)
