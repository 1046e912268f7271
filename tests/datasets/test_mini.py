"""The mini dataset: reproducible, complete or absent, and the same in the eyes of three libraries."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdwnet.datasets import masks, mini, shapes
from mmdwnet.datasets.scenes import draw_scene
from mmdwnet.errors import UserError, run_tool

SMALL = {'size': 64, 'num_train': 20, 'num_val': 10}
SPLITS = {'train': 'training', 'val': 'validation'}  # in the ImageNet and in the ADE layout
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_tools' / 'make_mini_dataset.py'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return mini.generate(tmp_path_factory.mktemp('data') / 'mini', **SMALL).root


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('make_mini_dataset', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(root):
    """Relative path -> bytes of every file."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def images(root, split):
    """File name -> (label, bytes) from the ImageNet layout."""
    paths = (root / 'imagenet' / split).glob('*/*.png')
    return {p.name: (p.parent.name, p.read_bytes()) for p in paths}


def coco(root, split):
    return json.loads((root / 'coco' / 'annotations' / f'instances_{split}2017.json').read_text())


def label_map(root, split, name):
    return np.asarray(Image.open(root / 'ade' / 'annotations' / SPLITS[split] / name))


def interior(mask):
    """The pixels of a mask whose eight neighbours belong to it too."""
    padded = np.pad(mask, 1)
    h, w = mask.shape
    shifted = [padded[i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return np.logical_and.reduce(shifted)


@pytest.fixture(scope='module')
def scenes():
    return [
        draw_scene(mini.scene_generator(7, 'train', i), 64, mini.CLASSES[i % len(mini.CLASSES)]) for i in range(60)
    ]


# --- Reproducibility -----------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes_with_any_number_of_workers(root, tmp_path):
    expected = files(root)
    for workers in (1, 2):
        again = mini.generate(tmp_path / str(workers), **SMALL, workers=workers).root
        assert files(again) == expected


def test_another_seed_gives_other_images(root, tmp_path):
    other = mini.generate(tmp_path / 'mini', **SMALL, seed=1).root
    for split in SPLITS:
        pixels = {data for _, data in images(root, split).values()}
        assert pixels.isdisjoint(data for _, data in images(other, split).values())


def test_images_of_both_splits_are_all_different(root):
    pixels = [data for split in SPLITS for _, data in images(root, split).values()]
    assert len(set(pixels)) == len(pixels) == SMALL['num_train'] + SMALL['num_val']


def test_an_image_depends_on_nothing_but_seed_split_and_index(root, tmp_path):
    longer = mini.generate(tmp_path / 'mini', **{**SMALL, 'num_train': 25, 'num_val': 12}).root
    for split in SPLITS:
        assert images(root, split).items() <= images(longer, split).items()


def test_the_version_names_the_pixels(scenes):
    """`generate` leaves a set of the same VERSION alone, so other pixels need another VERSION."""
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(scene.image.tobytes() + scene.owner.tobytes())
    assert {1: 'ecfeab2229240f9b'}[mini.VERSION] == digest.hexdigest()[:16]


# --- Content -------------------------------------------------------------------------------------


def test_the_three_layouts_hold_the_same_images(root):
    for split, ade in SPLITS.items():
        expected = {name: data for name, (_, data) in images(root, split).items()}
        assert len(expected) == SMALL[f'num_{split}']
        assert files(root / 'coco' / f'{split}2017') == expected
        assert files(root / 'ade' / 'images' / ade) == expected
        assert files(root / 'ade' / 'annotations' / ade).keys() == expected.keys()


def test_labels_are_balanced_and_every_class_is_in_both_splits(root):
    assert len(mini.CLASSES) >= 10
    for split in SPLITS:
        labels = [label for label, _ in images(root, split).values()]
        expected = SMALL[f'num_{split}'] // len(mini.CLASSES)
        assert {name: labels.count(name) for name in mini.CLASSES} == dict.fromkeys(mini.CLASSES, expected)


def test_the_label_is_the_class_of_the_clearly_largest_shape(root):
    for split in SPLITS:
        data = coco(root, split)
        label = {name: label for name, (label, _) in images(root, split).items()}
        for image in data['images']:
            shapes_of_image = sorted(
                (a['area'], mini.CLASSES[a['category_id'] - 1])
                for a in data['annotations']
                if a['image_id'] == image['id']
            )
            assert 1 <= len(shapes_of_image) <= 3
            assert shapes_of_image[-1][1] == label[image['file_name']]
            if len(shapes_of_image) > 1:
                assert shapes_of_image[-1][0] >= 1.5 * shapes_of_image[-2][0]


def test_coco_categories_and_ids(root):
    for split in SPLITS:
        data = coco(root, split)
        assert [c['name'] for c in data['categories']] == list(mini.CLASSES)
        for key in ('categories', 'images', 'annotations'):
            assert [entry['id'] for entry in data[key]] == list(range(1, len(data[key]) + 1))


def test_boxes_and_areas_are_those_of_the_visible_masks(root):
    coco_mask = pytest.importorskip('pycocotools.mask', reason='needs pycocotools')
    size = SMALL['size']
    for split in SPLITS:
        for annotation in coco(root, split)['annotations']:
            mask = decode(coco_mask, annotation['segmentation'], size)
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            tight = [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
            assert annotation['bbox'] == tight
            assert annotation['area'] == mask.sum() > 0


def test_shapes_keep_at_least_half_of_their_area_and_some_are_covered(scenes):
    fractions = [
        (scene.owner == k + 1).sum() / full for scene in scenes for k, full in enumerate(scene.full_areas)
    ]
    assert min(fractions) >= 0.5
    assert max(fractions) == 1
    assert np.mean(np.array(fractions) < 1) >= 0.1


def test_extents_of_the_shapes(scenes):
    """Of uncovered shapes: the main one spans 45-75 % of the side, the others 20-35 %."""
    for scene in scenes:
        for k, full in enumerate(scene.full_areas):
            mask = scene.owner == k + 1
            if mask.sum() == full:
                extent = max(np.ptp(axis) + 1 for axis in np.nonzero(mask))
                low, high = (0.45, 0.75) if k == 0 else (0.20, 0.35)
                # The mask's outermost pixels may be covered by less than half: 2 px at a tip.
                assert low * 64 - 4 <= extent <= high * 64 + 2


def test_shapes_stand_out_from_the_background(scenes):
    """The interior of every shape differs in colour from every background pixel."""
    for scene in scenes[:20]:
        image = scene.image / 255
        background = image[interior(scene.owner == 0)]
        for k in range(len(scene.shapes)):
            shape = image[interior(scene.owner == k + 1)]
            gap = np.linalg.norm(shape[:, None] - background[None], axis=-1)
            assert gap.min() >= 0.35
            # and it is lighter, which makes the set quick to learn
            assert (shape @ LUMA).min() > (background @ LUMA).max() + 0.1


def test_edges_are_anti_aliased():
    alpha = shapes.coverage([loop + 32 for loop in shapes.outline('disc', 0.0, 40)], 64)
    assert alpha[32, 32] == 255 and alpha[0, 0] == 0
    assert len(np.unique(alpha)) > 20
    assert alpha.sum() / 255 == pytest.approx(np.pi * 20**2, rel=0.01)


def test_silhouettes_differ_in_every_rotation():
    """No two classes of shapes can be turned into one another: their overlap stays below 85 %."""
    turns = np.arange(36) * (2 * np.pi / 36)
    masks_of = {
        name: np.stack(
            [
                shapes.coverage([loop + 24 for loop in shapes.outline(name, turn, 40)], 48).ravel() > 127
                for turn in turns
            ]
        ).astype(np.float32)
        for name in mini.CLASSES
    }
    for i, first in enumerate(mini.CLASSES):
        for second in mini.CLASSES[i + 1 :]:
            a, b = masks_of[first], masks_of[second]
            shared = a @ b.T
            overlap = shared / (a.sum(1)[:, None] + b.sum(1)[None] - shared)
            assert overlap.max() < 0.85, (first, second)


# --- Segmentations -------------------------------------------------------------------------------


def decode(coco_mask, segmentation, height, width=None):
    """Rasterise as pycocotools' COCO.annToRLE does."""
    encoded = coco_mask.frPyObjects(segmentation, height, width or height)
    return coco_mask.decode(coco_mask.merge(encoded) if isinstance(encoded, list) else encoded)


def test_segmentations_of_drawn_masks_are_exact(scenes):
    """Polygons run along the pixel edges, so that rasterising them gives the mask back."""
    coco_mask = pytest.importorskip('pycocotools.mask', reason='needs pycocotools')
    kinds = set()
    for scene in scenes:
        for k in range(len(scene.shapes)):
            mask = scene.owner == k + 1
            segmentation = masks.encode_mask(mask)
            kinds.add(type(segmentation))
            np.testing.assert_array_equal(decode(coco_mask, segmentation, 64), mask)
    assert kinds == {list, dict}


def test_segmentations_of_arbitrary_masks_are_exact():
    """Holes, pieces that touch at a corner, and masks that reach the border; not square."""
    coco_mask = pytest.importorskip('pycocotools.mask', reason='needs pycocotools')
    rng = np.random.default_rng(0)
    for density in np.linspace(0.1, 1, 40):
        mask = rng.random((7, 9)) < density
        mask[3, 4] = True
        segmentation = masks.encode_mask(mask)
        np.testing.assert_array_equal(decode(coco_mask, segmentation, 7, 9), mask)


@pytest.mark.parametrize(
    ('rows', 'loops'),
    [
        (['#'], 1),
        (['##', '##'], 1),
        (['#.', '.#'], 2),  # a corner does not connect
        (['###', '#.#', '###'], 2),  # a hole
        (['####', '#.##', '##.#', '####'], 2),  # one hole: background connects over corners
        (['.#.', '#.#', '.#.'], 4),
    ],
)
def test_outlines_are_one_per_piece_and_hole(rows, loops):
    mask = np.array([[c == '#' for c in row] for row in rows])
    assert len(masks.trace_outlines(mask)) == loops
    assert isinstance(masks.encode_mask(mask), list if loops == 1 else dict)


# --- The stock dataset classes -------------------------------------------------------------------


def test_stock_datasets_agree_pixel_for_pixel(root):
    """Image, label, boxes, masks and label map through mmpretrain, mmdet and mmseg.

    No tolerance: the polygons follow the pixel edges and rasterise to the very mask.
    """
    for split in SPLITS:
        classified = {Path(s['img_path']).name: s for s in load_classification(root, split)}
        detected = {Path(s['img_path']).name: s for s in load_detection(root, split)}
        segmented = {Path(s['img_path']).name: s for s in load_segmentation(root, split)}
        assert len(classified) == SMALL[f'num_{split}']
        assert classified.keys() == detected.keys() == segmented.keys()
        for name, sample in classified.items():
            instances, pixels = detected[name], segmented[name]
            np.testing.assert_array_equal(sample['img'], instances['img'])
            np.testing.assert_array_equal(sample['img'], pixels['img'])
            check_instances(instances, pixels['gt_seg_map'], sample['gt_label'])


def check_instances(instances, label_map, main_label):
    masks_, labels = instances['gt_masks'].masks, instances['gt_bboxes_labels']
    assert len(masks_) == len(labels) == len(instances['gt_bboxes']) > 0
    assert not instances['gt_ignore_flags'].any()
    assert masks_.sum(0).max() == 1  # visible parts do not overlap
    drawn = np.zeros_like(label_map)
    for mask, label, box in zip(masks_, labels, instances['gt_bboxes'].tensor.numpy(), strict=True):
        drawn[mask == 1] = label + 1  # 0 is the background after the shift of reduce_zero_label
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(box, tight)
    np.testing.assert_array_equal(drawn, label_map)
    assert labels[masks_.sum((1, 2)).argmax()] == main_label


def load_classification(root, split):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    from mmpretrain.datasets import CustomDataset

    return CustomDataset(
        data_root=str(root / 'imagenet'), data_prefix=split, pipeline=[{'type': 'LoadImageFromFile'}]
    )


def load_detection(root, split):
    pytest.importorskip('mmdet', reason='needs mmdet')
    from mmdet.datasets import CocoDataset

    return CocoDataset(
        data_root=str(root / 'coco'),
        ann_file=f'annotations/instances_{split}2017.json',
        data_prefix={'img': f'{split}2017/'},
        metainfo={'classes': mini.CLASSES, 'palette': mini.PALETTE},
        pipeline=[
            {'type': 'LoadImageFromFile'},
            {'type': 'mmdet.LoadAnnotations', 'with_bbox': True, 'with_mask': True},
        ],
    )


def load_segmentation(root, split):
    pytest.importorskip('mmseg', reason='needs mmseg')
    from mmseg.datasets import BaseSegDataset

    return BaseSegDataset(
        data_root=str(root / 'ade'),
        data_prefix={'img_path': f'images/{SPLITS[split]}', 'seg_map_path': f'annotations/{SPLITS[split]}'},
        img_suffix='.png',
        seg_map_suffix='.png',
        reduce_zero_label=True,
        metainfo={'classes': mini.SEG_CLASSES, 'palette': mini.SEG_PALETTE},
        pipeline=[{'type': 'LoadImageFromFile'}, {'type': 'mmseg.LoadAnnotations'}],
    )


def test_label_maps_never_use_zero(root):
    for split in SPLITS:
        values = {v for name in images(root, split) for v in np.unique(label_map(root, split, name))}
        assert values == set(range(1, len(mini.CLASSES) + 2))


def test_one_name_and_one_colour_per_value():
    assert len(set(mini.SEG_CLASSES)) == len(mini.SEG_CLASSES) == len(mini.CLASSES) + 1
    assert len(set(mini.SEG_PALETTE)) == len(mini.SEG_PALETTE) == len(mini.SEG_CLASSES)


# --- Complete or absent --------------------------------------------------------------------------


class Interrupt(Exception):
    pass


def interrupt(done, total):
    if done == 5:
        raise Interrupt


@pytest.mark.parametrize('workers', [1, 2])
def test_an_interrupted_run_leaves_nothing(tmp_path, workers):
    with pytest.raises(Interrupt):
        mini.generate(tmp_path / 'mini', **SMALL, workers=workers, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_keeps_the_set_it_was_to_replace(tmp_path):
    old = mini.generate(tmp_path / 'mini', **SMALL, seed=3).root
    before = files(old)
    with pytest.raises(Interrupt):
        mini.generate(old, **SMALL, progress=interrupt)
    assert files(old) == before
    assert list(tmp_path.iterdir()) == [old]


def test_an_identical_set_is_left_alone_unless_forced(tmp_path):
    target = tmp_path / 'mini'
    calls = []
    first = mini.generate(target, **SMALL, progress=lambda *call: calls.append(call))
    assert first.created and calls == [(i, 30) for i in range(1, 31)]
    again = mini.generate(target, **SMALL, progress=interrupt)
    assert not again.created and again.meta == first.meta
    assert mini.generate(target, **SMALL, force=True).created


def test_a_damaged_set_and_one_with_other_parameters_are_replaced(root, tmp_path):
    target = mini.generate(tmp_path / 'mini', **SMALL, seed=5).root
    assert mini.generate(target, **SMALL).created
    assert files(target) == files(root)
    next((target / 'coco' / 'val2017').iterdir()).write_bytes(b'')
    assert mini.generate(target, **SMALL).created
    assert files(target) == files(root)


def test_a_foreign_folder_is_refused_even_with_force(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    for force in (False, True):
        with pytest.raises(UserError, match='is not a mini dataset'):
            mini.generate(tmp_path, **SMALL, force=force)
    assert [p.name for p in tmp_path.iterdir()] == ['notes.txt']


def test_a_foreign_file_inside_the_set_is_not_deleted(tmp_path):
    target = mini.generate(tmp_path / 'mini', **SMALL).root
    (target / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match=r'notes\.txt is not part of'):
        mini.generate(target, **SMALL, force=True)
    assert (target / 'notes.txt').read_text() == 'mine'


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    blocker = tmp_path / 'file'
    blocker.write_text('mine')
    for target in (blocker, blocker / 'mini'):
        with pytest.raises(UserError, match=r'file.*folder'):
            mini.generate(target, **SMALL)
    assert blocker.read_text() == 'mine'


@pytest.mark.parametrize(
    'wrong',
    [
        {'seed': -1},
        {'seed': 1.5},
        {'size': 16},
        {'num_train': 0},
        {'num_val': 9},
        {'workers': 0},
        {'size': True},
    ],
)
def test_a_wrong_parameter_is_named_in_one_line(tmp_path, wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(UserError, match=f'{name} must be an integer >= [0-9]+, got {value}') as info:
        mini.generate(tmp_path / 'mini', **{**SMALL, **wrong})
    assert '\n' not in str(info.value)
    assert list(tmp_path.iterdir()) == []


# --- The command line ----------------------------------------------------------------------------

COMMAND = ['--size', '64', '--num-train', '20', '--num-val', '10']


def test_command_draws_the_set_and_a_preview(tool, root, tmp_path, capsys):
    target, preview = tmp_path / 'mini', tmp_path / 'sheet.png'
    tool.main([str(target), *COMMAND, '--preview', str(preview)])
    assert files(target) == files(root)
    with Image.open(preview) as sheet:
        assert sheet.height >= 64 * len(mini.CLASSES)
    assert '20 train' in capsys.readouterr().out
    tool.main([str(target), *COMMAND])
    assert 'already there' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['--size', '7'], 'size must be'), (['--preview', 'nowhere/sheet.png'], '--preview nowhere')],
)
def test_command_shows_an_error_in_one_line(tool, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match='2'):
        run_tool(lambda: tool.main([str(tmp_path / 'mini'), *arguments]))
    captured = capsys.readouterr()
    assert captured.err.startswith('error: ') and captured.err.count('\n') == 1
    assert message in captured.err
    assert list(tmp_path.iterdir()) == []
