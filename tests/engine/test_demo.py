"""The parts of the demo; the whole of it is what `make demo` runs, for a quarter of an hour."""

import pytest
from PIL import Image
from rich.console import Console

from mmdwnet.engine import demo, tool_runs
from mmdwnet.errors import UserError

FAKE_TOOL = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
print('Epoch(train)  [1][100/250]  lr: 1.9e-03  eta: 0:05:48  time: 0.13  loss: 2.0250  loss_cls: 0.9')
if sys.argv[0].endswith('train.py'):
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_8.pth'))
else:
    value = %s
    metrics = {'accuracy/top1': value, 'coco/bbox_mAP': value, 'coco/segm_mAP': value, 'mIoU': value}
    pathlib.Path(sys.argv[sys.argv.index('--out') + 1]).write_text(json.dumps(metrics))
    from PIL import Image
    pictures = pathlib.Path(sys.argv[sys.argv.index('--show-dir') + 1])
    pictures.mkdir()
    Image.new('RGB', (8, 6)).save(pictures / 'a.png')
"""


@pytest.fixture
def fake_root(tmp_path, mini_root, monkeypatch):
    """A checkout whose train.py and test.py end at once; returns a function that sets the metrics they report."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'configs').symlink_to(demo.__file__.replace('mmdwnet/engine/demo.py', 'configs'))
    monkeypatch.setattr(tool_runs.mini, 'generate', lambda folder, progress: progress(1, 1))

    def root(value):
        for name in ('train', 'test'):
            (tmp_path / f'tools/{name}.py').write_text(FAKE_TOOL % value)
        return tmp_path

    return root


@pytest.mark.parametrize(('value', 'good'), [(99.0, True), (0.5, False)])
def test_table_of_metrics_and_pictures(fake_root, tmp_path, value, good):
    console = Console(record=True, width=90)
    assert demo.run_demo(fake_root(value), tmp_path / 'work', console) is good
    text = console.export_text()
    for task in demo.TASKS:
        assert str(tmp_path / 'work' / f'{task.config}.png') in text
        assert (tmp_path / 'work' / f'{task.config}.png').is_file()
    assert 'train classification: 1%, loss 2.0250, 0:05:48 left' in text  # 0.4 of the first of 40 epochs
    assert ('too low' in text) is not good


def test_a_training_that_fails_is_named_with_its_log(fake_root, tmp_path):
    root = fake_root(1)
    (root / 'tools/train.py').write_text('raise SystemExit("the disk is full")')
    with pytest.raises(
        UserError, match='train.py configs/mini/dwnet-nano_cls_mini.py failed: the disk is full .*log'
    ):
        demo.run_demo(root, tmp_path / 'work', Console(quiet=True))


def test_contact_sheet_holds_every_picture_and_none_is_an_error(tmp_path):
    for i, colour in enumerate(('red', 'lime', 'blue')):
        Image.new('RGB', (10, 5 + i), colour).save(tmp_path / f'{i}.png')
    with Image.open(demo.contact_sheet(tmp_path, tmp_path / 'sheet.jpg', columns=2)) as sheet:
        assert sheet.size == (28, 22)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='no picture in'):
        demo.contact_sheet(tmp_path / 'empty', tmp_path / 'none.png')
