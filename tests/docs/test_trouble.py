"""docs/trouble.md quotes what is really printed: the errors are made, and compared with its grey lines.

Not made here, for their packages are not: mmdet 3.3.0's assertion, torch 2.1's "Numpy is not available", and a bus
error of a loader process.
"""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from pages import ROOT, blocks_of
from PIL import Image

from mmdwnet import compat
from mmdwnet.engine.config import load_config
from mmdwnet.engine.doctor import hardware, software
from mmdwnet.engine.preflight import check_config
from mmdwnet.errors import UserError

PAGE = 'docs/trouble.md'
HEADINGS = {
    int(match[1]): text.count('\n', 0, match.start()) + 1
    for text in [(ROOT / PAGE).read_text(encoding='utf-8')]
    for match in re.finditer(r'^## (\d+)\. ', text, re.MULTILINE)
}


def quoted(number):
    """The grey lines of an error of the page, as patterns of what is printed."""
    first, last = HEADINGS[number], HEADINGS.get(number + 1, 10**6)
    texts = [b.code.strip() for b in blocks_of(PAGE) if b.language == 'text' and first < b.line < last]
    return [re.compile('.*'.join(map(re.escape, text.split('...')))) for text in texts]


def printed(*command, **options):
    """The last line that Python writes to stderr."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), **options.pop('env', {})}
    command = [sys.executable, *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


def refused(config, **options):
    """The line that ends a training of this config before it begins."""
    with pytest.raises(UserError) as error:
        check_config(load_config(f'configs/mini/{config}.py', options), 'train', max_bad_samples=0)
    return str(error.value)


def test_there_are_ten():
    assert list(HEADINGS) == list(range(1, 11))


def test_mmcv_without_ops():
    stock, ours = quoted(1)
    assert stock.match(printed('-c', 'import sys; sys.modules["mmcv._ext"] = None; import mmcv.ops'))
    assert ours.match(compat.missing_ops_message())


def test_two_distributions(tmp_path):
    (name,) = {'onedl-mmcv', 'mmcv'} - {build.name for build, _ in compat.installed(compat.LIBRARIES['mmcv'])}
    folder = tmp_path / f'{name.replace("-", "_")}-2.3.6.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 2.3.6\n')
    line = printed('-c', 'import mmdwnet', env={'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}'})
    assert quoted(2)[0].search(line)


def test_an_mmcv_that_mmdet_refuses(monkeypatch):
    versions = {'mmdet': '3.3.0', 'mmcv': '2.2.0'}
    monkeypatch.setattr(
        compat, 'installed', lambda library: [(b, versions[b.name]) for b in library.builds if b.name in versions]
    )
    with pytest.raises(UserError) as error:
        compat.require('det')
    assert quoted(3)[1].fullmatch(str(error.value))


def test_a_driver_that_is_too_old(monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    assert quoted(5)[0].fullmatch(software._no_gpu([('NVIDIA H100', '470.1')]).text)


def test_names_that_are_not_found(tmp_path):
    stock, base = quoted(6)
    with pytest.raises(KeyError) as error:
        MODELS.build(dict(type='mmdwnet.DWNot'))
    assert stock.search(str(error.value).replace('DWNot', 'DWNet'))
    (tmp_path / 'child.py').write_text("_base_ = 'mmdwnet::imagenet/dwnet-tiny_8xb128_in1k.py'\n")
    line = printed('-c', "from mmengine.config import Config; Config.fromfile('child.py')", cwd=tmp_path)
    assert base.match(line), line


def test_sync_bn_on_a_cpu(tmp_path):
    code = """
import torch
torch.distributed.init_process_group('gloo', init_method='file://STORE', rank=0, world_size=1)
torch.nn.SyncBatchNorm(2)(torch.rand(2, 2, 2, 2))
"""
    assert quoted(7)[0].search(printed('-c', code.replace('STORE', str(tmp_path / 'store'))))


def test_little_shared_memory():
    assert quoted(8)[1].match(next(hardware.shared_memory(needed=1)).text)


def test_a_wrong_number_of_classes(mini_root):
    options = {'data_root': str(mini_root / 'imagenet'), 'num_classes': 7, 'train_dataloader.batch_size': 8}
    assert quoted(9)[0].fullmatch(refused('dwnet-nano_cls_mini', **options))


def test_label_maps_in_colour(mini_root, tmp_path):
    data = shutil.copytree(mini_root / 'ade', tmp_path / 'ade')
    for file in (data / 'annotations/training').iterdir():
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(file)
    options = {'data_root': str(data), 'train_dataloader.batch_size': 8}
    assert quoted(10)[0].search(refused('dwnet-nano_upernet_mini', **options))
