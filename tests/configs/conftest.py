"""Fixtures of the config tests: every test leaves mmengine's globals as it found them."""

import functools
import gc
import logging

import pytest
from mmengine.config import utils as config_utils
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import runner as runner_module

pytest.register_assert_rewrite('config_tools')

# mmengine reads all metafiles of a library for every base of it
_read_once = functools.cache(config_utils.load)


@pytest.fixture(scope='module', autouse=True)
def few_objects():
    """Set aside what is there already, so that what a test leaves is collected in a moment."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def runner_globals(monkeypatch, few_objects):
    """Undo what building a Runner leaves behind: the default scope, message hubs, loggers and their files."""
    for manager in (DefaultScope, MessageHub, MMLogger):
        monkeypatch.setattr(manager, '_instance_dict', manager._instance_dict.copy())
    before = set(MMLogger._instance_dict)
    monkeypatch.setattr(config_utils, 'load', _read_once)
    monkeypatch.setattr(runner_module, 'collect_env', dict)  # calls compilers to log their versions
    yield
    for name in set(MMLogger._instance_dict) - before:
        logger = MMLogger._instance_dict[name]
        for handler in list(logger.handlers):
            if isinstance(handler, logging.FileHandler):
                handler.close()
    gc.collect()  # a runner is in a circle with its model; hundreds of them would be 9 GB
