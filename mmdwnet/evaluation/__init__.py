"""Metrics that the stock libraries lack."""

from .real import ReaLAccuracy

__all__ = ['ReaLAccuracy']
