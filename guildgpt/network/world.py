"""The processes that train one model together: which one this is, and what they sum and share.

One process is a world of size one: then nothing is sent, and torch.distributed is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from guildgpt.model.config import Dtype
from guildgpt.network.hardware import pick_device, pick_dtype

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among `size` processes (`rank` from 0), and the device it computes on.

    `World()` is this process alone, on the GPU if torch sees one.

    Whatever sends something (`sum`, `sum_gradients`, `from_main`, `barrier`) is called by all
    processes, in the same order.
    """

    device: torch.device = field(default_factory=pick_device)
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes logs, checkpoints, model folders and reports."""
        return self.rank == 0

    def dtype(self, wanted: Dtype) -> torch.dtype:
        """The dtype to compute in on this device."""
        return pick_dtype(wanted, self.device)

    def sum(self, value: T) -> T:
        """The sum over all processes of a number or a tensor; the same bits in all of them."""
        if self.size == 1:
            return value
        if isinstance(value, Tensor):
            total = value.clone()
            dist.all_reduce(total)
            return total  # type: ignore[return-value]
        number = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(number)
        return number.item()  # type: ignore[return-value]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every process gets the sum of all processes' gradients. Where one has none, as it had no
        rows, it counts as 0."""
        if self.size == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        vector_to_parameters(self.sum(parameters_to_vector(gradients)), gradients)

    def from_main(self, value: T) -> T:
        """What the main process has, plain values."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()
