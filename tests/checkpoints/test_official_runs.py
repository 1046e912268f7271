"""Whole runs from the command line: official files scored on real images, dangerous ones refused.

The images are those of ../shared/datasets, where it is; nothing here depends on how well random weights do.
"""

import importlib.util
import json
import os
from pathlib import Path

import official_files as files
import pytest
import torch
from mmengine.registry import MODELS

from mmdwnet.checkpoints.converting import convert_checkpoint
from mmdwnet.engine import launch
from mmdwnet.engine.config import load_config

ROOT = Path(__file__).resolve().parents[2]
DATASETS = ROOT.parent / 'shared' / 'datasets'
CLS, DET, SEG = (f'configs/mini/dwnet-nano_{task}_mini.py' for task in ('cls', 'mask-rcnn', 'upernet'))
LOADER = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']


def saved_model(config, path, options, model):
    """Write the official backbone and a config's own heads as the official forks do."""
    cfg = load_config(config, options)
    heads = {k: v for k, v in MODELS.build(cfg.model).state_dict().items() if not k.startswith('backbone.')}
    return files.save_detector(path, files.weights(model, 'nano', 'downstream'), heads)


class TestOnRealImages:
    @pytest.fixture(autouse=True)
    def needs_images(self, monkeypatch):
        monkeypatch.setenv('LOCAL_RANK', '0')  # which a run in this process would set, and leave
        if not DATASETS.is_dir():
            pytest.skip('needs the images of ../shared/datasets')

    def scored(self, config, checkpoint, overrides, tmp_path, run_python):
        """The metrics of an official file by `tools/test.py`: those of the same weights under our keys."""
        out = tmp_path / 'metrics.json'
        options = ['--work-dir', tmp_path / 'work', '--out', out, '--out-item', 'metrics']
        options += ['--cfg-options', *overrides, *LOADER]
        done = run_python('tools/test.py', config, checkpoint, *options)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        official = json.loads(out.read_text())
        convert_checkpoint(checkpoint, str(tmp_path / 'ours.pth'))
        ours = launch.test(
            launch.test_parser().parse_args([config, str(tmp_path / 'ours.pth'), *map(str, options)])
        )
        timeless = {key: value for key, value in ours.items() if not key.endswith('time')}
        assert timeless and timeless == pytest.approx({key: official[key] for key in timeless}, nan_ok=True)
        return official

    def test_classification(self, tmp_path, run_python):
        weights = files.weights('i_dynamic_dwnet', 'nano', 'cls', classes=10)
        checkpoint = files.save_classifier(
            tmp_path / 'official.pth', {f'module.{k}': v for k, v in weights.items()}
        )
        overrides = [f'data_root={DATASETS / "cifar10"}', 'test_dataloader.dataset.indices=40']
        config = CLS.replace('dwnet', 'idynamic-dwnet')
        assert 0 <= self.scored(config, checkpoint, overrides, tmp_path, run_python)['accuracy/top1'] <= 100

    def test_instance_segmentation(self, tmp_path, run_python):
        classes = {'metainfo.classes': ('date', 'fig', 'hazelnut'), 'num_classes': 3}
        checkpoint = saved_model(DET, tmp_path / 'official.pth', classes, 'dwnet')
        overrides = [
            f'data_root={DATASETS / "fruits_nuts"}',
            'metainfo.classes=date,fig,hazelnut',
            'num_classes=3',
        ]
        assert 'coco/segm_mAP' in self.scored(DET, checkpoint, overrides, tmp_path, run_python)

    def test_semantic_segmentation(self, tmp_path, run_python):
        ade = dict(num_classes=150, dataset_type='mmseg.ADE20KDataset', metainfo=None, img_suffix='.jpg')
        config = SEG.replace('dwnet', 'dynamic-dwnet')
        checkpoint = saved_model(config, tmp_path / 'official.pth', ade, 'dynamic_dwnet')
        overrides = [f'{key}={value}' for key, value in ade.items()] + [f'data_root={DATASETS / "ade20k"}']
        assert 0 <= self.scored(config, checkpoint, overrides, tmp_path, run_python)['mIoU'] <= 100


class Payload:
    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def dangerous(tmp_path):
    """A checkpoint that fits the mini classifier and would create a file when unpickled."""
    payload = Payload()
    payload.command = f'touch {tmp_path / "created"}'
    state = MODELS.build(load_config(CLS).model).state_dict()
    torch.save({'state_dict': state, 'meta': {}, 'extra': payload}, tmp_path / 'evil.pth')
    return tmp_path / 'evil.pth', tmp_path / 'created'


def command(tool, checkpoint, mini_root, work_dir, *options):
    root = mini_root / 'imagenet'
    roots = [f'data_root={root}'] if tool.parts[-3] != '.mim' else [f'test_dataloader.dataset.data_root={root}']
    return [tool, CLS, checkpoint, '--work-dir', work_dir, *options, '--cfg-options', *roots, *LOADER]


@pytest.mark.parametrize('stock', [False, True], ids=['ours', 'stock'])
def test_a_dangerous_file_is_refused_and_creates_nothing(stock, dangerous, mini_root, tmp_path, run_python):
    checkpoint, created = dangerous
    tools = (
        Path(importlib.util.find_spec('mmpretrain').origin).parent / '.mim' / 'tools' if stock else ROOT / 'tools'
    )
    done = run_python(*command(tools / 'test.py', checkpoint, mini_root, tmp_path / 'work'))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and 'evil.pth: refused' in last and 'names posix.system' in last, done.stderr
    assert not created.exists()
    assert stock or not (tmp_path / 'work').exists()


def test_a_trusted_file_is_scored(dangerous, mini_root, tmp_path, run_python):
    checkpoint, created = dangerous
    tool = ROOT / 'tools' / 'test.py'
    done = run_python(*command(tool, checkpoint, mini_root, tmp_path / 'work', '--trust-checkpoint'))
    assert done.returncode == 0 and 'accuracy/top1' in done.stdout + done.stderr, done.stderr
    assert created.exists()
