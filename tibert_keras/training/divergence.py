"""A loss that has gone wrong, and the way back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tibert_keras.errors import InputError

if TYPE_CHECKING:
    from tibert_keras.runs.checkpoints import Checkpoints


class DivergedError(InputError):
    """The training loss is not finite, or has risen far above what it was.

    Args:
        step: The global step at which that was seen.
        message: What is wrong.
    """

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


def check_loss(step: int, loss: float, *, bound: float = math.inf, checkpoints: Checkpoints) -> None:
    """Check that a loss is finite and not above a bound.

    Raises:
        DivergedError: If it is not, with the last good checkpoint.
    """
    if math.isfinite(loss) and loss <= bound:
        return
    problem = f"has risen above {bound:.4g}" if math.isfinite(loss) else "is not finite"
    raise DivergedError(
        step,
        f"The loss {problem} at step {step}. Received: {loss:.4g}. {checkpoints.last_good()}",
    )
