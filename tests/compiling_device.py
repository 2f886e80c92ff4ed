"""A device that compiles what it is given to launch, and the campaign that launches it there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from campaign_device import CampaignDevice
from emulated_cuda import START, held
from gpu_sections.campaign import Action, Campaign
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


class Compiling(CampaignDevice):
    """Launches of some kernels end in Triton's compiler, of others nowhere.

    own     whether (kernel, arguments, constants) is this process's
    errors  how often each was raised, by its type
    """

    def __init__(self, own: Callable[[Any, Any, Any], bool]) -> None:
        super().__init__()
        self.own, self.errors = own, Counter[str]()

    def start(self, kernel: Any, programs: int, tensor: Tensor, args: Any, meta: Any) -> None:
        """In the place of `common.start`."""
        super().start(kernel, programs, tensor, args, meta)
        memory, args = held((tensor, args))
        if self.own(kernel, args, meta):
            with _disable_current_modes():
                try:
                    START(kernel, programs, memory, args, meta)
                except Exception as error:  # the campaign will say so
                    self.errors[type(error).__name__] += 1


class Ahead(Campaign):
    """A campaign that does everything once and keeps nothing."""

    def __init__(self) -> None:
        super().__init__(torch.device("cuda", 0), Path("nowhere"), False, {})

    def row(self, *_: Any, **__: Any) -> None:
        """None."""

    @contextmanager
    def trying(self, subject: str) -> Iterator[None]:
        """What fails is left to the campaign."""
        try:
            yield
        except Exception as error:
            print(f"{subject}: {type(error).__name__}: {error}".splitlines()[0])

    def seconds(self, action: Action, copies: int = 1) -> None:
        """One call."""
        action(0)

    def copies(self, bytes_: float) -> int:
        """One."""
        return 1
