"""Images and label maps that are paired by their names: ADE20K's layout, and the simpler ones that people make."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import UserError, listed
from .own_data import (
    SPLITS,
    OwnData,
    Progress,
    Sample,
    Split,
    below,
    counted,
    folders_of,
    images_below,
    split_folders,
)

EXPECTED = (
    'label maps, as ROOT/images/ with ROOT/labels/ (or masks/, annotations/), each with or without folders '
    'train/ and val/ in it'
)
IMAGE_FOLDERS = ('images', 'image', 'imgs', 'img', 'jpegimages')
MAP_FOLDERS = ('annotations', 'annotation', 'labels', 'label', 'masks', 'mask', 'segmentationclass', 'gt')
NAMES_FILE = 'classes.txt'
IGNORED = 255
ONE_CHANNEL = ('1', 'L', 'P', 'I', 'I;16')  # modes of Pillow whose pixels are one number


def looks_alike(root: Path) -> bool:
    """Whether a folder may be of this layout; only names are looked at."""
    return bool(_folders(root))


def read(root: Path, progress: Progress) -> OwnData:
    """Pair the images of a folder of this layout with their label maps, and read these.

    Args:
        root: the folder.
        progress: is called with how many label maps are read of how many.

    Raises:
        UserError: images have no label map, or the values of the maps are no numbers of classes.
    """
    folders = _folders(root)
    pairs, suffixes, remarks = _pairs(folders)
    files = [folders[split][1] / (stem + suffixes[1]) for split, stems in pairs.items() for stem in stems]
    values = dict(zip(files, _values(files, progress), strict=True))
    largest = _largest(values, root)
    classes, shifted, more = _classes(root, largest, set().union(*values.values()))
    splits = {}
    for split, stems in pairs.items():
        images, maps = folders[split]
        found = [values[maps / (stem + suffixes[1])] for stem in stems]
        labels = [tuple(v - shifted for v in sorted(f) if v != IGNORED and v >= shifted) for f in found]
        samples = (Sample(stem + suffixes[0], own) for stem, own in zip(stems, labels, strict=True))
        splits[split] = Split(below(images, root), tuple(samples), below(maps, root))
    layout = f'images and label maps ({", ".join(f"{s.images}/ with {s.annotations}/" for s in splits.values())})'
    remarks += more
    return OwnData(
        root, 'seg', layout, classes, splits, suffixes=suffixes, zero_is_no_class=shifted, remarks=tuple(remarks)
    )


def _folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and of label maps, by split; without splits, as 'train'."""
    inside = {split: _pair(folder) for split, folder in split_folders(root).items()}
    inside = {split: pair for split, pair in inside.items() if pair}
    if 'train' in inside:  # ROOT/train/images, ROOT/train/labels
        return {split: inside[split] for split in SPLITS if split in inside}
    pair = _pair(root)
    if pair is None:
        return {}
    images, maps = map(split_folders, pair)
    if 'train' in images and 'train' in maps:
        return {split: (images[split], maps[split]) for split in SPLITS if split in images and split in maps}
    return {'train': pair}


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """The folder of images and that of label maps in a folder, if it has one of each."""
    there = folders_of(folder)
    images = [entry for entry in there if entry.name.lower() in IMAGE_FOLDERS]
    maps = [e for e in there if e.name.lower() in MAP_FOLDERS and any(True for _ in images_below(e))]
    if len(images) == 1 and len(maps) > 1:
        raise UserError(
            f'{folder} has several folders of label maps, {listed([entry.name for entry in maps])}: expected one; '
            'rename or move the others'
        )
    return (images[0], maps[0]) if len(images) == len(maps) == 1 else None


def _pairs(folders: dict[str, tuple[Path, Path]]) -> tuple[dict[str, list[str]], tuple[str, str], list[str]]:
    """The stems of the images of every split, the ends of the names of images and maps, and remarks."""
    images = {split: sorted(images_below(pair[0])) for split, pair in folders.items()}
    maps = {split: sorted(images_below(pair[1])) for split, pair in folders.items()}
    empty = next((folders[split][0] for split, names in images.items() if not names), None)
    if empty is not None:
        raise UserError(f'{empty} has no image: expected images and, in the folder of label maps, one for each')
    image_end = _one_suffix([name for names in images.values() for name in names], folders['train'][0])
    map_type = _one_suffix([name for names in maps.values() for name in names], folders['train'][1])
    pairs = {split: [name.removesuffix(image_end) for name in names] for split, names in images.items()}
    first, *_ = pairs['train']
    # such as _mask.png
    ends = {name[len(first) :] for name in maps['train'] if name.startswith(first)} | {map_type}
    best = max(sorted(ends), key=lambda end: len({stem + end for stem in pairs['train']} & set(maps['train'])))
    remarks = []
    for split, stems in pairs.items():
        there = {name.removesuffix(best) for name in maps[split] if name.endswith(best)}
        without = [stem for stem in stems if stem not in there]
        if without:
            raise UserError(
                f'{len(without)} of {counted(len(stems), "image")} in {folders[split][0]} have no label map '
                f'*{best} in {folders[split][1]} (first: {without[0]}{image_end}): expected one of the same name'
            )
        if len(there) > len(stems):
            remarks.append(f'{counted(len(there) - len(stems), "label map")} of {split} have no image: left out')
    return pairs, (image_end, best), remarks


def _one_suffix(names: list[str], folder: Path) -> str:
    suffixes = sorted({Path(name).suffix for name in names})
    if len(suffixes) > 1:
        raise UserError(
            f'{folder} has files of several types, {", ".join(suffixes)}: mmseg reads one, so convert them to one'
        )
    return suffixes[0]


def _values(files: list[Path], progress: Progress) -> Iterator[frozenset[int]]:
    """The values in each label map; those of one that cannot be read are none, for the check names it later."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # Pillow decodes without holding the lock
        for done, found in enumerate(pool.map(_values_of, files), 1):
            progress(done, len(files))
            yield found


def _values_of(file: Path) -> frozenset[int]:
    try:
        with Image.open(file) as image:
            if image.mode not in ONE_CHANNEL:
                colours = len(image.convert('RGB').getcolors(1 << 24) or ())
                raise UserError(
                    f'label map {file} has {counted(colours, "colour")} ({image.mode}): expected a grey or '
                    'palette PNG whose pixels are 0, 1, 2 ...; write each colour as the number of its class'
                )
            return frozenset(np.unique(np.asarray(image, dtype=np.int64)).tolist())
    except (OSError, SyntaxError, ValueError):  # as Pillow's decoders raise
        return frozenset()


def _largest(values: dict[Path, frozenset[int]], root: Path) -> int:
    """The largest number of a class."""
    wide = next((file for file, found in values.items() if found and max(found) > IGNORED), None)
    if wide is not None:
        raise UserError(
            f'label map {wide} has the value {max(values[wide])}: expected 0 to {IGNORED - 1} for classes, and '
            f'{IGNORED} for ignored pixels'
        )
    found = set().union(*values.values()) - {IGNORED}
    if not found:
        raise UserError(f'no label map of {root} can be read, or all their pixels are {IGNORED}, which is ignored')
    if found == {0}:
        both = any(IGNORED in v for v in values.values())
        hint = f' beside {IGNORED}, which is ignored; if it is a class, write it as 1' if both else ''
        raise UserError(f'the label maps of {root} have the one class 0{hint}: expected two or more')
    return max(found)


def _classes(root: Path, largest: int, found: set[int]) -> tuple[tuple[str, ...], bool, list[str]]:
    """The names of the classes, whether the maps count them from 1, and remarks."""
    file = root / NAMES_FILE
    if not file.is_file():
        missing = largest + 1 - len(found - {IGNORED})
        remarks = [f'no {NAMES_FILE}: the {counted(largest + 1, "class")} are named by their numbers']
        if missing:
            remarks.append(f'{counted(missing, "number")} below {largest} are in no label map')
        return tuple(f'class_{number}' for number in range(largest + 1)), False, remarks
    names = tuple(line.strip() for line in file.read_text(encoding='utf-8').splitlines() if line.strip())
    if largest < len(names):
        return names, False, []
    if largest == len(names):
        return names, True, [f'the label maps count the {len(names)} classes of {file.name} from 1, and 0 is none']
    raise UserError(
        f'{file} names {counted(len(names), "class")}, but the label maps have the value {largest}: expected a '
        'line for each number from 0'
    )
