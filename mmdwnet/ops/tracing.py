"""Whether torch only runs the code, or records what it does as a program."""

from __future__ import annotations

import torch

# public since torch 2.3; torch.compile takes both for constants
is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._utils.is_compiling
_is_dynamo = getattr(torch.compiler, 'is_dynamo_compiling', is_compiling)
# torch.compile of torch 2.1 cannot ask a module what it has of its own; that of a torch that has this name can
looks_into_modules = hasattr(torch.compiler, 'is_exporting')


def is_recorded() -> bool:
    """Whether torch.compile, torch.export or a jit trace records what runs."""
    return is_compiling() or torch.jit.is_tracing()


def is_exported() -> bool:
    """Whether torch.export or a jit trace records a program, for a machine that need not be like this one.

    torch.export(strict=True) records as torch.compile does and is not told apart.
    """
    return torch.jit.is_tracing() or (is_compiling() and not _is_dynamo())


def is_compiled() -> bool:
    """Whether torch.compile records what runs, for this machine."""
    return is_compiling() and not is_exported()


@torch.compiler.assume_constant_result
def freezes_weights() -> bool:
    """Whether torch.compile is to take weights for constants, which it does where no gradient may be asked for."""
    from torch._inductor import config  # is imported once something compiles, and takes a second

    return config.freezing


def is_transformed() -> bool:
    """Whether `torch.func` differentiates or maps what runs."""
    return torch._C._are_functorch_transforms_active()
