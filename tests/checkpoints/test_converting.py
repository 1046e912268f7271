"""The converter: both layouts, both formats, bit for bit, and a target that is complete or not there."""

import official_files as files
import pytest
import torch

from mmdwnet import DWNet
from mmdwnet.checkpoints import converting, load_as_ours, read_checkpoint
from mmdwnet.checkpoints.converting import convert_checkpoint
from mmdwnet.errors import UserError

META = dict(dataset_meta=dict(classes=('nut', 'fig'), palette=[[1, 2, 3], [4, 5, 6]]))
SUFFIXES = pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])


@pytest.fixture(autouse=True)
def needs_safetensors():
    pytest.importorskip('safetensors')


def assert_equal(ours, theirs):
    assert list(ours) == list(theirs) or set(ours) == set(theirs)
    for key, value in ours.items():
        assert value.dtype == theirs[key].dtype and torch.equal(value, theirs[key]), key


@SUFFIXES
@pytest.mark.parametrize('model', files.MIXERS)
def test_a_classifier_there_and_back(model, suffix, tmp_path):
    official = files.weights(model, 'nano', 'cls')
    source = files.save_classifier(tmp_path / 'official.pth', official)
    ours, back = str(tmp_path / f'ours{suffix}'), str(tmp_path / f'back{suffix}')
    assert convert_checkpoint(source, ours) == len(official)
    assert_equal(load_as_ours(ours)['state_dict'], load_as_ours(source)['state_dict'])
    convert_checkpoint(ours, back, to='official')
    content = read_checkpoint(back)
    assert_equal(content['model' if suffix == '.pth' else 'state_dict'], official)
    DWNet('nano', files.MIXERS[model], init_cfg=dict(type='Pretrained', checkpoint=back)).init_weights()


@SUFFIXES
def test_a_detector_there_and_back_with_its_classes(suffix, tmp_path):
    backbone = files.weights('dynamic_dwnet', 'nano', 'downstream')
    heads = {
        'roi_head.bbox_head.0.fc_cls.weight': torch.randn(3, 4),
        'neck.x.weight': torch.randn(8, 8)[::2, 1:].T,
    }
    source = files.save_detector(tmp_path / 'official.pth', backbone, heads)
    content = torch.load(source)
    torch.save({**content, 'meta': {**content['meta'], **META, 'cfg': 'long'}}, source)
    ours, back = str(tmp_path / f'ours{suffix}'), str(tmp_path / f'back{suffix}')
    convert_checkpoint(source, ours)
    meta = read_checkpoint(ours)['meta']
    assert set(meta) == {'dataset_meta'} and list(meta['dataset_meta']['classes']) == ['nut', 'fig']
    convert_checkpoint(ours, back, to='official')
    assert_equal(read_checkpoint(back)['state_dict'], content['state_dict'])


def test_what_is_in_that_layout_already_changes_its_format_only(tmp_path):
    source = files.save_classifier(tmp_path / 'a.pth', files.weights('dwnet', 'nano', 'cls'))
    convert_checkpoint(source, str(tmp_path / 'a.safetensors'), to='official')
    assert_equal(read_checkpoint(tmp_path / 'a.safetensors')['state_dict'], files.weights('dwnet', 'nano', 'cls'))


def test_optimizer_and_records_are_left_out(tmp_path):
    state = {f'backbone.{key}': value for key, value in DWNet('nano').state_dict().items()}
    torch.save(
        {'state_dict': state, 'optimizer': {'state': {}}, 'message_hub': {}, 'meta': META}, tmp_path / 'a.pth'
    )
    convert_checkpoint(str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))
    assert set(read_checkpoint(tmp_path / 'b.pth')) == {'state_dict', 'meta'}


def test_refusals_are_one_line_and_write_nothing(tmp_path):
    source = files.save_classifier(tmp_path / 'a.pth', files.weights('dwnet', 'nano', 'cls'))
    (tmp_path / 'b.pth').write_text('mine')
    torch.save({'state_dict': {'conv.weight': torch.ones(1)}}, tmp_path / 'other.pth')
    state = dict(DWNet('nano', out_indices=(0, 1, 2, 3)).state_dict())  # LayerNorms on all outputs
    torch.save(state, tmp_path / 'four_norms.pth')
    deployed = DWNet('nano').switch_to_deploy().state_dict()
    torch.save(
        {'state_dict': {f'backbone.{key}': value for key, value in deployed.items()}}, tmp_path / 'deployed.pth'
    )
    for arguments, match in (
        ((source, tmp_path / 'b.pth'), 'b.pth is there already.*--force'),
        ((source, tmp_path / 'c.bin'), r'ends in .pth or .safetensors'),
        ((source, tmp_path / 'no' / 'c.pth'), 'there is no folder'),
        ((tmp_path / 'none.pth', tmp_path / 'c.pth'), 'no such file'),
        ((tmp_path / 'other.pth', tmp_path / 'c.pth'), 'has no weights of a DWNet'),
        ((tmp_path / 'four_norms.pth', tmp_path / 'c.pth', 'official'), 'four_norms.pth: 6 of .*norm_ln0.weight'),
        ((tmp_path / 'deployed.pth', tmp_path / 'c.pth', 'official'), 'deployed.pth: it is of a deployed network'),
    ):
        with pytest.raises(UserError, match=match) as error:
            convert_checkpoint(*map(str, arguments))
        assert '\n' not in str(error.value)
    assert (tmp_path / 'b.pth').read_text() == 'mine' and not (tmp_path / 'c.pth').exists()
    convert_checkpoint(source, str(tmp_path / 'b.pth'), force=True)
    assert 'state_dict' in read_checkpoint(tmp_path / 'b.pth')


@pytest.mark.parametrize('error', [RuntimeError('disk\nfull'), KeyboardInterrupt()])
def test_a_target_is_complete_or_not_there(error, tmp_path, monkeypatch):
    source = files.save_classifier(tmp_path / 'a.pth', files.weights('dwnet', 'nano', 'cls'))
    (tmp_path / 'b.pth').write_text('mine')

    def save_half(content, path):
        path.write_bytes(b'half')
        raise error

    monkeypatch.setattr(converting.torch, 'save', save_half)
    with pytest.raises((UserError, KeyboardInterrupt)) as raised:
        convert_checkpoint(source, str(tmp_path / 'b.pth'), force=True)
    assert isinstance(raised.value, KeyboardInterrupt) or 'cannot be written: disk full' in str(raised.value)
    assert (tmp_path / 'b.pth').read_text() == 'mine'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.pth', 'b.pth']


def test_the_command_line(tmp_path, run_python):
    source = files.save_classifier(tmp_path / 'a.pth', files.weights('dwnet', 'nano', 'cls'))
    tool = 'tools/model_converters/convert_checkpoint.py'
    done = run_python(tool, source, tmp_path / 'b.safetensors')
    assert (
        done.returncode == 0
        and f'b.safetensors: {len(files.weights("dwnet", "nano", "cls"))} tensors under our keys' in done.stdout
    ), done.stderr
    done = run_python(tool, source, tmp_path / 'b.safetensors')
    assert done.returncode == 2 and done.stderr.strip().startswith('error: '), done.stderr
