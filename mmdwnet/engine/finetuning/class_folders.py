"""Images in one folder per class, with or without folders of splits above: the layout of ImageNet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import UserError, listed
from .own_data import OwnData, Sample, Split, below, folders_of, images_below, split_folders

EXPECTED = 'a folder of images per class, as ROOT/<class>/ or ROOT/train/<class>/ with ROOT/val/<class>/'
# folders of the other layouts, which are no classes
NO_CLASSES = frozenset(
    ('images', 'image', 'imgs', 'img', 'annotations', 'annotation', 'labels', 'label', 'masks', 'mask')
)


def looks_alike(root: Path) -> bool:
    """Whether a folder may be of this layout; only names are looked at."""
    return any(True for _ in _class_folders(root))


def has_several(root: Path) -> bool:
    """Whether there are two classes or more."""
    return len(list(_class_folders(root))) > 1


def read(root: Path) -> OwnData:
    """List the classes and images of a folder of this layout.

    Raises:
        UserError: a class has no image, there is but one class, or the splits have different classes.
    """
    folders = {name: folder for name, folder in split_folders(root).items() if folders_of(folder)}
    remarks = [f'{folder}: no folders of classes, left out' for folder in _without_classes(root, folders)]
    if 'train' not in folders:
        folders, remarks = {'train': root}, []
    classes = tuple(folder.name for folder in folders_of(folders['train']))
    if len(classes) < 2:
        raise UserError(f'{folders["train"]} has the one class {listed(classes)}: expected two or more')
    for split, folder in folders.items():
        _compare(split, tuple(f.name for f in folders_of(folder)), classes, folder, folders['train'])
    splits = {
        # listed, for of a folder mmpretrain takes fewer types of images, and more folders for classes
        split: Split(below(folder, root), tuple(_samples(folder, classes)), listed=f'{split}.txt')
        for split, folder in folders.items()
    }
    names = ', '.join(f'{split.images}/' for split in splits.values()) if len(splits) > 1 else 'no split'
    return OwnData(root, 'cls', f'class folders ({names})', classes, splits, remarks=tuple(remarks))


def _class_folders(root: Path) -> Iterator[Path]:
    """The folders of images to train on that are not called after a split or a part of another layout."""
    folder = split_folders(root).get('train', root)
    other = {entry.name for entry in split_folders(folder).values()}
    for entry in folders_of(folder):
        if entry.name not in other and entry.name.lower() not in NO_CLASSES and _has_image(entry):
            yield entry


def _has_image(folder: Path) -> bool:
    return any(True for _ in images_below(folder))


def _without_classes(root: Path, found: dict[str, Path]) -> list[Path]:
    return [folder for split, folder in split_folders(root).items() if split not in found]


def _compare(split: str, found: tuple[str, ...], classes: tuple[str, ...], folder: Path, train: Path) -> None:
    """A class that is missing in one split is more likely a mistake than not."""
    missing, extra = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
    if missing or extra:
        what = f'no folder {listed(missing)}' if missing else f'the folder {listed(extra)}'
        raise UserError(f'{folder} has {what}, unlike {train}: expected the same classes in {split} and train')


def _samples(folder: Path, classes: tuple[str, ...]) -> Iterator[Sample]:
    for number, name in enumerate(classes):
        images = sorted(images_below(folder / name))
        if not images:
            raise UserError(f'class folder {folder / name} has no image: add images or remove the folder')
        yield from (Sample(f'{name}/{image}', (number,)) for image in images)
