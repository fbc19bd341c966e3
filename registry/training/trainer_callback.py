"""The transformers `Trainer`, noted in a `TrainingRun`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from registry.errors import ManifestError
from registry.training.run import TrainingRun

# What decides the result of a training; paths, logging and hub settings do not.
_NOTED: Final = (
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "bf16",
    "data_seed",
    "fp16",
    "gradient_accumulation_steps",
    "label_smoothing_factor",
    "learning_rate",
    "lr_scheduler_type",
    "max_grad_norm",
    "max_steps",
    "num_train_epochs",
    "optim",
    "per_device_train_batch_size",
    "seed",
    "warmup_ratio",
    "warmup_steps",
    "weight_decay",
)
# Speed depends on the machine and its load; it says nothing about the model.
_NOT_A_RESULT: Final = ("runtime", "per_second", "flos")


class WeightproofCallback(TrainerCallback):
    """Give it to a `Trainer` inside a `TrainingRun`; it notes settings and measured metrics."""

    def __init__(self, run: TrainingRun) -> None:
        self._run: Final = run

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Note the settings."""
        for name in _NOTED:
            value = getattr(args, name, None)
            if value is not None:
                self._run.hyperparameter(name, getattr(value, "value", value))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note what an evaluation measured."""
        self._note(metrics or {})

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Note how far the training went and the last loss."""
        self._run.hyperparameter("steps_done", state.global_step)
        for entry in state.log_history:
            self._note(entry)

    def _note(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if name in ("step", "epoch") or any(part in name for part in _NOT_A_RESULT):
                continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                try:
                    self._run.metric(name, value)
                except ManifestError:
                    continue  # a loss that became NaN is no number to record
