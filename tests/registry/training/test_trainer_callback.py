from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import ModuleType

from registry.training.run import TrainingRun

ROWS = 16


def test_a_real_trainer_run_is_noted(tmp_path: Path, torch: ModuleType) -> None:
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        Trainer,
        TrainingArguments,
    )

    from registry.training.trainer_callback import WeightproofCallback

    generator = torch.Generator().manual_seed(3)
    rows = [
        {
            "input_ids": torch.randint(0, 32, (6,), generator=generator),
            "attention_mask": torch.ones(6, dtype=torch.long),
            "labels": torch.tensor(at % 2),
        }
        for at in range(ROWS)
    ]
    with TrainingRun("tiny trainer", seed=5) as run:
        config = BertConfig(
            vocab_size=32,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
        )
        trainer = Trainer(
            model=BertForSequenceClassification(config),
            args=TrainingArguments(
                output_dir=str(tmp_path / "work"),
                max_steps=3,
                per_device_train_batch_size=4,
                learning_rate=1e-3,
                logging_steps=1,
                report_to=[],
                save_strategy="no",
                use_cpu=True,
                seed=5,
                disable_tqdm=True,
            ),
            train_dataset=rows,
            eval_dataset=rows,
            compute_metrics=lambda found: {
                "accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())
            },
            callbacks=[WeightproofCallback(run)],
        )
        trainer.train()
        trainer.evaluate()
        trainer.save_model(str(tmp_path / "model"))
        run.output(tmp_path / "model")
    manifest = run.manifest
    assert manifest.hyperparameters["learning_rate"] == "0.001"
    assert manifest.hyperparameters["per_device_train_batch_size"] == "4"
    assert manifest.hyperparameters["steps_done"] == "3"
    assert manifest.hyperparameters["seed"] == "5"
    assert 0 <= Decimal(manifest.metrics["eval_accuracy"]) <= 1
    assert Decimal(manifest.metrics["train_loss"]) > 0
    assert not [name for name in manifest.metrics if "runtime" in name or "per_second" in name]
    assert str(tmp_path) not in str(manifest.to_json())
