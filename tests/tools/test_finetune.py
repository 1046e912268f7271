"""`tools/finetune.py` as a person runs it, from a bare folder to a checkpoint, a report and the next command."""

import json
import re
import shutil

import pytest

KINDS = {
    'cls': ('imagenet', '--epochs', 'top-1 accuracy', 'accuracy/top1'),
    'det': ('coco', '--epochs', 'mask AP', 'coco/segm_mAP'),
    'seg': ('ade', '--iters', 'mIoU', 'mIoU'),
}


@pytest.fixture(scope='module')
def finetune(run_python):
    """Run the tool; return the finished process."""
    return lambda *arguments: run_python('tools/finetune.py', *arguments)


def succeeded(done):
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def lines(text):
    """What the tool says, by the first word of a line."""
    pairs = [(line[:14].strip(), line[14:]) for line in text.splitlines()]
    return {name: value for name, value in pairs if name}


@pytest.mark.parametrize(
    'task', ['cls', pytest.param('det', marks=pytest.mark.slow), pytest.param('seg', marks=pytest.mark.slow)]
)
def test_from_a_bare_folder_to_a_report_in_one_command(task, finetune, mini_root, tmp_path):
    layout, length, name, key = KINDS[task]
    work = tmp_path / 'work'
    said = lines(succeeded(finetune(mini_root / layout, length, 1, '--work-dir', work)))
    metrics = json.loads((work / 'metrics.json').read_text())
    value = f'{100 * metrics[key]:.1f}' if task == 'det' else f'{metrics[key]:.1f} %'
    assert f'{name} {value}' in said['best']
    assert said['classes']
    assert said['checkpoint'].startswith(str(work / 'best_'))
    assert said['report'] == str(work / 'report.html') and (work / 'report.html').is_file()
    (config,) = (work / 'config').glob('*.py')
    assert said['predict'].endswith(f'--model {config} --weights {said["checkpoint"]}')


@pytest.mark.slow
def test_without_a_split_and_from_weights(finetune, mini_root, tmp_path):
    """Boxes alone, in one JSON; the backbone is that of a classifier that the tool has trained."""
    first, data, work = tmp_path / 'first', tmp_path / 'data', tmp_path / 'work'
    succeeded(finetune(mini_root / 'imagenet', '--epochs', 1, '--work-dir', first))
    (weights,) = first.glob('best_*.pth')
    shutil.copytree(mini_root / 'coco/train2017', data / 'images')
    content = json.loads((mini_root / 'coco/annotations/instances_train2017.json').read_text())
    for annotation in content['annotations']:
        del annotation['segmentation']
    (data / 'annotations.json').write_text(json.dumps(content))
    options = ['--model', 'dwnet-nano', '--weights', weights, '--epochs', 2, '--work-dir', work]
    said = lines(succeeded(finetune(data, *options)))
    assert 'box AP' in said['best'] and 'mask AP' not in said['best']
    assert sorted(file.name for file in (work / 'config').glob('*.json')) == ['train.json', 'val.json']
    log = (work / 'train.log').read_text()
    assert f'load backbone. in model from: {weights}' in log
    differ = re.findall('(?:unexpected|missing) keys? in source state_dict: (.*)', log)
    assert all(key.startswith('norm_') for line in differ for key in line.split(', ')), differ  # those of a task


@pytest.mark.slow
def test_an_interrupted_run_goes_on(finetune, mini_root, tmp_path):
    """What is left of a run that ended between training and test."""
    work = tmp_path / 'work'
    succeeded(finetune(mini_root / 'imagenet', '--epochs', 2, '--work-dir', work))
    (work / 'metrics.json').unlink()
    said = succeeded(finetune(mini_root / 'imagenet', '--work-dir', work))
    assert 'goes on from the last checkpoint' in said
    assert (work / 'metrics.json').is_file()


def test_bad_data_ends_in_one_line_and_verbose_shows_more(finetune, tmp_path):
    done = finetune(tmp_path, '--work-dir', tmp_path / 'work')
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.startswith(f'error: {tmp_path} has nothing in it: expected a folder of images per class')
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / 'work').exists()
    assert 'Traceback' in finetune(tmp_path, '--verbose').stderr
