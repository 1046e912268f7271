"""Packaging. ``pip install .`` brings torch; the extras bring the maintained OpenMMLab builds.

The metadata requires torch alone, because two distributions provide each OpenMMLab library under
one import name and must not be installed over each other; ``mmdwnet/compat.py`` checks the one
that is there. The wheel carries ``configs/``, ``tools/`` and ``model-index.yml`` in
``mmdwnet/.mim``, where mmengine looks for ``_base_ = 'mmdwnet::...'``; an editable install links
them there.
"""

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')

CORE = ['onedl-mmengine>=0.10.12,<1.0', 'onedl-mmcv>=2.3.2,<2.4', 'torchvision', 'jinja2']
OPENCV = ['opencv-python<4.13', 'opencv-python-headless<4.13']  # imaug's bound
CLS = [*CORE, 'onedl-mmpretrain>=1.3.2,<2.0']
DET = [*CORE, *OPENCV, 'onedl-mmdetection>=3.5,<4.0']
SEG = [*CORE, 'onedl-mmsegmentation>=1.4,<2.0', 'ftfy']
# the original packages, in place of the maintained builds; mmsegmentation imports ftfy and regex without naming
# them, and torch 2.1 was built against numpy 1
OPENMMLAB = [
    *('mmengine>=0.10.3,<1.0', 'mmcv>=2.0,<2.2', 'torchvision', 'mmpretrain>=1.0,<1.3', 'mmdet>=3.0,<3.4'),
    *('mmsegmentation>=1.0,<1.3', *OPENCV, 'ftfy', 'regex', 'numpy<2'),
]
ONNX = ['onnx', 'onnxscript', 'onnxruntime']  # what tools/model_converters/export_onnx.py needs
DOCS = ['mkdocs', 'mkdocs-material', 'mkdocstrings-python']  # what `make docs` needs
# what the stock scripts of docs/stock-extras.md need; mmseg's calls grad-cam as before 1.5, and the two
# distributions of mmpretrain name an argument of t-SNE as before and since scikit-learn 1.5: 1.5 and 1.6 take
# both; mmpretrain's browse_dataset.py calls a private function of matplotlib, which 3.11 has changed
VIS = ['grad-cam>=1.4.8,<1.5', 'matplotlib<3.11', 'scikit-learn>=1.5,<1.7', 'seaborn']
TEST = [*ONNX, *DOCS, *VIS, 'playwright', 'pytest', 'pytest-xdist', 'ruff', 'safetensors', 'tensorboard', 'timm']
TEST += ['torchmetrics']


class BuildPy(build_py):
    """``build_py`` that also fills ``mmdwnet/.mim``: by copies in a wheel, by links in a checkout."""

    def run(self):
        super().run()
        present = [name for name in MIM_CONTENT if (ROOT / name).exists()]
        if self.editable_mode:
            link_mim(ROOT / 'mmdwnet' / '.mim', present)
        else:
            copy_mim(Path(self.build_lib) / 'mmdwnet' / '.mim', present)


def link_mim(target, names):
    """Make ``target/<name>`` a relative link to the name beside ``setup.py``."""
    target.mkdir(exist_ok=True)
    for name in names:
        link = target / name
        if link.is_symlink():
            link.unlink()
        link.symlink_to(os.path.relpath(ROOT / name, target))


def copy_mim(target, names):
    """Copy the names beside ``setup.py`` into ``target``, anew."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in names:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns('__pycache__', '*.pyc')
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
        else:
            shutil.copy2(ROOT / name, target / name)


def read_version():
    text = (ROOT / 'mmdwnet' / 'version.py').read_text()
    return re.search(r'^__version__ = [\'"](.+)[\'"]$', text, re.MULTILINE)[1]


def read_long_description():
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.exists() else ''


# A build folder in the checkout would outlive the build, and put files that are gone since into
# the next wheel.
SCRATCH = tempfile.mkdtemp(prefix='mmdwnet-build-')
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)

setup(
    name='mmdwnet',
    version=read_version(),
    description='DWNet: backbones of depth-wise convolutions for mmpretrain, mmdet and mmseg',
    long_description=read_long_description(),
    long_description_content_type='text/markdown',
    author='mmdwnet contributors',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmdwnet', 'mmdwnet.*']),
    package_data={'mmdwnet.analysis': ['published.yml'], 'mmdwnet.analysis.run_report': ['templates/*']},
    install_requires=['torch>=2.1'],
    extras_require={
        'cls': CLS,
        'det': DET,
        'seg': SEG,
        'all': sorted({*CLS, *DET, *SEG}),
        'openmmlab': OPENMMLAB,
        'onnx': ONNX,
        'docs': DOCS,
        'vis': VIS,
        'test': TEST,
    },
    cmdclass={'build_py': BuildPy},
    options={'build': {'build_base': SCRATCH}, 'egg_info': {'egg_base': SCRATCH}},
    zip_safe=False,
)
