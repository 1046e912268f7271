"""The two stacks that ``setup_env.py`` can set up, and all in which they differ.

Two distributions provide each OpenMMLab library under one import name; each gets an environment of
its own. Only the standard library is used: it runs before anything is installed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stack:
    """One distribution of the OpenMMLab libraries, and the environment that is made of it.

    Args:
        name: What ``--stack`` and ``make STACK=`` call it.
        venv: The folder of the environment, in the checkout.
        constraints: The file of pins.
        mmcv: The distribution that provides mmcv; it is compiled here.
        extras: The extras of ``setup.py`` that are installed.
        last_python: The last Python 3.x that its torch and its libraries are for; the first is 3.10.
        torch_size: How much the download of its torch and torchvision is.
    """

    name: str
    venv: str
    constraints: str
    mmcv: str
    extras: str
    last_python: int
    torch_size: str

    @property
    def inputs(self):
        """The files that determine the environment."""
        return self.constraints, 'setup.py', 'tools/setup_env.py', 'tools/setup_stacks.py'

    @property
    def wheel(self):
        """What the file names of its mmcv wheels begin with."""
        return self.mmcv.replace('-', '_')

    @property
    def command(self):
        """The command that sets it up."""
        return 'make setup' if self.name == DEFAULT else f'make setup STACK={self.name}'

    @property
    def ops_missing(self):
        """The cause and the cure where mmcv came out without its ops."""
        pip = f'{self.venv}/bin/pip'
        return (
            'mmcv has no compiled ops (`from mmcv.ops import nms, RoIAlign` fails): built in isolation, '
            'pip does not see torch, makes a wheel without any op within seconds, and caches it; run '
            f"`{pip} cache remove '{self.wheel}*'`, `{pip} uninstall -y {self.mmcv}`, `{self.command}`"
        )


STACKS = {
    stack.name: stack
    for stack in (
        Stack(
            name='onedl',  # the maintained builds
            venv='.venv',
            constraints='requirements/onedl.txt',
            mmcv='onedl-mmcv',
            extras='all,test',
            last_python=12,
            torch_size='1.8 GB',
        ),
        Stack(
            name='openmmlab',  # the original packages
            venv='.venv-openmmlab',
            constraints='requirements/openmmlab.txt',
            mmcv='mmcv',
            extras='openmmlab,test',
            last_python=11,
            torch_size='2.3 GB',
        ),
    )
}
DEFAULT = 'onedl'
