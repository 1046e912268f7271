"""What ``pip install .`` gives: metadata that asks for torch alone, and a wheel that carries the configs.

The wheel is built from a copy of the checkout, without the network.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

from mmdwnet import compat
from mmdwnet.version import __version__

REPO = Path(__file__).resolve().parent.parent
SOURCES = [
    'setup.py',
    'pyproject.toml',
    'MANIFEST.in',
    'LICENSE',
    'model-index.yml',
    'mmdwnet',
    'configs',
    'tools',
]


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A copy of what packaging reads."""
    tree = tmp_path_factory.mktemp('tree')
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for name in SOURCES:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, tree / name, ignore=ignore)
        else:
            shutil.copy(REPO / name, tree / name)
    return tree


@pytest.fixture(scope='module')
def wheel(tree, tmp_path_factory):
    """The wheel that ``pip install .`` installs; building it leaves the tree as it was."""
    out = tmp_path_factory.mktemp('wheel')
    before = files_below(tree)
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', 'wheel', '--no-index']
    command = [*pip, '--no-deps', '--no-build-isolation', '-w', str(out), str(tree)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert files_below(tree) == before, 'building the wheel wrote into the source tree'
    (path,) = out.glob('mmdwnet-*.whl')
    return path


@pytest.fixture(scope='module')
def names(wheel):
    with zipfile.ZipFile(wheel) as content:
        return content.namelist()


@pytest.fixture(scope='module')
def requirements(wheel, names):
    """Requires-Dist of the wheel: extra (None for the core) -> requirements."""
    (path,) = [name for name in names if name.endswith('.dist-info/METADATA')]
    with zipfile.ZipFile(wheel) as content:
        headers = Parser().parsestr(content.read(path).decode())
    assert headers['Name'] == 'mmdwnet'
    assert headers['Version'] == __version__
    assert headers['Requires-Python'] == '>=3.10'
    found = {}
    for line in headers.get_all('Requires-Dist'):
        requirement, _, marker = line.partition(';')
        extra = re.search(r'extra == "(\w+)"', marker)
        found.setdefault(extra and extra[1], set()).add(requirement.strip())
    return found


def test_the_core_requires_torch_alone(requirements):
    assert requirements[None] == {'torch>=2.1'}


def test_the_extras_name_the_maintained_builds_in_the_range_that_is_checked(requirements):
    def bounds(library):
        build = compat.LIBRARIES[library].builds[0]
        return f'{build.name}<{build.upper},>={build.lower}'

    for task, library in compat.TASKS.items():
        assert {bounds('mmengine'), bounds('mmcv'), bounds(library)} <= requirements[task]
    assert requirements['all'] == set().union(*(requirements[task] for task in compat.TASKS))
    assert 'pytest' in requirements['test']


def test_the_wheel_carries_all_configs_and_tools(names):
    for folder in ('configs', 'tools'):
        expected = {
            f'mmdwnet/.mim/{folder}/{name}' for name in files_below(REPO / folder) if '__pycache__' not in name
        }
        assert expected, f'nothing in {folder}'
        assert expected <= set(names)
    assert 'mmdwnet/.mim/model-index.yml' in names


def test_the_wheel_holds_the_package_and_nothing_else(names):
    kinds = '.py', '.yml', '.html', '.css'
    expected = {name for name in files_below(REPO / 'mmdwnet') if name.endswith(kinds) and '.mim' not in name}
    found = {name.removeprefix('mmdwnet/') for name in names if '.mim' not in name and '.dist-info' not in name}
    assert found == expected
    assert any(name.endswith('licenses/LICENSE') for name in names)


def test_an_installed_wheel_can_be_inherited_from_by_name(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / 'site')
    (tmp_path / 'mine.py').write_text("_base_ = 'mmdwnet::imagenet/dwnet-tiny_8xb128_in1k.py'\n")
    code = (
        'import mmdwnet; from mmengine.config import Config; '
        "cfg = Config.fromfile('mine.py'); print(mmdwnet.__file__); print(cfg.model.backbone.type)"
    )
    env = {**os.environ, 'PYTHONPATH': str(tmp_path / 'site')}
    command = [sys.executable, '-W', 'ignore', '-c', code]
    out = subprocess.check_output(command, cwd=tmp_path, env=env, text=True).splitlines()
    assert Path(out[-2]).is_relative_to(tmp_path), 'another mmdwnet was imported'
    assert out[-1] == 'mmdwnet.DWNet'


def test_an_installed_wheel_knows_the_models_by_name(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / 'site')
    code = (
        "import mmdwnet; entry = mmdwnet.find_model('dwnet-tiny', 'seg'); "
        "model = mmdwnet.load_model('dwnet-nano', 'cls'); "
        'print(entry.config, entry.weights, len(mmdwnet.list_models()), type(model).__name__)'
    )
    env = {**os.environ, 'PYTHONPATH': str(tmp_path / 'site')}
    command = [sys.executable, '-W', 'ignore', '-c', code]
    out = subprocess.check_output(command, cwd=tmp_path, env=env, text=True)
    config, weights, count, kind = out.splitlines()[-1].split()
    assert Path(config).is_relative_to(tmp_path / 'site' / 'mmdwnet' / '.mim' / 'configs' / 'ade20k')
    assert weights.endswith('/upernet_dwnet_tiny.pth')
    assert int(count) > 100
    assert kind == 'ImageClassifier'


def test_an_editable_install_links_configs_and_tools():
    try:
        text = metadata.distribution('mmdwnet').read_text('direct_url.json')
    except metadata.PackageNotFoundError:
        pytest.skip('mmdwnet is not installed: make setup installs it editable')
    url = json.loads(text or '{}')
    if not url.get('dir_info', {}).get('editable') or url['url'] != REPO.as_uri():
        pytest.skip('the installed mmdwnet is not an editable install of this checkout')
    for name in ('configs', 'tools', 'model-index.yml'):
        link = REPO / 'mmdwnet' / '.mim' / name
        assert link.is_symlink()
        assert not os.path.isabs(os.readlink(link)), 'an absolute link breaks when the checkout moves'
        assert link.resolve() == REPO / name


def test_the_original_packages_are_an_extra_in_the_range_that_is_checked(requirements):
    def bounds(library):
        build = compat.LIBRARIES[library].builds[1]
        return f'{build.name}<{build.upper},>={build.lower}'

    named = ('mmengine', *compat.TASKS.values())
    assert {bounds(library) for library in named} <= requirements['openmmlab']
    mmcv_upper = {compat.LIBRARIES[library].builds[1].mmcv_upper for library in ('mmdet', 'mmseg')}
    assert {f'mmcv<{upper},>=2.0' for upper in mmcv_upper} <= requirements['openmmlab']
    assert not any(requirement.startswith('onedl-') for requirement in requirements['openmmlab'])


@pytest.mark.parametrize('stack, others', [('onedl', {'openmmlab'}), ('openmmlab', {'all', *compat.TASKS})])
def test_the_constraints_pin_everything_that_is_installed_in_range(requirements, stack, others):
    pins = {}
    for line in (REPO / 'requirements' / f'{stack}.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            name, _, version = line.split(';')[0].strip().partition('==')
            assert version, f'not a pin: {line}'
            pins[name] = version
    needed = {
        re.match(r'[\w-]+', line)[0]
        for extra, lines in requirements.items()
        if extra not in others
        for line in lines
    }
    assert needed <= set(pins)
    for library in compat.LIBRARIES.values():
        (build,) = [build for build in library.builds if build.name in pins]
        assert build.accepts(pins[build.name])
    for name in ('opencv-python', 'opencv-python-headless'):
        assert compat.Build(name, '4.0', '4.13').accepts(pins[name])
    assert compat.Build('setuptools', '80', '82').accepts(pins['setuptools'])
