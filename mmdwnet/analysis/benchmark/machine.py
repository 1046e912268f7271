"""On what machine and with what versions something was measured; no host name and no path."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

from ...version import __version__

PACKAGES = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'triton': ('triton',),
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'timm': ('timm',),
    'natten': ('natten',),
}


def describe_machine(device: str) -> dict:
    """Describe the machine, the versions and the state of the checkout, as plain data.

    Args:
        device: 'cpu' or 'cuda'; the GPU is described for the latter alone.
    """
    machine = dict(
        date=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        system=f'{platform.system()} {platform.machine()}',
        cpu=_cpu_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        versions=dict(python=platform.python_version(), mmdwnet=__version__, **_versions()),
        commit=_commit(),
    )
    if device == 'cuda':
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        machine['gpu'] = dict(
            name=properties.name,
            memory_gib=round(properties.total_memory / 2**30, 1),
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
            matmul_tf32=torch.backends.cuda.matmul.allow_tf32,
            cudnn_tf32=torch.backends.cudnn.allow_tf32,
        )
    return machine


def headline(machine: dict) -> str:
    """The machine in one line."""
    gpu = f'{machine["gpu"]["name"]}, CUDA {machine["gpu"]["cuda"]}; ' if 'gpu' in machine else ''
    return (
        f'{gpu}{machine["cpu"]}, {machine["threads"]} of {machine["cores"]} cores, {machine["instructions"]}; '
        f'torch {machine["versions"]["torch"]}; commit {machine["commit"] or "unknown"}; {machine["date"]}'
    )


def _cpu_name() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding='utf-8').splitlines():
            name, _, value = line.partition(':')
            if name.strip() == 'model name':
                return value.strip()
    return platform.processor() or 'unknown'


def _versions() -> dict[str, str]:
    versions = {}
    for name, distributions in PACKAGES.items():
        for distribution in distributions:
            try:
                versions[name] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
            break
    return versions


def _commit() -> str | None:
    """The commit of the checkout that the package lies in, '-dirty' behind it where files differ; None outside."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(['git', '-C', here, *arguments], capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # an installed package may lie below the checkout of something else
    if git('ls-files', '--error-unmatch', '../../version.py') is None:
        return None
    return git('describe', '--always', '--dirty', '--abbrev=12', '--exclude=*')
