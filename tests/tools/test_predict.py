"""tools/predict.py: what it writes is what the stock functions predict, and nothing is skipped in silence."""

import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import mmdwnet
from mmdwnet.engine.predicting import predict, predict_parser
from mmdwnet.engine.predicting.inputs import find_sources, frames_of
from mmdwnet.engine.predicting.interrupting import interrupts_between_steps
from mmdwnet.engine.predicting.pictures import Drawer
from mmdwnet.engine.predicting.predictor import Item, Predictor
from mmdwnet.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TASKS = ('cls', 'det', 'seg')
FRAMES = 12


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A checkpoint of a nano net of each task, whose predictions differ from image to image."""
    folder, files = tmp_path_factory.mktemp('weights'), {}
    for task in TASKS:
        model = mmdwnet.load_model('dwnet-nano', task)
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and 'head' in name:
                parameter.data.add_(torch.randn_like(parameter) * 0.05)
        files[task] = str(folder / f'{task}.pth')
        meta = dict(dataset_meta=dict(model.dataset_meta))
        if task == 'cls':
            meta = dict(dataset_meta=dict(classes=[f'class {i}' for i in range(10)]))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), files[task])
    return files


@pytest.fixture(scope='module')
def photos(tmp_path_factory, mini_root):
    """A folder of images of several sizes and formats: two of one name in two folders, two of one stem in one."""
    folder = tmp_path_factory.mktemp('photos') / 'photos'
    sources = sorted((mini_root / 'coco' / 'val2017').iterdir())
    places = ('a/x.png', 'b/x.png', 'b/y.jpg', 'b/y.png', 'z.bmp')
    for place, source, size in zip(
        places, sources, [(64, 64), (64, 64), (90, 60), (64, 64), (40, 70)], strict=False
    ):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.open(source).convert('RGB').resize(size).save(folder / place)
    (folder / 'notes.txt').write_text('no image')
    return folder


def make_video(path, codec, frames=FRAMES, size=(78, 50)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, size)
    generator = np.random.RandomState(0)
    scene = cv2.resize(generator.randint(0, 255, (6, 8, 3), np.uint8), size)
    for i in range(frames):
        writer.write(np.roll(scene, 3 * i, 1))
    writer.release()
    return path


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Videos of both codecs, and what can be wrong with one."""
    folder = tmp_path_factory.mktemp('videos')
    make_video(folder / 'clip.mp4', 'mp4v')
    whole = make_video(folder / 'whole.avi', 'MJPG').read_bytes()
    make_video(folder / 'noframes.avi', 'MJPG', 0)
    (folder / 'cut.avi').write_bytes(whole[: len(whole) // 2])
    (folder / 'empty.mp4').touch()
    return folder


@pytest.fixture
def run(weights, tmp_path, capsys):
    """Predict in this process as the command line says; return the results, the status and what was printed."""

    def run(*inputs, task='cls', out='out', **options):
        arguments = [str(path) for path in inputs]
        options = (
            dict(model='dwnet-nano', task=task, weights=weights[task], out=str(tmp_path / out), device='cpu')
            | options
        )
        for name, value in options.items():
            if value is not None:
                flag = f'--{name.replace("_", "-")}'
                arguments += (
                    [flag] if value is True else [flag, *map(str, value if isinstance(value, list) else [value])]
                )
        status = 0
        try:
            predict(predict_parser().parse_args(arguments), Console(width=200))
        except SystemExit as end:
            status = end.code
        results = json.loads((tmp_path / out / 'results.json').read_text())
        return results, status, capsys.readouterr().out

    return run


def by_name(results, name):
    (entry,) = (entry for entry in results['images'] if entry['file_name'].endswith(name))
    return entry


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


class TestImages:
    """Each task, over a folder."""

    def test_classes_are_those_of_mmpretrain(self, run, photos, weights, tmp_path):
        from mmpretrain import ImageClassificationInferencer

        results, status, said = run(photos)
        assert status == 0 and results['complete'] and results['failed'] == []
        assert (results['task'], results['model']) == ('cls', 'dwnet-nano_cls_mini')
        inferencer = ImageClassificationInferencer(mmdwnet.load_model('dwnet-nano', 'cls', weights['cls']))
        for path in sorted(photos.rglob('*.[pjb]*g')) + [photos / 'z.bmp']:
            entry, expected = by_name(results, str(path)), inferencer(str(path))[0]
            assert (entry['label'], entry['class']) == (expected['pred_label'], expected['pred_class'])
            assert entry['score'] == pytest.approx(expected['pred_score'], abs=2e-6)
            scores = [best['score'] for best in entry['top5']]
            assert scores == pytest.approx(sorted(expected['pred_scores'], reverse=True)[:5], abs=2e-6)
        assert 'left out: 1 file of other kinds' in said
        assert re.search(r'x.png: class \d \d\.\d\d, class', said)
        # one picture each, also where names are the same
        pictures = {'a/x.png', 'b/x.png', 'b/y.jpg.jpg', 'b/y.png.png', 'z.png'}
        assert files_below(tmp_path / 'out') == {'results.json', *(f'pictures/{name}' for name in pictures)}
        assert {entry['picture'] for entry in results['images']} == {f'pictures/{name}' for name in pictures}
        first, second = (
            np.asarray(Image.open(tmp_path / 'out/pictures' / place)) for place in ('a/x.png', 'b/x.png')
        )
        assert first.shape[:2] == (320, 320) and (first != second).any()

    def test_detections_are_those_of_mmdet_in_cocos_form(self, run, photos, weights, tmp_path):
        import pycocotools.mask
        from mmdet.apis import inference_detector
        from pycocotools.coco import COCO

        results, status, said = run(photos, task='det', score_threshold=0.05)
        assert status == 0
        coco = COCO(str(tmp_path / 'out' / 'results.json'))
        assert [category['name'] for category in results['categories']] == results['classes']
        model = mmdwnet.load_model('dwnet-nano', 'det', weights['det'])
        for place in ('a/x.png', 'b/y.jpg'):
            entry = by_name(results, str(photos / place))
            expected = inference_detector(model, str(photos / place)).pred_instances
            found = coco.loadAnns(coco.getAnnIds(entry['id']))
            assert len(found) == len(expected) > 0
            for one, box, score, label, mask in zip(
                found, expected.bboxes, expected.scores, expected.labels, expected.masks, strict=True
            ):
                x, y, width, height = one['bbox']
                assert [x, y, x + width, y + height] == pytest.approx(box.tolist(), abs=0.02)
                assert one['score'] == pytest.approx(score.item(), abs=2e-6)
                assert one['category_name'] == results['classes'][label]
                assert one['category_id'] == label + 1
                assert (pycocotools.mask.decode(one['segmentation']) == mask.numpy()).all()
                assert one['segmentation']['size'] == [entry['height'], entry['width']]
        original, drawn = (
            np.asarray(Image.open(path).convert('RGB'))
            for path in (photos / 'a/x.png', tmp_path / 'out/pictures/a/x.png')
        )
        assert original.shape == drawn.shape and (original != drawn).any()

    def test_label_maps_are_those_of_mmseg(self, run, photos, weights, tmp_path):
        from mmseg.apis import inference_model

        results, status, said = run(photos, task='seg')
        assert status == 0
        model = mmdwnet.load_model('dwnet-nano', 'seg', weights['seg'])
        for place in ('b/x.png', 'b/y.jpg', 'z.bmp'):
            entry = by_name(results, str(photos / place))
            labels = np.asarray(Image.open(tmp_path / 'out' / entry['label_map']))
            assert (labels == inference_model(model, str(photos / place)).pred_sem_seg.data[0].numpy()).all()
            assert labels.shape == (entry['height'], entry['width'])
            assert sum(entry['shares'].values()) == pytest.approx(1, abs=1e-5)
            for name, share in entry['shares'].items():
                assert share == pytest.approx((labels == results['classes'].index(name)).mean(), abs=1e-5)
        assert len({entry['label_map'] for entry in results['images']}) == 5

    def test_results_do_not_depend_on_the_batch(self, run, photos):
        one = run(photos, task='det', out='one', batch_size=1, no_pictures=True)[0]
        all_at_once = run(photos, task='det', out='all', batch_size=16, no_pictures=True)[0]
        for a, b in zip(one['annotations'], all_at_once['annotations'], strict=True):
            assert a['image_id'] == b['image_id'] and a['category_id'] == b['category_id']
            assert a['score'] == pytest.approx(b['score'], abs=1e-4)
        assert all('picture' not in entry for entry in one['images'])

    def test_a_batch_goes_through_the_model_at_once(self, photos, weights):
        model = mmdwnet.load_model('dwnet-nano', 'seg', weights['seg'])
        predictor, sizes = Predictor(model.cfg, model), []
        model.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape)))
        sources, _ = find_sources([str(photos)])
        samples = predictor.predict([predictor.load(Item(source)) for source in sources])
        assert sorted(size[0] for size in sizes) == [1, 1, 3]  # three are of one size
        for source, sample in zip(sources, samples, strict=True):
            assert sample.ori_shape == Image.open(source.path).size[::-1]

    @pytest.mark.parametrize('task', TASKS)
    def test_mixed_precision(self, task, run, photos):
        options = dict(task=task, no_pictures=True)
        full, half = (
            run(photos / 'a', out='full', **options)[0],
            run(photos / 'a', amp_dtype='bfloat16', **options)[0],
        )
        assert half != full
        found = [
            max(result['images'][0]['shares'].values())
            if task == 'seg'
            else max(one['score'] for one in result['annotations' if task == 'det' else 'images'])
            for result in (full, half)
        ]
        assert found[0] == pytest.approx(found[1], abs=0.2 if task == 'seg' else 0.05)


class TestInputs:
    """Files, folders, globs."""

    def test_globs_and_files_come_once_and_in_order(self, run, photos):
        results, *_ = run(photos / 'z.bmp', photos / '**' / '*.png', photos / 'a' / 'x.png', no_pictures=True)
        names = [entry['file_name'].removeprefix(f'{photos}/') for entry in results['images']]
        assert names == ['z.bmp', 'a/x.png', 'b/x.png', 'b/y.png']

    def test_a_name_that_looks_like_a_glob_is_a_file_first(self, run, photos, tmp_path):
        shutil.copy(photos / 'a/x.png', tmp_path / 'x[1].png')
        results, *_ = run(tmp_path / 'x[1].png')
        assert results['images'][0]['picture'] == 'pictures/x[1].png'

    def test_linked_folders_are_followed_and_a_circle_ends(self, tmp_path):
        for name in ('data/own.tiff', 'elsewhere/deep/linked.webp'):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / 'data/link').symlink_to(tmp_path / 'elsewhere')
        (tmp_path / 'data/again').symlink_to(tmp_path / 'elsewhere/deep')
        (tmp_path / 'elsewhere/circle').symlink_to(tmp_path / 'elsewhere')
        (tmp_path / 'data/above').symlink_to(tmp_path)
        sources, others = find_sources([str(tmp_path / 'data')])
        assert [source.name for source in sources] == ['again/linked', 'own']  # each once
        assert others == 0

    def test_no_two_sources_write_the_same_files(self, run, photos, videos, tmp_path):
        folder = tmp_path / 'in'
        for place in ('a.jpg', 'a.png', 'a.jpg.jpg', 'clip/000000.png'):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / ('a/x.png' if place.endswith('png') else 'b/y.jpg'), folder / place)
        make_video(folder / 'clip.mp4', 'mp4v', 2)
        results, status, _ = run(folder, task='seg')
        images = results['images']
        assert status == 0 and len(images) == 6
        for written in (
            [entry['label_map'] for entry in images],
            [entry['picture'] for entry in results['videos'] + images if 'picture' in entry],
        ):
            assert len(set(written)) == len(written)
            assert all((tmp_path / 'out' / place).is_file() for place in written)
        assert [entry['label_map'] for entry in images if 'frame' in entry] == [
            f'label_maps/clip.mp4/00000{frame}.png' for frame in (0, 1)
        ]
        assert results['videos'][0]['picture'] == 'pictures/clip.mp4'

    def test_what_cannot_be_read_is_named_and_the_rest_predicted(self, run, photos, tmp_path):
        folder = tmp_path / 'in'
        shutil.copytree(photos, folder)
        (folder / 'a/broken.png').write_bytes((photos / 'a/x.png').read_bytes()[:300])
        (folder / 'a/[b]empty.jpg').touch()  # what is no markup of the terminal's
        data = (photos / 'b/y.jpg').read_bytes()
        (folder / 'b/cut.jpg').write_bytes(data[: len(data) * 2 // 3])
        results, status, said = run(folder, batch_size=2)
        assert status == 1
        assert len(results['images']) == 5 and results['complete']
        failed = {one['file_name'].removeprefix(f'{folder}/'): one['reason'] for one in results['failed']}
        assert set(failed) == {'a/broken.png', 'a/[b]empty.jpg', 'b/cut.jpg'}
        for reason in failed.values():
            assert 'cannot be read' in reason and '\n' not in reason
            assert f'failed: {reason}' in said
        assert '3 failures' in said


class TestVideos:
    """Frame by frame, and an annotated video."""

    @pytest.mark.parametrize(('task', 'name'), [('cls', 'clip.mp4'), ('det', 'whole.avi'), ('seg', 'clip.mp4')])
    def test_every_frame_is_predicted_and_drawn(self, task, name, run, videos, weights, tmp_path):
        results, status, said = run(videos / name, task=task, batch_size=5)
        assert status == 0
        (video,) = results['videos']
        assert (video['fps'], video['width'], video['height']) == (10, 78, 50)
        assert [entry['frame'] for entry in results['images']] == list(range(FRAMES))
        assert results['images'][7]['seconds'] == 0.7
        assert {entry['video_id'] for entry in results['images']} == {video['id']}
        drawn = list(frames_of(tmp_path / 'out' / video['picture']))
        assert len(drawn) == FRAMES
        assert drawn[0].shape[:2] == ((320, 500) if task == 'cls' else (50, 78))
        assert f'{FRAMES} frames of 1 video predicted' in said
        # a frame is predicted as the same picture is
        for number, frame in enumerate(frames_of(videos / name)):
            if number == 3:
                cv2.imwrite(str(tmp_path / 'frame.png'), frame)
        alone, *_ = run(tmp_path / 'frame.png', task=task, out='alone')
        found, wanted = results['images'][3], alone['images'][0]
        for key in ('score', 'shares'):
            assert found.get(key) == (pytest.approx(wanted[key], abs=1e-4) if key in wanted else None)
        if task == 'seg':
            maps = (tmp_path / 'out' / found['label_map'], tmp_path / 'alone/label_maps/frame.png')
            first, second = (np.asarray(Image.open(path)) for path in maps)
            assert (first == second).mean() > 0.999
        if task == 'det':
            boxes = [one['bbox'] for one in results['annotations'] if one['image_id'] == found['id']]
            for box, one in zip(boxes, alone['annotations'], strict=True):
                assert box == pytest.approx(one['bbox'], abs=0.1)

    def test_images_and_videos_together(self, run, videos, photos, tmp_path):
        results, status, said = run(photos / 'a', videos / 'clip.mp4', videos / 'whole.avi', photos / 'b')
        assert status == 0
        assert len(results['images']) == 1 + 2 * FRAMES + 3
        assert [one['file_name'] for one in results['videos']] == [
            str(videos / n) for n in ('clip.mp4', 'whole.avi')
        ]
        for video in results['videos']:
            assert len(list(frames_of(tmp_path / 'out' / video['picture']))) == FRAMES

    def test_a_video_that_is_cut_short_is_predicted_as_far_as_it_goes_and_named(self, run, videos, tmp_path):
        results, status, said = run(videos / 'cut.avi', videos / 'empty.mp4', videos / 'clip.mp4')
        assert status == 1
        frames = len(results['images']) - FRAMES
        assert 0 < frames < FRAMES
        reasons = [one['reason'] for one in results['failed']]
        assert any(
            f'cut.avi is cut short: {frames} of the {FRAMES} frames that it states' in one for one in reasons
        )
        assert any('empty.mp4 cannot be opened (0 bytes)' in one for one in reasons)
        assert len(list(frames_of(tmp_path / 'out' / results['videos'][0]['picture']))) == frames


def test_nothing_that_can_be_predicted_is_an_error(run, videos, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no image')
    with pytest.raises(UserError, match='nothing could be predicted: image .*broken.png cannot be read') as error:
        run(tmp_path / 'broken.png')
    assert '\n' not in str(error.value)
    assert files_below(tmp_path / 'out') == set()
    with pytest.raises(UserError, match='video .*noframes.avi has no frame'):
        run(videos / 'noframes.avi')


@pytest.mark.parametrize(
    ('inputs', 'options', 'line'),
    [
        (['none.png'], {}, 'none.png: no such file or folder; expected images, videos, folders or globs'),
        (['*.none'], {}, r'\*.none: matches no image and no video'),
        (['empty'], {}, 'folder .*empty has no image and no video, but no file: expected an image'),
        (['texts'], {}, 'folder .*texts has no image and no video, but 1 files? of other kinds'),
        (['texts/a.txt'], {}, 'a.txt is neither an image nor a video by its name'),
        (['x.png'], dict(model='dwnet-nanno'), "no model is called 'dwnet-nanno': did you mean 'dwnet-nano'"),
        (['x.png'], dict(weights=None), 'there are no published weights of dwnet-nano_cls_mini'),
        (['x.png'], dict(weights='none.pth'), 'none.pth: no such file; expected a checkpoint'),
        (['x.png'], dict(task='seg', weights='cls'), 'cls.pth: it holds the weights of a classifier'),
        (['x.png'], dict(device='cuda:55'), 'device cuda:55 cannot be used'),
        (['x.png'], dict(device='gpu'), 'device gpu cannot be used'),
        (['x.png'], dict(out='x.png'), '--out .*x.png is a file: expected a folder'),
        (['x.png'], dict(out='x.png/y'), '--out .*x.png/y cannot be written to'),
        (['x.png'], dict(out='done'), r'done/results.json is there already: choose another --out, or --force'),
        (['x.png'], dict(batch_size=0), '--batch-size 0: expected 1 or more'),
        (['x.png'], dict(score_threshold=2), '--score-threshold 2: expected a number from 0 to 1'),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(inputs, options, line, run, weights, photos, tmp_path):
    shutil.copy(photos / 'a/x.png', tmp_path)
    for folder in ('empty', 'texts', 'done'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'texts/a.txt').touch()
    (tmp_path / 'done/results.json').write_text('kept')
    before = files_below(tmp_path)
    options = {key: weights.get(value, value) if key == 'weights' else value for key, value in options.items()}
    if 'out' in options:
        options['out'] = str(tmp_path / options['out'])
    with pytest.raises(UserError, match=line) as error:
        run(*(tmp_path / path for path in inputs), **options)
    assert '\n' not in str(error.value)
    assert files_below(tmp_path) == before
    assert (tmp_path / 'done/results.json').read_text() == 'kept'


def test_the_command_line(run_python, weights, photos, tmp_path):
    tool = ('tools/predict.py', '--device', 'cpu', '--out', tmp_path / 'out', '--weights')
    done = run_python(*tool, weights['det'], '--model', 'dwnet-nano_mask-rcnn_mini', '--', photos / 'a')
    assert done.returncode == 0, done.stderr
    assert re.search(r'1 image predicted by dwnet-nano_mask-rcnn_mini, .* images/s', done.stdout)
    again = run_python(*tool, weights['det'], '--model', 'dwnet-nano', photos / 'a', '--verbose')
    assert again.returncode == 2
    assert 'Traceback' in again.stderr
    assert again.stderr.splitlines()[-1].startswith(f'error: {weights["det"]}: it holds the weights of a detector')


def test_names_that_are_no_utf8_are_predicted_or_named(run_python, weights, photos, videos, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    image, video = (folder / os.fsdecode(b'caf\xe9' + suffix) for suffix in (b'.png', b'.mp4'))
    shutil.copy(photos / 'a/x.png', image)
    shutil.copy(photos / 'b/y.jpg', folder)
    shutil.copy(videos / 'clip.mp4', video)
    command = ['tools/predict.py', folder, '--model', 'dwnet-nano', '--weights', weights['cls']]
    done = run_python(*command, '--device', 'cpu', '--out', tmp_path / 'out', PYTHONIOENCODING='utf-8:strict')
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    assert 'caf\\udce9.png: class' in done.stdout and 'failed: video' in done.stdout
    results = json.loads((tmp_path / 'out' / 'results.json').read_text(encoding='utf-8'))
    assert [entry['file_name'] for entry in results['images']] == [str(image), str(folder / 'y.jpg')]
    assert [entry['file_name'] for entry in results['failed']] == [str(video)]
    assert (tmp_path / 'out' / results['images'][0]['picture']).is_file()


@pytest.fixture
def _interruptible():
    """As in a terminal; what a shell runs in the background ignores interrupts, this suite too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('_interruptible')
def test_an_interrupt_is_not_lost_in_a_callback_and_cuts_no_image_in_two(weights, photos, tmp_path, monkeypatch):
    """Python swallows what the callback of a weak reference raises; matplotlib, which draws, has some."""
    draw, count = Drawer.draw, itertools.count(1)

    def interrupted_draw(*args):
        if next(count) == 2:
            thing = set()
            reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
            del thing
            assert reference() is None
        return draw(*args)

    monkeypatch.setattr(Drawer, 'draw', interrupted_draw)
    before = signal.getsignal(signal.SIGINT)
    options = ['--model', 'dwnet-nano', '--task', 'det', '--weights', weights['det'], '--out', tmp_path / 'out']
    args = predict_parser().parse_args(list(map(str, [photos, *options, '--batch-size', '2', '--device', 'cpu'])))
    with pytest.raises(SystemExit) as end:
        predict(args, Console(file=io.StringIO()))
    assert end.value.code == 130 and signal.getsignal(signal.SIGINT) is before
    results = json.loads((tmp_path / 'out/results.json').read_text())
    assert not results['complete'] and len(results['images']) == 2  # the batch was ended
    assert {one['image_id'] for one in results['annotations']} <= {one['id'] for one in results['images']}


@pytest.mark.usefixtures('_interruptible')
def test_a_second_interrupt_does_not_wait_for_the_batch():
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_between_steps() as step:
        signal.raise_signal(signal.SIGINT)
        reached.append('after the first')
        signal.raise_signal(signal.SIGINT)
        step()
    assert reached == ['after the first']


def test_interrupted_it_leaves_the_results_of_what_was_done(weights, tmp_path):
    video = make_video(tmp_path / 'long.avi', 'MJPG', 3000)
    command = [sys.executable, 'tools/predict.py', video, '--model', 'dwnet-nano', '--weights', weights['cls']]
    command += ['--out', tmp_path / 'out', '--device', 'cpu', '--batch-size', '2']
    # a shell's background jobs ignore the signal, and hand that on
    heed = dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True, **heed) as process:
        for line in process.stdout:
            if 'first frame' in line:
                time.sleep(0.5)
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    results = json.loads((tmp_path / 'out/results.json').read_text())
    assert not results['complete']
    done = len(results['images'])
    assert 0 < done < 3000
    assert len(list(frames_of(tmp_path / 'out/pictures/long.mp4'))) == done
    assert files_below(tmp_path / 'out') == {'results.json', 'pictures/long.mp4'}
