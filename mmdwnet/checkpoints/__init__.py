"""Checkpoints: safe reading, the official layouts to ours and back, and whether they fit a model."""

from .layout import is_official, official_to_ours, ours_to_official
from .loading import load_as_ours, register_loaders
from .reading import read_checkpoint

__all__ = [
    'is_official',
    'load_as_ours',
    'official_to_ours',
    'ours_to_official',
    'read_checkpoint',
    'register_loaders',
]
