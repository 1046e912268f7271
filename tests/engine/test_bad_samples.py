"""Images that cannot be read and labels that do not fit: what is bad, what a run does, and when it stops."""

import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from spoiling import CLS, DET, INSTANCES, LAYOUT, SEG, config_of, cut, dataset_of, edit, first_of

from mmdwnet.engine.bad_samples import BadSamplesHook, FaultFile, budget
from mmdwnet.engine.data_order import Draw, seed_samples
from mmdwnet.engine.preflight import check_config
from mmdwnet.engine.sample_checks import BadSample, Fault, LoadingStopped, check_loading, fault_of
from mmdwnet.errors import UserError


@pytest.fixture
def data(mini_root, tmp_path):
    """A copy of the mini dataset that a test may spoil."""
    return shutil.copytree(mini_root, tmp_path / 'mini')


class TestAnotherSampleInItsPlace:
    @pytest.fixture
    def spoilt(self, data):
        """A dataset whose first half is bad, and the list of what it meets."""

        def build(listed=None):
            dataset = dataset_of(CLS, data)
            check_loading(dataset, listed)
            seed_samples(dataset)
            dataset.bad_samples = FaultFile(data / 'bad_samples.txt')
            return dataset

        whole = build()
        for index in range(10):
            cut(type(data)(whole.get_data_info(index)['img_path']))
        return build

    def test_depends_on_its_place_alone(self, spoilt):
        """Not on who loads it, nor on what was loaded before."""
        first, second = spoilt(), spoilt()
        drawn = {}
        for index, epoch in itertools.product(range(10), range(3)):
            drawn[index, epoch] = first[Draw(index, (5, epoch, index))]
        for index, epoch in reversed(drawn):
            torch.manual_seed(index)
            again = second[Draw(index, (5, epoch, index))]
            assert torch.equal(again['inputs'], drawn[index, epoch]['inputs'])
        chosen = {sample['data_samples'].sample_idx for sample in drawn.values()}
        assert chosen <= set(range(10, 20)) and len(chosen) > 3

    def test_and_good_samples_are_as_without_the_checks(self, spoilt, data):
        plain = dataset_of(CLS, data)
        seed_samples(plain)
        for index in range(10, 20):
            draw = Draw(index, (5, 0, index))
            assert torch.equal(plain[draw]['inputs'], spoilt()[draw]['inputs'])

    def test_each_bad_one_is_listed_once(self, spoilt, data):
        dataset = spoilt()
        for index, _ in itertools.product(range(10), range(2)):
            dataset[Draw(index, (5, 0, index))]
        assert len(FaultFile(data / 'bad_samples.txt').read()) == 10
        assert len((data / 'bad_samples.txt').read_text().splitlines()) == 10

    def test_one_that_is_known_to_be_bad_is_not_loaded(self, spoilt):
        image = spoilt().get_data_info(15)['img_path']
        dataset = spoilt({os.path.abspath(image): fault_of(image, 'kind', 'known before')})
        with pytest.raises(BadSample, match='known before'):
            dataset[15]
        assert dataset[Draw(15, (5, 0, 0))]['data_samples'].sample_idx != 15

    def test_where_nothing_can_be_loaded_it_gives_up(self, spoilt, data):
        dataset = spoilt()
        shutil.rmtree(data / 'imagenet/train')
        with pytest.raises(LoadingStopped, match='100 samples in a row cannot be loaded.*bad_samples.txt'):
            dataset[Draw(0, (5, 0, 0))]


class TestList:
    def test_of_many_processes(self, tmp_path):
        """Four write the same 50 faults at the same moments, and each a few of its own."""
        context = multiprocessing.get_context('fork')
        together = context.Barrier(4)
        processes = [
            context.Process(target=add_many, args=(tmp_path / 'list.txt', own, together)) for own in range(4)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        lines = (tmp_path / 'list.txt').read_text().splitlines()
        assert len(lines) == len(set(lines)) == 50 + 4 * 5
        assert all(line.count('\t') == 2 for line in lines)

    def test_begins_anew_or_goes_on_with_what_is_still_bad(self, tmp_path):
        files = [tmp_path / name for name in ('a.png', 'b.png', 'gone.png', 'annotations.json')]
        for file in files:
            file.write_text('bad')
        time.sleep(0.02)  # file systems count in ticks of some milliseconds
        listed = FaultFile(tmp_path / 'list.txt')
        for file in files[:3]:
            listed.add(fault_of(file, 'kind', 'is bad\nand more'))
        time.sleep(0.02)
        shutil.copy2(files[0], files[1])  # repaired, with an old mtime
        files[2].unlink()

        def after(resumed):
            again = FaultFile(tmp_path / 'list.txt')
            again.begin(resumed, [str(files[3])])
            assert FaultFile(tmp_path / 'list.txt').read() == again.faults
            return [os.path.basename(file) for file in again.faults]

        assert after(resumed=True) == ['a.png']
        time.sleep(0.02)
        files[3].write_text('repaired')
        assert after(resumed=True) == []
        listed = FaultFile(tmp_path / 'list.txt')
        listed.add(fault_of(files[0], 'kind', 'is bad'))
        assert after(resumed=False) == []

    def test_that_cannot_be_written_stops_the_run(self, tmp_path):
        with pytest.raises(LoadingStopped, match='list.txt cannot be written .*, after a.png is bad'):
            FaultFile(tmp_path / 'none' / 'list.txt').add(fault_of('a.png', 'kind', 'a.png is bad'))


class SlowFile(FaultFile):
    """Takes its time between reading and writing, so that others come in between if they can."""

    def _take(self, content):
        super()._take(content)
        time.sleep(0.005)


def add_many(path, own, together):
    listed = SlowFile(path)
    for number in range(50):
        together.wait(60)
        listed.add(Fault(f'/data/{number}.png', 'unreadable image', 'reason ' * 40))
    for number in range(5):
        listed.add(Fault(f'/data/{own}/{number}.png', 'unreadable image', 'reason'))


def test_the_budget_is_a_thousandth_and_one_at_least():
    assert [budget(images, None) for images in (1, 20, 1000, 1001, 1281167)] == [1, 1, 1, 2, 1282]
    assert budget(1000, 0) == 0 and budget(1000, 10) == 10


class TestBeforeTheFirstStep:
    """What the checks before a run find counts too."""

    def spoil(self, data, config, number):
        if config == SEG:
            for label_map in sorted((data / 'ade/annotations/training').iterdir())[:number]:
                Image.new('L', (32, 32), 1).save(label_map)
        else:
            edit(data, lambda coco: self.move_out(coco['annotations'], number))

    def move_out(self, annotations, number):
        """One box of each of the first images."""
        moved = {a['image_id']: a for a in annotations}
        for annotation in list(moved.values())[:number]:
            annotation['bbox'] = [70, 0, 5, 5]

    @pytest.mark.parametrize('config', [DET, SEG])
    def test(self, config, data):
        cfg = config_of(config, data, **{'train_dataloader.batch_size': 8})
        self.spoil(data, config, 1)
        (fault,) = check_config(cfg, 'train')
        assert fault.kind in ('annotation outside its image', 'label map of another size')
        self.spoil(data, config, 3)
        with pytest.raises(UserError, match=r'3 bad samples .* 1 of 20 may be skipped.*--max-bad-samples'):
            check_config(cfg, 'train')
        assert len(check_config(cfg, 'train', 3)) == 3

    def test_validation_has_no_budget(self, data):
        first = first_of(data / 'ade/annotations/validation')
        Image.new('L', (32, 32), 1).save(first)
        with pytest.raises(UserError, match=f'val_dataloader: label map .*{first.name} has the shape'):
            check_config(config_of(SEG, data, **{'train_dataloader.batch_size': 8}), 'train', 100)


def lines_of(done):
    """The errors of a run; everything else on stderr is warnings and the log."""
    return [line for line in done.stderr.splitlines() if line.startswith(('error:', 'Traceback'))]


def bad_in(folder):
    return [line.split('\t')[0] for line in (folder / 'bad_samples.txt').read_text().splitlines()]


def few(config, data, *more):
    """Options that make a run short."""
    loaders = [
        f'{split}_dataloader.{key}'
        for split in ('train', 'val', 'test')
        for key in ('num_workers=1', 'persistent_workers=False')
    ]
    length = ['train_cfg.max_iters=4', 'train_cfg.val_interval=4'] if config == SEG else ['max_epochs=1']
    return ['--cfg-options', f'data_root={data / LAYOUT[config]}', *loaders, *length, *more]


@pytest.fixture(scope='module')
def thousand(tmp_path_factory):
    """A thousand small images in ten classes, ten of them cut in half."""
    root = tmp_path_factory.mktemp('thousand')
    chance = np.random.default_rng(0)
    for split, number in itertools.product(('train', 'val'), range(1000)):
        if split == 'val' and number >= 10:
            continue
        folder = root / 'imagenet' / split / f'class{number % 10}'
        folder.mkdir(parents=True, exist_ok=True)
        pixels = chance.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{number:04}.png')
        if split == 'train' and number % 100 == 37:
            cut(folder / f'{number:04}.png')
    return root


def test_ten_corrupted_images_among_a_thousand(thousand, run_python, tmp_path):
    """The run stops at the second; told that ten may be, it goes on to what it would have become at once."""

    def train(folder, *options):
        arguments = ['tools/train.py', CLS, '--no-validate', '--work-dir', tmp_path / folder, *options]
        return run_python(*arguments, *few(CLS, thousand, 'train_dataloader.batch_size=50', 'scale=32'))

    stopped = train('cut')
    assert stopped.returncode == 2
    (line,) = lines_of(stopped)
    assert '2 of 1000 samples are bad, and 1 may be skipped' in line
    for word in ('bad_samples.txt', '--max-bad-samples', '--resume', 'check_dataset.py'):
        assert word in line
    assert not list((tmp_path / 'cut').glob('epoch*'))
    resumed = train('cut', '--resume', '--max-bad-samples', 10)
    whole = train('whole', '--max-bad-samples', 10)
    logs = [done.stdout + done.stderr for done in (stopped, resumed, whole)]
    for done, folder in ((resumed, 'cut'), (whole, 'whole')):
        assert done.returncode == 0, done.stderr[-2000:]
        bad = bad_in(tmp_path / folder)
        assert len(bad) == 10 and all(file.endswith('37.png') for file in bad)
    for image in bad:  # each is named once in the log of a run, and not again where it goes on
        assert logs[2].count(f'bad sample skipped: image {image}') == 1
        assert (logs[0] + logs[1]).count(f'bad sample skipped: image {image}') == 1
    ends = [torch.load(tmp_path / f / 'epoch_1.pth', weights_only=False)['state_dict'] for f in ('cut', 'whole')]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[1])


def test_two_processes_count_together_and_stop_together(data, tmp_path):
    for image in sorted((data / 'imagenet/train').rglob('*.png'))[:8]:
        cut(image)
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone']
    command += ['tools/train.py', CLS, '--work-dir', tmp_path / 'work', '--launcher', 'pytorch']
    command += few(CLS, data, 'train_dataloader.batch_size=2', 'scale=32', 'max_epochs=8')
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    lines = [line[line.index('error:') :] for line in done.stderr.splitlines() if 'error: stopped' in line]
    assert len(lines) == 2 and len(set(lines)) == 1, done.stderr[-3000:]
    assert 'of 20 samples are bad, and 1 may be skipped; stopped_iter_10.pth keeps the state' in lines[0]
    bad = bad_in(tmp_path / 'work')
    assert len(bad) == len(set(bad)) >= 2
    assert (tmp_path / 'work/stopped_iter_10.pth').is_file()


@pytest.mark.parametrize('config', [DET, SEG])
def test_detection_and_segmentation_skip_too(config, data, run_python, tmp_path):
    """One that the checks before the run find, and one that only loading does."""
    if config == DET:
        edit(data, lambda coco: coco['annotations'][0].update(bbox=[70, 0, 5, 5]))
        known = data / 'coco/train2017' / json.loads((data / INSTANCES).read_text())['images'][0]['file_name']
        met = sorted((data / 'coco/train2017').iterdir())[5]
    else:
        known, *_, met = sorted((data / 'ade/annotations/training').iterdir())
        Image.new('L', (32, 32), 1).save(known)
        met = sorted((data / 'ade/images/training').iterdir())[5]
    cut(met, 0.9)
    arguments = ['tools/train.py', config, '--work-dir', tmp_path, '--max-bad-samples', 2, '--no-validate']
    done = run_python(*arguments, *few(config, data, 'train_dataloader.batch_size=5'))
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(bad_in(tmp_path)) == sorted([str(known), str(met)])
    assert (done.stdout + done.stderr).count('bad sample skipped') == 2


def test_a_process_stops_too_that_sees_an_older_list(data, tmp_path, monkeypatch):
    """The file system of a cluster may show another node's lines late: the largest count is everybody's."""
    logger = SimpleNamespace(warning=lambda line: None)
    dataset = dataset_of(CLS, data)
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=dataset), work_dir=tmp_path, _resume=False, logger=logger, iter=7
    )
    hook = BadSamplesHook()
    hook.before_train(runner)
    hook.after_train(runner)
    monkeypatch.setattr('mmdwnet.engine.bad_samples.all_reduce', lambda tensor, how: tensor.fill_(2))
    with pytest.raises(UserError, match='stopped at iteration 7: 2 of 20 samples are bad, and 1 may be skipped'):
        hook.after_train(runner)


def test_nothing_is_skipped_where_scores_are_made(data, run_python, tmp_path):
    image = sorted((data / 'imagenet/val').rglob('*.png'))[4]
    cut(image)
    options = few(CLS, data, 'train_dataloader.batch_size=10', 'scale=32')
    arguments = ['tools/train.py', CLS, '--work-dir', tmp_path, '--max-bad-samples', 10]
    trained = run_python(*arguments, *options, 'train_cfg.val_interval=1')
    tested = run_python('tools/test.py', CLS, tmp_path / 'epoch_1.pth', '--work-dir', tmp_path / 'test', *options)
    for done in (trained, tested):
        assert done.returncode == 2
        (line,) = lines_of(done)
        assert f'{image} cannot be read' in line and 'no image is skipped where scores are made' in line


def test_a_budget_below_nothing_is_refused(data, run_python):
    done = run_python('tools/train.py', CLS, '--max-bad-samples', -1, *few(CLS, data))
    assert done.returncode == 2 and lines_of(done) == ['error: --max-bad-samples -1: expected 0 or more']
