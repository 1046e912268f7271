"""Read checkpoint files: PyTorch's two formats and safetensors, without executing anything from them.

Formats: torch.save since 1.6 writes a zip archive, with one pickle (`<name>/data.pkl`) and the numbers of every
storage (`<name>/data/<key>`); before that, five pickles and the numbers one after another
(torch/serialization.py of 2.11). The pickles go through `unpickling.py`; the numbers are read here, with public
functions of PyTorch only, so that all its versions read alike.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import UserError, listed
from .download import download
from .layout import is_official
from .unpickling import SafeUnpickler

MapLocation = str | torch.device | dict | Callable | None
LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
# what a file that is damaged, or none of PyTorch's, makes the unpickler and PyTorch raise
DAMAGED = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    json.JSONDecodeError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
FOREIGN = {
    b'<': 'an HTML or XML page, perhaps of a server that answered with an error',
    b'version https://git-lfs': 'a pointer of git-lfs (`git lfs pull` fetches the file itself)',
    b'\x1f\x8b': 'a gzip archive (unpack it first)',
    b'\x89HDF': 'an HDF5 file',
    b'{': 'a JSON file',
}


def is_url(source: str) -> bool:
    """Whether a checkpoint is named by an http or https URL."""
    return str(source).startswith(('http://', 'https://'))


def read_checkpoint(source: str | Path, map_location: MapLocation = 'cpu', trust: bool = False) -> Any:
    """Read a .pth or .safetensors file; nothing in it is executed.

    Args:
        source: path or http(s) URL. A URL is downloaded once, into torch.hub's cache.
        map_location: where tensors go, as in torch.load; None is the CPU, whatever device wrote the file.
        trust: unpickle a file that needs more than weights and mmengine's records, which executes code from it.

    Returns:
        What was saved; of an official classification file that holds a config of yacs, `{'model': weights}` alone;
        of a safetensors file `{'state_dict': weights, 'meta': ...}`. Keys are those of the file.

    Raises:
        UserError: no such file, no checkpoint, a damaged one, or one that is refused; one line.
    """
    path = download(source) if is_url(source) else Path(source).expanduser()
    again = f' (of {source}; delete it to download it again)' if is_url(source) else ''
    refused: list[str] = []
    content = None
    try:
        content = _read(path, map_location, refused)
    except DAMAGED as error:
        if not refused or isinstance(error, EOFError):  # the last name may be half a name
            raise UserError(
                f'{path}{again}: cut short, damaged, or no checkpoint at all ({_reason(error)}); expected a file '
                'that torch.save or safetensors wrote'
            ) from error
    if not refused:
        return content
    weights = _official_classifier(content)
    if weights is not None:
        return {'model': weights}
    if trust:
        return _read_trusted(path, map_location)
    raise UserError(
        f'{path}{again}: refused, because loading it can run code: beside weights it names '
        f'{listed(refused, 5, 60)}. If you trust whoever made it, tools/model_converters/convert_checkpoint.py IN '
        'OUT --trust-checkpoint writes its weights alone (train.py and test.py have --trust-checkpoint too)'
    )


def weights_of(checkpoint: Any) -> dict[str, Any] | None:
    """Return the state dict in a checkpoint's container, or None if there is none.

    Containers: `state_dict` (mmengine; official detection and segmentation), `model` (official classification),
    or the state dict itself.
    """
    if not isinstance(checkpoint, dict):
        return None
    inner = (checkpoint.get(key) for key in ('state_dict', 'model'))
    weights = next((found for found in inner if isinstance(found, dict)), checkpoint)
    return weights if any(isinstance(value, Tensor) for value in weights.values()) else None


def meta_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of what a checkpoint notes beside its weights, such as the classes; {} if there is nothing."""
    meta = checkpoint.get('meta')
    return dict(meta) if isinstance(meta, dict) else {}


def _read(path: Path, map_location: MapLocation, refused: list[str]) -> Any:
    """Read a file of any format; names off the unpickler's list are put into `refused`."""
    head = _head(path)
    if _is_safetensors(head, path):  # first: its leading length can look like anything
        return _read_safetensors(path, map_location)
    found = next((what for start, what in FOREIGN.items() if head.lstrip().startswith(start)), None)
    found = 'a tar archive, as torch.save wrote before 0.1.10' if head[257:262] == b'ustar' else found
    if found:
        raise UserError(f'{path} is {found}; expected a checkpoint that torch.save or safetensors wrote')
    return (_read_zip if head.startswith(b'PK') else _read_legacy)(path, map_location, refused)


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise UserError(f'{path} is a folder: expected a checkpoint file, such as its .pth')
    try:
        with path.open('rb') as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such file; expected a checkpoint') from error
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}); expected a checkpoint file') from error
    if not head.strip(b'\0'):
        raise UserError(f'{path} is empty; expected a checkpoint: its download or copy was perhaps cut short')
    return head


def _reason(error: Exception) -> str:
    """An error's type and text, which can hold words of the file, in one line."""
    return f'{type(error).__name__}: {listed([str(error)], 1, 200)}'


def _official_classifier(content: Any) -> dict[str, Tensor] | None:
    """The weights of an official classification file, whatever stands beside them."""
    weights = content.get('model') if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(type(value) is Tensor for value in weights.values()):
        return None
    return weights if is_official(weights) and not any('backbone.' in key for key in weights) else None


def _read_zip(path: Path, map_location: MapLocation, refused: list[str]) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count('/') == 1 and name.endswith('/data.pkl')]
        if not pickles:
            raise UserError(f'{path} is a zip archive without data.pkl; expected one that torch.save wrote')
        root = pickles[0].removesuffix('data.pkl')
        if f'{root}constants.pkl' in names:
            raise UserError(
                f'{path} is a TorchScript program; expected a checkpoint: weights, as torch.save wrote them'
            )
        if f'{root}byteorder' in names and archive.read(f'{root}byteorder').decode() != sys.byteorder:
            raise UserError(
                f'{path} was written on a machine of another byte order; save it anew on one like this'
            )
        read: dict[str, Tensor] = {}

        def load_tensor(pid: tuple) -> Tensor:
            kind, dtype, key, location, count = pid
            if kind != 'storage':
                raise pickle.UnpicklingError('a persistent id of another kind than storage')
            if key not in read:
                numbers = _flat_tensor(archive.read(f'{root}data/{key}'), dtype, count)
                read[key] = numbers.to(_device(map_location, numbers, location))
            return read[key]

        return SafeUnpickler(io.BytesIO(archive.read(pickles[0])), refused, load_tensor).load()


def _read_legacy(path: Path, map_location: MapLocation, refused: list[str]) -> Any:
    size = path.stat().st_size
    read: dict[str, Tensor] = {}

    def load_tensor(pid: tuple) -> Any:
        if pid[0] == 'module':  # a class, with its source text
            return pid[1]
        kind, dtype, key, location, count, part = pid
        if kind != 'storage' or count * _item_size(dtype) > size:
            raise pickle.UnpicklingError('a storage that the file cannot hold')
        if key not in read:  # filled below: the numbers stand behind the pickles
            numbers = torch.zeros(count, dtype=dtype)
            read[key] = numbers.to(_device(map_location, numbers, location))
        return read[key] if part is None else read[key][part[1] : part[1] + part[2]]

    with path.open('rb') as file:
        magic = SafeUnpickler(file, refused).load()
        if refused:  # a bare pickle
            return magic
        if magic != LEGACY_MAGIC or SafeUnpickler(file, refused).load() != LEGACY_VERSION:
            raise pickle.UnpicklingError('a pickle, but not one of torch.save')
        SafeUnpickler(file, refused).load()  # sizes of C types
        content = SafeUnpickler(file, refused, load_tensor).load()
        for key in SafeUnpickler(file, refused).load():
            (count,) = struct.unpack('<q', _exactly(file, 8))
            numbers = read[key]
            numbers.copy_(_flat_tensor(_exactly(file, count * numbers.element_size()), numbers.dtype, count))
    return content


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise EOFError(f'{count - len(data)} bytes of numbers are missing')
    return data


def _flat_tensor(data: bytes, dtype: torch.dtype, count: int) -> Tensor:
    """The first `count` numbers of some bytes as a 1-D tensor of its own memory."""
    lacking = count * _item_size(dtype) - len(data)
    if lacking > 0:
        raise EOFError(f'{lacking} bytes of numbers are missing')
    return torch.frombuffer(bytearray(data), dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _item_size(dtype: torch.dtype) -> int:
    return torch.empty(0, dtype=dtype).element_size()


def _device(map_location: MapLocation, numbers: Tensor, location: str) -> torch.device:
    """Where the numbers of a storage go that was on the device `location`."""
    if isinstance(map_location, dict):
        map_location = map_location.get(location, location)
    elif callable(map_location):
        placed = map_location(numbers.untyped_storage(), location)
        return numbers.device if placed is None else placed.device
    return torch.device('cpu' if map_location is None else map_location)


def _is_safetensors(head: bytes, path: Path) -> bool:
    """A safetensors file starts with the length of its header, 8 bytes, and the header, which is JSON."""
    return head[8:9] == b'{' and struct.unpack('<Q', head[:8])[0] <= path.stat().st_size - 8


def _read_safetensors(path: Path, map_location: MapLocation) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise UserError(f'{path} needs safetensors to be read: run `pip install safetensors`') from error
    try:
        with safe_open(str(path), framework='pt') as file:
            notes = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no dict)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    weights = {key: value.to(_device(map_location, value, 'cpu')) for key, value in weights.items()}
    return dict(state_dict=weights, meta=json.loads(notes.get('meta', '{}')))


def _read_trusted(path: Path, map_location: MapLocation) -> Any:
    try:
        return torch.load(path, map_location=map_location, weights_only=False)
    except (*DAMAGED, ImportError) as error:
        raise UserError(f'{path} cannot be unpickled here ({_reason(error)})') from error
