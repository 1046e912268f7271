"""What the tests of the ops share."""

import pytest
import torch


@pytest.fixture(params=['AVX2', 'AVX512'])
def instructions(request, monkeypatch):
    """Of the CPU, as far as the package asks: they decide between convolutions and products."""
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: request.param)
    return request.param
