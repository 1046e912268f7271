"""A smaller head out of a larger one: the rows that the map names, in its order, and nothing else changed."""

import pytest
import torch

from mmdwnet.checkpoints.head_remap import read_map, remap_head
from mmdwnet.errors import UserError

TOOL = 'tools/model_converters/remap_head_22k_to_1k.py'


def classifier(classes=7, channels=4):
    generator = torch.Generator().manual_seed(0)
    return {
        'backbone.norm_ln3.weight': torch.rand(channels, generator=generator),
        'head.fc.weight': torch.rand(classes, channels, generator=generator),
        'head.fc.bias': torch.rand(classes, generator=generator),
    }


def test_the_new_head_scores_as_the_old_one_does():
    old = classifier()
    new = remap_head(old, [6, 0, 3])
    features = torch.rand(5, 4)

    def scores(weights):
        return torch.nn.functional.linear(features, weights['head.fc.weight'], weights['head.fc.bias'])

    torch.testing.assert_close(scores(new), scores(old)[:, [6, 0, 3]])
    assert torch.equal(new['head.fc.weight'][0], old['head.fc.weight'][6])
    assert list(new) == list(old)
    assert new['backbone.norm_ln3.weight'] is old['backbone.norm_ln3.weight']
    assert old['head.fc.weight'].shape == (7, 4)


def test_heads_that_do_not_fit():
    with pytest.raises(UserError, match='names row 7, but the head has 7 rows'):
        remap_head(classifier(), [0, 7])
    with pytest.raises(UserError, match=r'no head.fc.weight and no head.fc.bias \(keys with head: head.weight\)'):
        remap_head({'head.weight': torch.ones(7, 4)}, [0])
    with pytest.raises(UserError, match=r'head.fc.weight is \(7, 4\) and head.fc.bias is \(6,\)'):
        remap_head({**classifier(), 'head.fc.bias': torch.ones(6)}, [0])


@pytest.mark.parametrize('text', ['6\n0\n3\n', '6\n0\n3', '6\r\n0\r\n3\r\n', ' 6\n0 \n3\n'])
def test_map_files(tmp_path, text):
    (tmp_path / 'map.txt').write_bytes(text.encode())
    assert read_map(str(tmp_path / 'map.txt'), 3) == [6, 0, 3]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('6\n0\n', 'has 2 lines: expected 3 lines'),
        ('6\n0\n3\n4\n', 'has 4 lines: expected 3 lines'),
        ('6\n\n0\n3\n', "line 2 is '', not a row number"),
        ('6\n-1\n3\n', "line 2 is '-1', not a row number"),
        ('6\n0.5\n3\n', "line 2 is '0.5', not a row number"),
        ('6\n0\n6\n', 'names row 6 twice'),
        ('6\n0\n\u00b2\n', 'is no text'),
    ],
)
def test_wrong_map_files(tmp_path, text, message):
    (tmp_path / 'map.txt').write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match=message) as error:
        read_map(str(tmp_path / 'map.txt'), 3)
    assert '\n' not in str(error.value)


def test_a_map_that_is_missing(tmp_path):
    with pytest.raises(UserError, match='none.txt not found: expected 1000 lines'):
        read_map(str(tmp_path / 'none.txt'), 1000)


def test_the_command_line(tmp_path, run_python):
    """What a training run leaves goes in, what load_from reads comes out; a failed run leaves nothing."""
    from mmengine.logging import MessageHub

    hub = MessageHub('test_head_remap')
    hub.update_scalar('train/loss', 1.0)
    old = classifier()
    source, out = tmp_path / 'epoch_90.pth', tmp_path / 'head.pth'
    torch.save(dict(meta=dict(epoch=90), state_dict=old, message_hub=hub.state_dict(), optimizer={}), source)
    (tmp_path / 'map.txt').write_text('6\n0\n3\n')

    failed = run_python(TOOL, source, tmp_path / 'map.txt', out)
    assert (failed.returncode, failed.stdout) == (2, '')
    assert 'error: map' in failed.stderr
    assert 'has 3 lines: expected 1000' in failed.stderr
    assert not out.exists()

    done = run_python(TOOL, source, tmp_path / 'map.txt', out, '--num-classes', 3)
    assert done.returncode == 0, done.stderr
    new = torch.load(out, weights_only=True)
    assert list(new) == ['state_dict']
    expected = remap_head(old, [6, 0, 3])
    assert list(new['state_dict']) == list(expected)
    assert all(torch.equal(new['state_dict'][key], expected[key]) for key in expected)
    assert {path.name for path in tmp_path.iterdir()} == {'epoch_90.pth', 'map.txt', 'head.pth'}

    same = run_python(TOOL, source, tmp_path / 'map.txt', source, '--num-classes', 3)
    assert same.returncode == 2
    assert 'is what it would be made from' in same.stderr
