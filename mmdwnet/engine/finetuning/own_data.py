"""What is known of a person's own data once its layout is recognised, whatever the layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..image_files import files_below, is_image
from ..sample_checks import size_of

SPLITS = ('train', 'val', 'test')
SIZES_READ = 200  # images whose size is looked at
_SPLIT_WORDS = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation', 'dev'),
    'test': ('test', 'testing'),
}
_SPLIT_OF = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
_SPLIT_WORD = re.compile(rf'(?<![a-z])({"|".join(sorted(_SPLIT_OF, key=len, reverse=True))})(?![a-z])')

Progress = Callable[[int, int], object]  # how many files are read of how many


@dataclass(frozen=True)
class Sample:
    """An image.

    Args:
        image: its path below the image folder of its split.
        labels: the numbers of the classes that are in it.
    """

    image: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """Images to train on, to validate with, or to test with.

    Args:
        images: their folder below the root; '' for the root.
        samples: the images.
        annotations: below the root, the COCO JSON or the folder of label maps; '' for class folders.
        listed: the name of a file beside the config that says which images of the folder these are; '' for all.
    """

    images: str
    samples: tuple[Sample, ...]
    annotations: str = ''
    listed: str = ''


@dataclass(frozen=True)
class OwnData:
    """A data set whose layout is recognised.

    Args:
        root: its folder, absolute.
        task: 'cls', 'det' or 'seg'.
        layout: what was recognised, in words.
        classes: their names, in the order of their numbers.
        splits: by the names of `SPLITS`; the train split is always there.
        masks: det: all objects have masks.
        object_side: det: the side of the square of the area of the median object, as a part of the image's.
        suffixes: seg: the ends of the names of images and of label maps.
        zero_is_no_class: seg: the label maps count classes from 1.
        remarks: what the person may want to know.
    """

    root: Path
    task: str
    layout: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    masks: bool = False
    object_side: float = 0.0
    suffixes: tuple[str, str] = ('', '')
    zero_is_no_class: bool = False
    remarks: tuple[str, ...] = field(default=())

    def sizes(self) -> list[tuple[int, int]]:
        """The sizes (width, height) of some of the images to train on."""
        train = self.splits['train']
        step = -(-len(train.samples) // SIZES_READ)
        found = []
        for sample in train.samples[::step]:
            try:
                found.append(size_of(self.root / train.images / sample.image))
            except OSError:  # the check of the data set names it
                continue
        return found


def split_named(name: str) -> str | None:
    """The split that a folder or file is called after, such as 'val' for valid or instances_val2017."""
    found = _SPLIT_WORD.search(name.lower())
    return _SPLIT_OF[found[1]] if found else None


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder that are called after a split and nothing else, by the split."""
    named = {}
    for entry in folders_of(folder):
        match = _SPLIT_WORD.fullmatch(re.sub(r'[-_]?\d+$', '', entry.name.lower()))  # train2017
        if match:
            named.setdefault(_SPLIT_OF[match[1]], entry)
    return named


def folders_of(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without those that are hidden or made by an archiver."""
    if not folder.is_dir():
        return []
    return sorted(e for e in folder.iterdir() if e.is_dir() and not e.name.startswith(('.', '__')))


def images_below(folder: Path) -> Iterator[str]:
    """The images in a folder and below, by their paths below it, without those that are hidden."""
    for file in files_below(folder):
        if is_image(file) and not any(part.startswith('.') for part in file.split('/')):
            yield file


def below(path: Path, root: Path) -> str:
    """A path below the root, '' for the root."""
    relative = path.relative_to(root).as_posix()
    return '' if relative == '.' else relative


def counted(number: int, noun: str) -> str:
    """A number and a noun."""
    plural = f'{noun[:-1]}ies' if noun.endswith('y') else f'{noun}es' if noun.endswith('ss') else f'{noun}s'
    return f'{number:,} {noun if number == 1 else plural}'


def joined(words: Sequence[str], last: str = 'and') -> str:
    """Words as a part of a sentence."""
    *rest, end = words
    return f'{", ".join(rest)} {last} {end}' if rest else end
