"""tools/analysis_tools/visualize_kernels.py: pictures of any net of a config, and mistakes in one line."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image

from mmdwnet.analysis.inspected import inspect
from mmdwnet.engine.config import load_config
from mmdwnet.errors import UserError

ROOT_CONFIG = 'configs/mini/dwnet-nano_cls_mini.py'
TOOL = 'tools/analysis_tools/visualize_kernels.py'
BACKBONES = {
    'dynamic': "dict(type='mmdwnet.DWNet', arch='nano', mixer='DynamicDepthwiseConv')",
    'inhomogeneous': "dict(type='mmdwnet.DWNet', arch='nano', mixer='InhomogeneousDynamicDepthwiseConv')",
    'swin': "dict(type='mmdwnet.DWNet', arch='swin-nano')",
    'deit': "dict(_delete_=True, type='mmdwnet.IsotropicNet', arch='deit-nano', img_size=96, patch_size=16)",
}


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    """A picture of 90 x 60 pixels, red at the left and blue at the right."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:, :45, 0], pixels[:, 45:, 2] = 250, 200
    path = tmp_path_factory.mktemp('images') / 'halves.png'
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def config(tmp_path, request):
    """Write a config of the mini classifier with another backbone."""

    def write(name):
        path = tmp_path / f'{name}.py'
        base = (request.config.rootpath / ROOT_CONFIG).as_posix()
        path.write_text(f"_base_ = '{base}'\nmodel = dict(backbone={BACKBONES[name]}, neck=None)\n")
        return path

    return write


@pytest.mark.parametrize(
    'name, options, written',
    [
        ('dynamic', ('--block', '1.0', '--positions', '0.5,0.5', '20,80', '--minus-mean'), 'block-1.0_minus-mean'),
        ('inhomogeneous', ('--groups', '0', '3'), 'block-2.1'),
        ('swin', ('--block', '0.0'), 'block-0.0'),
        ('deit', (), 'block-2'),
        ('deit', ('--erf', 'random'), 'erf-random'),
    ],
)
def test_it_writes_a_picture(name, options, written, config, image, run_python, tmp_path):
    done = run_python(TOOL, config(name), 'none', image, '--out', tmp_path / 'out', *options)
    assert done.returncode == 0, done.stderr
    path = tmp_path / 'out' / f'{name}_halves_{written}.png'
    assert f'wrote {path}' in done.stdout
    assert [file.name for file in (tmp_path / 'out').iterdir()] == [path.name]
    with Image.open(path) as picture:
        assert min(picture.size) > 400 and len(np.unique(np.asarray(picture.convert('L')))) > 50


@pytest.mark.parametrize('task', ['cls', 'mask-rcnn', 'upernet'])
def test_the_network_sees_what_is_shown(task, image):
    inspected = inspect(f'configs/mini/dwnet-nano_{task}_mini.py', 'none', str(image))
    assert inspected.name == f'dwnet-nano_{task}_mini with random weights'
    assert inspected.images.shape[2:] == inspected.shown.shape[:2]
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    pixels = inspected.images[0].permute(1, 2, 0) * std + mean
    # padding is 0 for the network and white for people
    used = torch.from_numpy((inspected.shown != 255).any(2)) | (inspected.images[0] != 0).any(0)
    torch.testing.assert_close(pixels[used], torch.from_numpy(inspected.shown).float()[used], rtol=0, atol=0.01)
    assert inspected.shown[5, 5].tolist() == [250, 0, 0]  # red, as in the file


def test_the_weights_of_the_checkpoint_are_what_is_inspected(image, tmp_path):
    torch.manual_seed(1)
    model = MODELS.build(load_config(ROOT_CONFIG).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'trained.pth')
    inspected = inspect(ROOT_CONFIG, str(tmp_path / 'trained.pth'), str(image))
    assert inspected.name == 'dwnet-nano_cls_mini' and not inspected.backbone.training
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(inspected.backbone.state_dict()[key], value)


def test_mistakes_are_named_in_one_line(image, config, run_python, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), tmp_path / 'other.pth')
    (tmp_path / 'blind.py').write_text(f"_base_ = '{config('swin')}'\ntest_dataloader = None\n")
    for arguments, words in (
        ((ROOT_CONFIG, 'none', str(tmp_path / 'broken.png')), 'broken.png cannot be read'),
        ((ROOT_CONFIG, 'none', str(tmp_path / 'missing.png')), 'missing.png cannot be read'),
        ((ROOT_CONFIG, str(tmp_path / 'other.pth'), str(image)), 'does not fit'),
        ((str(tmp_path / 'blind.py'), 'none', str(image)), 'no test_dataloader.dataset.pipeline'),
        ((ROOT_CONFIG, 'none', str(image), 'none-such'), 'device none-such cannot be used'),
        ((ROOT_CONFIG, 'none', str(image), 'cpu', {'model.backbone.arch': 'large'}), "unknown arch 'large'"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            inspect(*arguments)
        assert '\n' not in str(caught.value)
    done = run_python(TOOL, ROOT_CONFIG, 'none', image, '--block', '7.0')
    assert done.returncode == 2 and done.stderr.startswith('error: --block 7.0') and done.stderr.count('\n') == 1
