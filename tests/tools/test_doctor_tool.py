"""`tools/doctor.py` as a person runs it: on configs that work, on broken ones, and where libraries are missing."""

import json
from pathlib import Path

import pytest
import torch

CONFIGS = {
    'cls': ('configs/mini/dwnet-nano_cls_mini.py', 'imagenet'),
    'det': ('configs/mini/dwnet-nano_mask-rcnn_mini.py', 'coco'),
    'seg': ('configs/mini/dwnet-nano_upernet_mini.py', 'ade'),
}
CLS = CONFIGS['cls'][0]


def options(task, mini_root, *more):
    """Those that make the small mini dataset do."""
    few = [
        'train_dataloader.batch_size=8',
        'train_dataloader.num_workers=1',
        'train_dataloader.persistent_workers=0',
    ]
    return ['--cfg-options', f'data_root={mini_root / CONFIGS[task][1]}', *few, *more]


def page_of(done):
    assert 'Traceback' not in done.stdout + done.stderr, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 110
    return ' '.join(done.stdout.split())


@pytest.mark.parametrize('task', CONFIGS)
def test_a_config_that_works(task, mini_root, make_checkpoint, run_python, tmp_path):
    config, _ = CONFIGS[task]
    own = make_checkpoint(config, tmp_path / 'own.pth')
    arguments = [config, '--json', tmp_path / 'page.json', '--work-dir', tmp_path / 'work']
    done = run_python('tools/doctor.py', *arguments, *options(task, mini_root, f'load_from={own}'))
    page = page_of(done)
    assert done.returncode == 0, page
    assert 'This machine and this config will work' in page
    data = json.loads((tmp_path / 'page.json').read_text())
    assert data['fails'] == 0
    found = {finding['name']: finding for section in data['sections'] for finding in section['findings']}
    assert found['data']['values']['images'] == dict(train=20, val=10)
    assert found['weights']['values']['covered'] == 1
    # a few MB of weights, each with a gradient and two averages, are the least
    step, batch = found['step']['values'], found['batch']['values']
    assert step['batch'] >= 2 and step['seconds'] > 0
    assert 4 * 4 * found['model']['values']['parameters'] < step['peak'] < 4 * 2**30
    assert batch['suggested'] == 8 <= batch['largest'] and 0 < batch['per_image'] < 2**30
    assert found['loader']['values']['images_per_second'] > 0
    run = found['run']['values']
    assert run['steps'] == dict(cls=40 * 2, det=8 * 2, seg=2000)[task]  # 20 images are 2 full batches of 8
    assert run['seconds'] >= run['steps'] * run['step']
    assert not (tmp_path / 'work').exists()  # a page changes nothing


BROKEN = {
    'class count': ('num_classes=7', 'set --cfg-options num_classes=10'),
    'data root': ('data_root=nowhere', 'say where it is with --cfg-options data_root=DIR'),
    'mixer': ('model.backbone.mixer=DeepwiseConv', "unknown mixer 'DeepwiseConv': expected one of"),
    'checkpoint': ('load_from={other}', 'set arch and mixer to what it was trained with'),
    'no checkpoint': ('load_from=gone.pth', 'start from random weights instead: --cfg-options load_from=None'),
}


@pytest.mark.parametrize('what', BROKEN)
def test_a_config_that_would_fail(what, mini_root, run_python, tmp_path):
    override, cure = BROKEN[what]
    torch.save(dict(state_dict={'backbone.something': torch.zeros(3)}), tmp_path / 'other.pth')
    overrides = options('cls', mini_root, override.format(other=tmp_path / 'other.pth'))
    done = run_python('tools/doctor.py', CLS, '--quick', *overrides)
    page = page_of(done)
    assert done.returncode == 1 and 'This would not work: 1 problem' in page
    assert cure in page


def test_what_only_a_step_finds(mini_root, run_python):
    done = run_python('tools/doctor.py', CLS, *options('cls', mini_root, 'optim_wrapper.optimizer.type=AdamWW'))
    page = page_of(done)
    assert done.returncode == 1 and "the optimizer 'AdamWW' cannot be built" in page
    assert 'images a second' in page  # what does not depend on the step is measured nevertheless


def test_a_config_that_is_not_there(run_python):
    done = run_python('tools/doctor.py', 'configs/gone.py')
    assert done.returncode == 1 and 'config configs/gone.py not found' in page_of(done)


def test_the_machine_alone(run_python):
    done = run_python('tools/doctor.py')
    page = page_of(done)
    assert done.returncode == 0, page
    assert 'This machine will work' in page and 'nms and RoIAlign run on cpu' in page


def test_detection_without_compiled_ops(mini_root, run_python):
    code = 'import runpy, sys; sys.modules["mmcv._ext"] = None; del sys.argv[0]; '
    code += 'runpy.run_path(sys.argv[0], None, "__main__")'
    arguments = ['tools/doctor.py', CONFIGS['det'][0], '--quick', *options('det', mini_root)]
    done = run_python('-c', code, *arguments)
    assert done.returncode == 1 and 'mmcv.ops do not run on cpu' in page_of(done) and 'make setup' in page_of(done)


@pytest.mark.parametrize('config', [[], [CLS]], ids=['alone', 'with config'])
def test_where_there_is_torch_and_nothing_of_openmmlab(config, run_python, tmp_path):
    site = Path(torch.__file__).parents[1]
    missing = ('mm', 'onedl', 'rich', 'timm', 'torchvision', '__editable__', '__pycache__')
    for entry in site.iterdir():
        if not entry.name.startswith(missing) and entry.suffix != '.pth':
            (tmp_path / entry.name).symlink_to(entry)
    done = run_python('-S', 'tools/doctor.py', *config, PYTHONPATH=str(tmp_path))
    page = page_of(done)
    assert done.returncode == 1
    assert 'ok torch' in page and 'fails mmengine it is not installed' in page
    assert 'pip install "mmdwnet[all]"' in page
    assert 'dynamic ops on cpu: reference, tiled' in page  # the machine is looked at nevertheless


def test_a_library_that_is_broken(run_python, tmp_path):
    """The package cannot be imported, for a library that it needs raises something of its own."""
    (tmp_path / 'mmengine').mkdir()
    (tmp_path / 'mmengine' / '__init__.py').write_text(
        "raise OSError('libfoo.so: cannot open shared object file')"
    )
    root = Path(__file__).resolve().parents[2]
    done = run_python('tools/doctor.py', PYTHONPATH=f'{tmp_path}:{root}')
    assert done.returncode == 1 and 'libfoo.so: cannot open shared object file' in page_of(done)
