"""The learning rate of ALBERT's pretraining: a linear warm-up, then a polynomial decay."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tibert_keras")
class WarmupPolynomialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0, then polynomial decay, both as functions of the global step.

    As in `optimization.create_optimizer` of https://github.com/google-research/albert, with *s* the step, *S* the
    `start_warmup_step`, *W* the `warmup_steps` and *D* the `decay_steps`:

        rate(s) = 0                                       for s < S
                = initial * (s - S) / W                   for S <= s < S + W
                = end + (initial - end) * (1 - s/D)^power after that, and `end` from step D on

    The warm-up replaces the decay and does not multiply it, so the rate drops when the warm-up ends. A later
    `start_warmup_step`, as for a second phase of training, shifts the warm-up only: the decay still counts from step 0.
    Google's rate is negative before `start_warmup_step`; here it is 0.

    Args:
        initial_learning_rate: The rate at the end of the warm-up, from which the decay begins at step 0.
        decay_steps: The step at which the rate reaches `end_learning_rate`, usually the number of training steps.
        warmup_steps: The number of steps of the warm-up; 0 for none.
        start_warmup_step: The global step at which the warm-up begins.
        end_learning_rate: The rate from `decay_steps` on.
        power: The power of the polynomial; 1 is linear.
        name: The name of the operation.

    Raises:
        ValueError: If a number of steps is negative, or `decay_steps` is 0.

    Example:
    ```python
    schedule = WarmupPolynomialDecay(0.00176, decay_steps=1_000_000, warmup_steps=3_125)
    float(schedule(0)), float(schedule(3_124)), float(schedule(1_000_000))  # 0.0, 0.0017594, 0.0
    ```
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        warmup_steps: int,
        *,
        start_warmup_step: int = 0,
        end_learning_rate: float = 0.0,
        power: float = 1.0,
        name: str = "warmup_polynomial_decay",
    ) -> None:
        super().__init__()
        if decay_steps < 1 or warmup_steps < 0 or start_warmup_step < 0:
            raise ValueError(
                "`decay_steps` must be positive, and `warmup_steps` and `start_warmup_step` not negative. "
                f"Received: decay_steps={decay_steps}, warmup_steps={warmup_steps}, "
                f"start_warmup_step={start_warmup_step}."
            )
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.warmup_steps = warmup_steps
        self.start_warmup_step = start_warmup_step
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.name = name

    def __call__(self, step: Any) -> Any:
        """Return the rate, a float32 scalar, at a global step, the number of updates before this one."""
        step = ops.cast(step, "float32")
        left = 1.0 - ops.minimum(step / self.decay_steps, 1.0)
        span = self.initial_learning_rate - self.end_learning_rate
        decayed = self.end_learning_rate + span * left**self.power
        # Without a warm-up, only steps before `start_warmup_step` take this branch, at rate 0.
        warmed = (step - self.start_warmup_step) / max(self.warmup_steps, 1)
        warm = self.initial_learning_rate * ops.maximum(warmed, 0.0)
        return ops.where(step < self.start_warmup_step + self.warmup_steps, warm, decayed)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "warmup_steps": self.warmup_steps,
            "start_warmup_step": self.start_warmup_step,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "name": self.name,
        }
