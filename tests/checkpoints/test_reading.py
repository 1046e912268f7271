"""Reading a file never runs code from it, gives what torch.load gives, and fails in one line."""

import builtins
import copyreg
import io
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections import OrderedDict, deque

import numpy as np
import official_files as files
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mmdwnet.checkpoints import read_checkpoint
from mmdwnet.errors import UserError


def refused(path, match, **kwargs):
    with pytest.raises(UserError, match=match) as error:
        read_checkpoint(path, **kwargs)
    assert '\n' not in str(error.value) and str(path) in str(error.value)


def assert_same(ours, theirs):
    """Equal to the last bit and of the same types, all the way down."""
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype and ours.stride() == theirs.stride()
        assert ours.requires_grad == theirs.requires_grad
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_same(ours[key], theirs[key])
        assert getattr(ours, '_metadata', None) == getattr(theirs, '_metadata', None)
    elif isinstance(ours, (list, tuple, deque)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, HistoryBuffer):
        assert ours.max_length == theirs.max_length and ours.mean() == theirs.mean()
        for one, other in zip(ours.data, theirs.data, strict=True):
            assert_same(one, other)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    else:
        assert ours == theirs


def everything():
    """One of each kind of thing that a checkpoint holds."""
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        f'{dtype}': torch.tensor([0, 1, 3]).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.int64)
    }
    tensors |= {f'{dtype}': torch.tensor([0, 1]).to(dtype) for dtype in (torch.bool, torch.uint8, torch.float64)}
    tensors |= dict(complex=torch.tensor([1 + 2j]), scalar=torch.tensor(3.5), empty=torch.empty(0, 3))
    tensors |= dict(view=base[1:, ::2], same=base, transposed=base.T, parameter=torch.nn.Parameter(base.clone()))
    state_dict = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3)).state_dict()
    history = HistoryBuffer([1.0, 2.5], [1, 2])
    notes = dict(best=np.float64(0.5), count=np.int64(3), names=('a', 'ü'), none=None, raw=b'\x00\xff')
    notes |= dict(array=np.array([[1, 2], [3, 4]], np.int32), flags=np.array([True]), size=torch.Size([2, 3]))
    notes |= dict(device=torch.device('cpu'), dtype=torch.float16, kept=deque([1, 2], 5), ids={1, 2})
    notes |= dict(config=ConfigDict(a=dict(b=1)), part=slice(1, None))
    return dict(tensors=tensors, state_dict=state_dict, history=OrderedDict(loss=history), notes=notes)


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_everything_that_mmengine_writes_comes_out_as_torch_reads_it(zipped, tmp_path):
    torch.save(everything(), tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    ours = read_checkpoint(tmp_path / 'a.pth')
    assert_same(ours, torch.load(tmp_path / 'a.pth', weights_only=False))
    ours['tensors']['same'][1, 0] = -1  # tensors of one storage still share it
    assert ours['tensors']['view'][0, 0] == -1


def test_numpy_1_and_python_2_names(tmp_path):
    """Of files that older installations have written."""
    torch.save(dict(best=np.float32(0.25), history=HistoryBuffer([1.0], [1])), tmp_path / 'new.pth')
    with zipfile.ZipFile(tmp_path / 'new.pth') as new, zipfile.ZipFile(tmp_path / 'old.pth', 'w') as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b'numpy._core', b'numpy.core'))
    assert read_checkpoint(tmp_path / 'old.pth')['best'] == np.float32(0.25)


def test_map_location(tmp_path):
    torch.save({'a': torch.ones(2)}, tmp_path / 'a.pth')
    for place in ('meta', torch.device('meta'), {'cpu': 'meta'}):
        assert read_checkpoint(tmp_path / 'a.pth', place)['a'].device.type == 'meta'
    for place in (
        None,
        'cpu',
        {'cuda:0': 'cpu'},
        lambda storage, location: storage,
        lambda storage, location: None,
    ):
        assert read_checkpoint(tmp_path / 'a.pth', place)['a'].device.type == 'cpu'


def test_a_records_own_statistics_are_not_entered_into_the_class(tmp_path):
    """mmengine's own unpickling would change a table that all its HistoryBuffers share."""
    buffer = HistoryBuffer([1.0], [1])
    before = dict(HistoryBuffer._statistics_methods)
    buffer._statistics_methods = {**before, 'mean': HistoryBuffer.max}
    torch.save({'a': buffer}, tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth')['a'].statistics('mean') == 1.0
    assert before == HistoryBuffer._statistics_methods


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def writes(file):
    """Payloads that create a file when they are unpickled, by name."""
    code = f'open({str(file)!r}, "w").close()'
    return {
        'posix.system': Calls(os.system, f'touch {file}'),
        'builtins.eval': Calls(eval, code),
        'builtins.exec': Calls(exec, code),
        'io.open': Calls(builtins.open, str(file), 'w'),
        'posix.mkdir': Calls(os.mkdir, str(file)),
        'torch.storage._load_from_bytes': Calls(
            torch.storage._load_from_bytes, _bytes_of(Calls(os.system, f'touch {file}'))
        ),
    }


def _bytes_of(thing):
    torch.save(thing, file := io.BytesIO())
    return file.getvalue()


class TestMalicious:
    @pytest.mark.parametrize('name', writes('x'))
    @pytest.mark.parametrize('container', ['zip', 'legacy', 'pickle', 'pickle-0', 'pickle-5'])
    def test_is_refused_and_creates_no_file(self, name, container, tmp_path):
        file, path = tmp_path / 'created', tmp_path / 'evil.pth'
        content = dict(state_dict={'conv.weight': torch.ones(1)}, extra=writes(file)[name])
        if container.startswith('pickle'):
            content.pop('state_dict')
            path.write_bytes(pickle.dumps(content, protocol=int(container[7:] or 2)))
            loads = lambda: pickle.loads(path.read_bytes())  # noqa: E731
        else:
            torch.save(content, path, _use_new_zipfile_serialization=container == 'zip')
            loads = lambda: torch.load(path, weights_only=False)  # noqa: E731
        refused(path, f'evil.pth: refused, because .* names {name}.*--trust-checkpoint')
        assert not file.exists()
        loads()  # it was no dud
        assert file.exists()

    def test_has_many_names_listed_in_one_line(self, tmp_path):
        path = tmp_path / 'evil.pth'
        names = b''.join(b'cmodule\nname%d\n0' % i for i in range(9)) + b'cmodule\nred \x1b[31m\n0'
        path.write_bytes(b'\x80\x02' + names + b'N.')
        refused(path, r'names module.name0, module.name1, .*module.name4 and 5 more')
        path.write_bytes(b'\x80\x02cmodule\nred \x1b[31m\n0N.')
        refused(path, r'names module.red \\x1b\[31m')

    def test_getattr_reaches_nothing(self, tmp_path):
        """mmengine's records need `getattr`; from a class it would lead to the modules behind it."""
        path = tmp_path / 'evil.pth'
        steps = b'c__builtin__\ngetattr\n(cmmengine.logging.history_buffer\nHistoryBuffer\n'
        path.write_bytes(b'\x80\x02' + steps + b'X\x08\x00\x00\x00__init__tR.')
        refused(path, 'names builtins.getattr')
        path.write_bytes(b'\x80\x02c__builtin__\ngetattr\n(cnumpy\nndarray\nX\x04\x00\x00\x00dumptR.')
        refused(path, 'names builtins.getattr')

    def test_states_of_listed_classes_are_not_set(self, tmp_path):
        """BUILD would write into any object that has a __dict__, or call its __setstate__."""
        path, before = tmp_path / 'evil.pth', HistoryBuffer.mean
        path.write_bytes(
            b'\x80\x02cmmengine.logging.history_buffer\nHistoryBuffer\nN}X\x04\x00\x00\x00meanNs\x86b.'
        )
        with pytest.raises(UserError):
            read_checkpoint(path)
        assert HistoryBuffer.mean is before

    def test_extension_codes_are_not_looked_up(self, tmp_path):
        file, path = tmp_path / 'created', tmp_path / 'evil.pth'
        copyreg.add_extension('posix', 'system', 77)
        try:
            text = f'touch {file}'.encode()
            path.write_bytes(b'\x80\x02\x82\x4d(X' + len(text).to_bytes(4, 'little') + text + b'tR.')
            refused(path, 'extension code 77')
        finally:
            copyreg.remove_extension('posix', 'system', 77)
        assert not file.exists()

    def test_is_unpickled_where_it_is_trusted(self, tmp_path):
        file, path = tmp_path / 'created', tmp_path / 'mine.pth'
        torch.save(dict(a=torch.ones(1), b=writes(file)['builtins.exec']), path)
        assert torch.equal(read_checkpoint(path, trust=True)['a'], torch.ones(1))
        assert file.exists()


WRITE_WITH_YACS = """
import sys, types, torch
yacs = types.ModuleType('yacs'); config = types.ModuleType('yacs.config')
class CfgNode(dict):
    def __init__(self, values):
        super().__init__(values); self.__dict__['__immutable__'] = True
CfgNode.__module__, CfgNode.__qualname__ = 'yacs.config', 'CfgNode'
config.CfgNode = CfgNode
sys.modules.update({'yacs': yacs, 'yacs.config': config})
content = torch.load(sys.argv[1], weights_only=False)
content['config'] = CfgNode(dict(MODEL=CfgNode(dict(TYPE='dwnet', DEPTHS=[1, 1])), OUTPUT='out', AUG=CfgNode({})))
if len(sys.argv) > 2:
    import os
    class Evil:
        def __reduce__(self):
            return os.system, ('touch ' + sys.argv[2],)
    content['lr_scheduler'] = {'evil': Evil(), Evil(): [Evil()]}
torch.save(content, sys.argv[1])
"""


class TestOfficialClassifier:
    """Written as the official code does, with a CfgNode of yacs, which is not installed here."""

    def write(self, folder, *payload):
        path = folder / 'dwnet_nano_224.pth'
        files.save_classifier(path, files.weights('dwnet', 'nano', 'cls'))
        subprocess.run([sys.executable, '-c', WRITE_WITH_YACS, path, *payload], check=True)
        return path

    def test_is_read_without_yacs(self, tmp_path):
        path = self.write(tmp_path)
        with pytest.raises(ModuleNotFoundError, match='yacs'):
            torch.load(path, weights_only=False)
        content = read_checkpoint(path)
        assert list(content) == ['model']
        assert_same(content['model'], files.weights('dwnet', 'nano', 'cls'))
        assert 'yacs' not in sys.modules

    def test_with_a_payload_gives_its_weights_and_creates_no_file(self, tmp_path):
        created = tmp_path / 'created'
        path = self.write(tmp_path, created)
        assert b'system' in zipfile.ZipFile(path).read('dwnet_nano_224/data.pkl')
        assert_same(read_checkpoint(path)['model'], files.weights('dwnet', 'nano', 'cls'))
        assert not created.exists()

    @pytest.mark.parametrize('where', ['weights', 'detector', 'other model'])
    def test_other_files_get_no_such_exception(self, where, tmp_path):
        weights, evil = files.weights('dwnet', 'nano', 'cls'), Calls(os.system, 'true')
        content = {
            'weights': {'model': {**weights, 'norm.weight': evil}},
            'detector': {'state_dict': {f'backbone.{k}': v for k, v in weights.items()}, 'meta': evil},
            'other model': {'model': {'layers.0.blocks.0.attn.qkv.weight': torch.ones(1)}, 'config': evil},
        }[where]
        torch.save(content, tmp_path / 'a.pth')
        refused(tmp_path / 'a.pth', 'names posix.system')


class TestNoCheckpoint:
    @pytest.mark.parametrize('kind', ['zip', 'legacy', 'safetensors'])
    def test_cut_short_anywhere(self, kind, tmp_path):
        path = tmp_path / f'a.{kind}'
        weights = {'a': torch.arange(100.0), 'b': torch.ones(3, 4)}
        if kind == 'safetensors':
            pytest.importorskip('safetensors.torch').save_file(weights, path)
        else:
            torch.save({'state_dict': weights}, path, _use_new_zipfile_serialization=kind == 'zip')
        data = path.read_bytes()
        for length in range(0, len(data) - 1, 7):
            path.write_bytes(data[:length])
            refused(path, 'cut short, damaged, or no checkpoint' if length else 'is empty')

    @pytest.mark.parametrize('kind', ['zip', 'legacy'])
    def test_with_broken_bytes_is_read_or_refused(self, kind, tmp_path):
        path = tmp_path / 'a.pth'
        torch.save(everything(), path, _use_new_zipfile_serialization=kind == 'zip')
        data, luck = path.read_bytes(), random.Random(0)
        for _ in range(300):
            broken = bytearray(data)
            for _ in range(luck.choice((1, 1, 5, 50))):
                broken[luck.randrange(len(data))] = luck.randrange(256)
            path.write_bytes(broken)
            try:
                read_checkpoint(path)
            except UserError as error:
                assert '\n' not in str(error) and str(path) in str(error)

    @pytest.mark.parametrize(
        ('content', 'match'),
        [
            (b'', 'is empty'),
            (bytes(1000), 'is empty'),
            (b'hello', 'no checkpoint at all'),
            (b'# a config\nmodel = dict()\n', 'no checkpoint at all'),
            (b'  <!DOCTYPE html>\n<html>Not Found</html>', 'an HTML or XML page'),
            (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'git lfs pull'),
            (b'\x1f\x8b\x08' + bytes(600), 'gzip'),
            (b'{"a": 1}', 'JSON'),
            (bytes(range(256)) * 4, 'no checkpoint at all'),
            (pickle.dumps({'a': 1}), 'a pickle, but not one of torch.save'),
        ],
    )  # fmt: skip
    def test_but_another_file(self, content, match, tmp_path):
        (tmp_path / 'a.pth').write_bytes(content)
        refused(tmp_path / 'a.pth', match)
        refused(tmp_path / 'a.pth', match, trust=True)

    def test_but_another_archive(self, tmp_path):
        with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
            archive.writestr('a/readme', 'hello')
        refused(tmp_path / 'a.pth', 'a zip archive without data.pkl')
        with zipfile.ZipFile(tmp_path / 'script.pth', 'w') as archive:
            for name in ('data.pkl', 'constants.pkl'):
                archive.writestr(f'script/{name}', pickle.dumps(None))
        refused(tmp_path / 'script.pth', 'a TorchScript program')

    def test_but_nothing_or_a_folder(self, tmp_path):
        refused(tmp_path / 'none.pth', 'no such file')
        refused(tmp_path, 'is a folder')

    @pytest.mark.parametrize(
        'part',
        [
            (b'K\x07K\x05\x86', b'K\x47K\x05\x86'),  # 71 x 5 in place of 7 x 5
            (b'K\x07K\x05\x86', b'J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86'),  # -1 x -1
            (b'K\x05K\x01\x86', b'K\x06K\x01\x86'),  # stride
        ],
    )
    def test_whose_tensor_lies_outside_its_storage(self, part, tmp_path):
        torch.save({'a': torch.ones(7, 5)}, tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
        data = (tmp_path / 'a.pth').read_bytes()
        assert data.count(part[0]) == 1
        (tmp_path / 'a.pth').write_bytes(data.replace(*part))
        refused(tmp_path / 'a.pth', 'a tensor that lies outside its storage')

    def test_whose_array_has_another_size_than_its_numbers(self, tmp_path):
        torch.save({'a': np.ones((7, 5))}, tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
        data = (tmp_path / 'a.pth').read_bytes()
        assert data.count(b'K\x07K\x05\x86') == 1
        for shape in (b'K\x08K\x05\x86', b'J\xf9\xff\xff\xffJ\xfb\xff\xff\xff\x86'):  # 8 x 5, -7 x -5
            (tmp_path / 'a.pth').write_bytes(data.replace(b'K\x07K\x05\x86', shape))
            refused(tmp_path / 'a.pth', 'a numpy array of another size')


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    weights = {
        'a': torch.arange(6.0).reshape(2, 3),
        'b': torch.tensor([True]),
        'c': torch.ones(2, dtype=torch.bfloat16),
    }
    safetensors.save_file(weights, tmp_path / 'a.safetensors', metadata={'format': 'pt'})
    content = read_checkpoint(tmp_path / 'a.safetensors')
    assert content['meta'] == {} and content['state_dict'].keys() == weights.keys()
    for key, value in weights.items():
        assert_same(content['state_dict'][key], value)
    assert read_checkpoint(tmp_path / 'a.safetensors', 'meta')['state_dict']['a'].device.type == 'meta'
