"""A copy of the checkout for each page, where its blocks are run one after the other."""

import shutil

import pytest
from pages import ROOT
from stand_ins import STAND_INS

from mmdwnet.datasets import mini

LEFT_OUT = ('.git', '.venv*', '.setup*', '.*_cache', '__pycache__', 'data', 'work_dirs', 'site', 'out')


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """The mini dataset of the pages, small: one batch of the configs, and a few images to test."""
    root = tmp_path_factory.mktemp('docs') / 'mini'
    mini.generate(root, seed=0, size=64, num_train=40, num_val=20)
    return root


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    """Random weights of the config that CONFIG stands for."""
    import torch
    from mmengine.registry import MODELS

    from mmdwnet.engine.config import load_config

    torch.manual_seed(0)
    model = MODELS.build(load_config(str(ROOT / STAND_INS['CONFIG'])).model)
    path = tmp_path_factory.mktemp('weights') / 'nano.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.fixture(scope='session')
def checkout_of(tmp_path_factory, data, checkpoint):
    """Return a page's copy of the checkout, made when it is first asked for."""
    made = {}

    def checkout(page):
        if page not in made:
            folder = tmp_path_factory.mktemp('checkout') / 'mmdwnet'
            shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
            shutil.copytree(data, folder / 'data/mini')
            image = folder / STAND_INS['IMAGE']
            shutil.copy(next(image.parent.iterdir()), image)
            shutil.copy(checkpoint, folder / STAND_INS['CHECKPOINT'])
            (folder / 'out').mkdir()
            made[page] = folder
        return made[page]

    return checkout
