"""Official keys to ours and back: every size, mixer and task, strictly."""

import pytest
import torch
from official_files import MIXERS, SIZES, TASKS, official_spec, published_spec, shapes

from mmdwnet import DWNet
from mmdwnet.checkpoints import is_official, official_to_ours, ours_to_official

EVERY_MODEL = pytest.mark.parametrize('model', MIXERS)
EVERY_SIZE = pytest.mark.parametrize('size', SIZES)
EVERY_TASK = pytest.mark.parametrize('task', TASKS)


def net(model, size, task):
    downstream = dict(out_indices=(0, 1, 2, 3), out_norm_cfg=dict(type='BN'))
    with torch.device('meta'):
        return DWNet(size, MIXERS[model], init_cfg=None, **(downstream if task == 'downstream' else {}))


@EVERY_MODEL
@EVERY_TASK
@pytest.mark.parametrize('size', ['tiny', 'base'])
def test_the_layouts_of_these_tests_are_the_published_ones(model, size, task):
    published = published_spec(f'{model}_{size}_{task}')
    if published is None:
        pytest.skip('this list is not published')
    ours = official_spec(model, size, task)
    assert dict(map(tuple_of, published)) == dict(map(tuple_of, ours))
    assert len(published) == len(ours)


def tuple_of(entry):
    return entry[0], tuple(entry[1])


@EVERY_MODEL
@EVERY_SIZE
@EVERY_TASK
def test_every_key_gets_the_name_and_shape_that_it_has_here(model, size, task):
    converted = official_to_ours(shapes(model, size, task))
    expected = {f'backbone.{key}': value.shape for key, value in net(model, size, task).state_dict().items()}
    if task == 'cls':
        channels = SIZES[size][0] * 8
        expected |= {'head.fc.weight': (1000, channels), 'head.fc.bias': (1000,)}
    assert {key: value.shape for key, value in converted.items()} == expected


@EVERY_MODEL
@EVERY_SIZE
@EVERY_TASK
def test_there_and_back(model, size, task):
    official = shapes(model, size, task)
    back = ours_to_official(official_to_ours(official))
    assert list(back) == list(official)
    assert all(back[key] is official[key] for key in official)
    ours = official_to_ours(official)
    again = official_to_ours(ours_to_official(ours))
    assert again.keys() == ours.keys() and all(again[key] is ours[key] for key in ours)


@EVERY_MODEL
def test_no_two_entries_of_a_block_are_mixed_up(model):
    """Within a dynamic block two `bn` and two `conv2` exist: which tensor goes where, by its values."""
    for key in shapes(model, 'nano', 'cls'):
        ours = official_to_ours({**dict.fromkeys(shapes(model, 'nano', 'cls'), 0), key: 1})
        (found,) = [name for name, value in ours.items() if value]
        wanted = {
            'attn2conv.bn.': 'mixer.bn_mid.',
            'attn2conv.conv.bn.': 'mixer.aggregate.bn.',
            'attn2conv.conv.conv1.1.': 'mixer.aggregate.bn.',
            'attn2conv.conv2.': 'mixer.proj_out.',
            'attn2conv.conv.conv2.': 'mixer.aggregate.expand.',
        }
        assert all(name in found for part, name in wanted.items() if part in key), (key, found)


def test_a_merging_moves_to_the_stage_behind_it():
    ours = official_to_ours(shapes('dwnet', 'nano', 'cls'))
    assert ours['backbone.stages.1.downsample.reduction.weight'].shape == (64, 128)
    assert not [key for key in ours if key.startswith('backbone.stages.0.downsample')]


@EVERY_MODEL
def test_any_number_of_stages(model):
    """The last norm has the index of the last stage."""
    three = {key: value for key, value in shapes(model, 'nano', 'cls').items() if not key.startswith('layers.3')}
    three = {key: value for key, value in three.items() if not key.startswith('layers.2.downsample')}
    ours = official_to_ours(three)
    assert 'backbone.norm_ln2.weight' in ours and list(ours_to_official(ours)) == list(three)


@EVERY_TASK
def test_module_prefix(task):
    plain = shapes('dynamic_dwnet', 'nano', task)
    wrapped = {f'module.{key}': value for key, value in plain.items()}
    assert is_official(wrapped) and official_to_ours(wrapped) == official_to_ours(plain)


def test_a_whole_detector_keeps_its_heads():
    backbone = {f'backbone.{key}': value for key, value in shapes('dwnet', 'nano', 'downstream').items()}
    heads = {'neck.fpn_convs.0.conv.weight': 1, 'roi_head.bbox_head.0.fc_cls.weight': 2}
    for prefix in ('', 'module.'):
        ours = official_to_ours({prefix + key: value for key, value in (backbone | heads).items()})
        assert {key: ours[key] for key in heads} == heads
        assert 'backbone.stages.3.blocks.0.mixer.proj_in.weight' in ours and 'backbone.norm_bn3.weight' in ours
        assert ours_to_official(ours) == backbone | heads


def test_a_backbone_of_ours_alone_becomes_official():
    ours = net('i_dynamic_dwnet', 'nano', 'downstream').state_dict()
    assert set(ours_to_official(ours)) == set(shapes('i_dynamic_dwnet', 'nano', 'downstream'))


@pytest.mark.parametrize(
    'key',
    [
        'layers.0.blocks.0.attn2conv.conv9.weight',
        'layers.0.blocks.0.attn2conv.conv2.weights',
        'layers.0.blocks.0.bn.weight.more',
        'layers.3.downsample.norm.weight',
        'layers.0.blocks.0.attn.qkv.weight',
        'absolute_pos_embed',
        'neck.convs.0.weight',
        'head.weight\nfirst of\x1b[31m a new line',
    ],
)
def test_an_unknown_key_is_an_error_that_names_it_in_one_line(key):
    with pytest.raises(ValueError, match='1 of .* keys are of no official DWNet') as error:
        official_to_ours({**shapes('dwnet', 'nano', 'cls'), key: 0})
    assert key.split('\n')[0] in str(error.value)
    assert '\n' not in str(error.value) and '\x1b' not in str(error.value)


@pytest.mark.parametrize('key', ['norm_ln0.weight', 'stages.0.downsample.norm.weight', 'stages.0.blocks.0.x.bias'])
def test_what_has_no_official_name_is_an_error(key):
    with pytest.raises(ValueError, match='1 of .* keys are of no DWNet of this package'):
        ours_to_official({**net('dwnet', 'nano', 'cls').state_dict(), key: 0})


def test_other_models_are_not_taken_for_official():
    assert not is_official(['layers.0.blocks.0.attn.qkv.weight', 'patch_embed.proj.weight'])  # Swin
    assert not is_official(net('dwnet', 'nano', 'cls').state_dict())
    assert not is_official([1, None, 'conv.weight'])
