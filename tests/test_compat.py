"""What a user is told when a library is missing, too old, installed twice, or without its ops."""

import subprocess
import sys
from importlib import metadata

import pytest

from mmdwnet import compat
from mmdwnet.errors import UserError

MAINTAINED = {
    'torch': '2.11.0',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmpretrain': '1.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmsegmentation': '1.4.2',
}
ORIGINAL = {
    'torch': '2.1.2+cu118',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmpretrain': '1.2.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
}


@pytest.fixture
def pretend(monkeypatch):
    """Make the checks see these distributions, and modules for those only."""

    def install(distributions, ops=True):
        def version(name):
            if name not in distributions:
                raise metadata.PackageNotFoundError(name)
            return distributions[name]

        monkeypatch.setattr(compat.metadata, 'version', version)
        monkeypatch.setattr(compat, 'find_spec', lambda name: object() if name in ('ftfy', 'regex') else None)
        monkeypatch.setattr(compat, 'has_ops', lambda: ops)

    return install


def without(distributions, *names):
    return {name: version for name, version in distributions.items() if name not in names}


@pytest.mark.parametrize('distributions', [MAINTAINED, ORIGINAL], ids=['maintained', 'original'])
def test_both_families_of_builds_pass(pretend, distributions):
    pretend(distributions)
    compat.check_core()
    for task in compat.TASKS:
        compat.require(task)


@pytest.mark.parametrize('module, name', [('mmengine', 'onedl-mmengine'), ('mmcv', 'onedl-mmcv')])
def test_missing_core_library_names_both_choices_in_one_line(pretend, module, name):
    pretend(without(MAINTAINED, name))
    with pytest.raises(ImportError) as caught:
        compat.check_core()
    message = str(caught.value)
    assert f'mmdwnet needs {module}, but it is not installed' in message
    assert 'pip install "mmdwnet[' in message
    assert f'{name}>=' in message
    assert f"pip install '{module}>=" in message
    assert '\n' not in message


@pytest.mark.parametrize(
    'name, version',
    [
        ('onedl-mmcv', '2.2.9'),
        ('onedl-mmcv', '3.0.0'),
        ('onedl-mmengine', '0.10.12rc1'),
        ('torch', '2.0.1+cu118'),
    ],
)
def test_core_version_out_of_range_is_named(pretend, name, version):
    pretend({**MAINTAINED, name: version})
    with pytest.raises(ImportError, match=rf'{name} {version} is installed'.replace('+', r'\+')):
        compat.check_core()


@pytest.mark.parametrize('version', ['2.3.2', '2.3.2.post1', '2.3.10', '2.3.6+local'])
def test_versions_in_range_pass(pretend, version):
    pretend({**MAINTAINED, 'onedl-mmcv': version})
    compat.check_core()


def test_two_distributions_over_each_other_are_an_error_that_says_what_to_remove(pretend):
    pretend({**MAINTAINED, 'mmcv': '2.1.0'})
    with pytest.raises(ImportError, match='pip uninstall -y onedl-mmcv mmcv`'):
        compat.check_core()


def test_two_distributions_of_a_task_library_stop_only_its_task(pretend):
    pretend({**MAINTAINED, 'mmdet': '3.3.0'})
    compat.check_core()
    compat.require('seg')
    with pytest.raises(UserError, match='pip uninstall -y onedl-mmdetection mmdet`'):
        compat.require('det')


@pytest.mark.parametrize(
    'task, name', [('cls', 'onedl-mmpretrain'), ('det', 'onedl-mmdetection'), ('seg', 'onedl-mmsegmentation')]
)
def test_missing_task_library_names_the_extra(pretend, task, name):
    pretend(without(MAINTAINED, name))
    with pytest.raises(UserError) as caught:
        compat.require(task)
    assert f'pip install "mmdwnet[{task}]"' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_only_detection_needs_compiled_ops(pretend):
    pretend(MAINTAINED, ops=False)
    compat.check_core()
    compat.require('cls')
    compat.require('seg')
    with pytest.raises(UserError) as caught:
        compat.require('det')
    message = str(caught.value)
    assert 'isolation' in message  # the cause
    assert 'pip cache remove' in message  # the cure
    assert '--no-build-isolation' in message
    assert '\n' not in message


def test_the_original_mmsegmentation_needs_compiled_ops_too(pretend):
    pretend(ORIGINAL, ops=False)
    compat.require('cls')
    with pytest.raises(UserError, match='which the original mmsegmentation needs: .*isolation'):
        compat.require('seg')


@pytest.mark.parametrize('task', ['det', 'seg'])
def test_original_mmdet_and_mmseg_refuse_a_newer_mmcv(pretend, task):
    pretend({**ORIGINAL, 'mmcv': '2.2.0'})
    compat.check_core()
    compat.require('cls')
    with pytest.raises(UserError, match=r'does not accept mmcv 2\.2\.0: expected mmcv>=2\.0,<2\.2'):
        compat.require(task)


@pytest.mark.parametrize('module', ['ftfy', 'regex'])
def test_segmentation_without_what_mmseg_imports_unnamed_is_told(pretend, monkeypatch, module):
    pretend(MAINTAINED)
    monkeypatch.setattr(compat, 'find_spec', lambda name: None if name == module else object())
    with pytest.raises(UserError, match=f'pip install {module}`'):
        compat.require('seg')


def test_unknown_task_is_refused():
    with pytest.raises(ValueError, match="'pose': expected one of cls, det, seg"):
        compat.require('pose')


def test_what_is_installed_here_passes():
    compat.check_core()
    compat.check_both_installed()
    assert compat.has_ops()
    for task in compat.TASKS:
        compat.require(task)


@pytest.mark.parametrize('state', ['with ops', 'without ops'])
def test_ops_are_looked_for_on_disk(tmp_path, monkeypatch, state):
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text('')
    if state == 'with ops':
        (package / '_ext.cpython-311-x86_64-linux-gnu.so').write_bytes(b'')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmcv', raising=False)
    assert compat.has_ops() == (state == 'with ops')


def test_a_source_tree_on_the_path_counts_with_the_version_it_states(tmp_path, monkeypatch, pretend):
    from importlib.util import find_spec

    pretend(without(MAINTAINED, 'onedl-mmdetection'))
    package = tmp_path / 'mmdet'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'version.py').write_text("__version__ = '3.3.0'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmdet', raising=False)
    monkeypatch.setattr(compat, 'find_spec', find_spec)
    compat.require('det')
    (package / 'version.py').write_text("__version__ = '2.28.0'\n")
    with pytest.raises(UserError, match=r'mmdet 2\.28\.0 is on the path'):
        compat.require('det')


def test_the_checks_import_nothing_heavy():
    """Run on their own, since importing the package imports torch anyway."""
    code = (
        'import sys, types; package = types.ModuleType("mmdwnet"); '
        'package.__path__ = [sys.argv[1]]; sys.modules["mmdwnet"] = package; '
        'from mmdwnet import compat; compat.check_core(); compat.require("det"); '
        'print([name for name in ("torch", "mmcv", "mmengine", "mmdet", "cv2") if name in sys.modules])'
    )
    folder = str(compat.__file__).rsplit('/', 1)[0]
    out = subprocess.check_output([sys.executable, '-c', code, folder], text=True)
    assert out.strip() == '[]'
