from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest
from safetensors.torch import save_file

from registry.errors import FileRefusedError, ManifestError
from registry.hashing.dataset import hash_folder
from registry.manifest import parse_manifest
from registry.record import Status
from registry.register import register_run
from registry.training.run import RunUnfinishedError, TrainingRun
from tests.registry.conftest import World


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"weights")
    return folder


def test_a_run_that_failed_has_no_manifest(output: Path) -> None:
    run = TrainingRun("broken")
    with pytest.raises(ZeroDivisionError), run:
        run.output(output)
        _ = 1 / 0
    with pytest.raises(RunUnfinishedError, match="did not end well"):
        _ = run.manifest


def test_a_run_has_no_manifest_before_it_ended(output: Path) -> None:
    with TrainingRun("eager") as run:
        run.output(output)
        with pytest.raises(RunUnfinishedError):
            _ = run.manifest
    assert run.manifest.name == "eager"


def test_a_run_without_an_output_is_refused() -> None:
    with pytest.raises(RunUnfinishedError, match="no output"), TrainingRun("idle"):
        pass


def test_a_run_is_begun_once(output: Path) -> None:
    run = TrainingRun("again")
    with run:
        run.output(output)
    with pytest.raises(RunUnfinishedError, match="begun already"), run:
        pass


def test_an_output_that_cannot_be_hashed_is_refused(tmp_path: Path) -> None:
    run = TrainingRun("lost")
    with pytest.raises(FileRefusedError), run:
        run.output(tmp_path / "missing")


@pytest.mark.parametrize(
    "value", ["many", "1e-3", "", float("nan"), float("inf"), Decimal("NaN"), 10**40]
)
def test_a_metric_that_is_no_finite_decimal_is_refused(value: object) -> None:
    with pytest.raises(ManifestError):
        TrainingRun("x").metric("loss", value)  # type: ignore[arg-type]


def test_names_parents_and_settings_are_checked_at_once() -> None:
    with pytest.raises(ManifestError):
        TrainingRun("")
    with pytest.raises(ManifestError, match="twice"):
        TrainingRun("x", datasets=[b"\x01" * 32], base=[b"\x01" * 32])
    with pytest.raises(ManifestError, match="32"):
        TrainingRun("x", datasets=[b"\x01"])
    with pytest.raises(ManifestError, match="hyperparameters"):
        TrainingRun("x", hyperparameters={"prompt": "two\nlines"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.780", "0.780"),
        (0.78, "0.78"),
        (1, "1"),
        (-0.0, "0"),
        (5e-5, "0.00005"),
        (1e-300, "0"),
        (0.1 + 0.2, "0.3"),
        (123456.5, "123456.5"),
        (1e20, "100000000000000000000"),
        (Decimal("-1.50"), "-1.5"),
    ],
)
def test_metrics_are_written_as_decimals(output: Path, value: object, text: str) -> None:
    with TrainingRun("measured") as run:
        run.output(output)
        run.metric("score", 1)
        run.metric("score", value)  # type: ignore[arg-type]
    assert run.manifest.metrics == {"score": text}


def test_a_clock_that_was_set_back_does_not_spoil_a_run(output: Path) -> None:
    times = iter([1_000.9, 400.0])
    with TrainingRun("backwards", clock=lambda: next(times)) as run:
        run.output(output)
    assert (run.manifest.started_at, run.manifest.ended_at) == (1_000, 1_000)


def test_the_seed_is_set_and_noted(output: Path, torch: ModuleType) -> None:
    draws = []
    for _ in range(2):
        with TrainingRun("seeded", seed=11) as run:
            draws.append((random.random(), torch.rand(3).tolist()))
            run.output(output)
    assert draws[0] == draws[1]
    assert run.manifest.environment.seed == "11"


def test_a_plain_torch_loop_is_recorded_on_chain(
    world: World, tmp_path: Path, torch: ModuleType
) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    with TrainingRun(
        "line",
        datasets=[world.dataset.id],
        base=[world.model.id],
        hyperparameters={"learning_rate": 0.1, "steps": 60},
        seed=7,
    ) as run:
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        inputs = torch.linspace(-1, 1, 16).unsqueeze(1)
        for _ in range(60):
            loss = torch.nn.functional.mse_loss(model(inputs), 3 * inputs + 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.metric("loss", loss.item())
        save_file(model.state_dict(), folder / "model.safetensors")
        run.output(folder)
    registration = register_run(
        run.manifest, blocks=world.blocks, registry=world.registry, signer=world.publisher
    )
    record = world.registry.record(registration.id)
    assert record.status is Status.ACTIVE
    assert record.parents == (world.dataset.id, world.model.id)
    found = parse_manifest(world.blocks.get(registration.cid))
    assert found == run.manifest
    assert Decimal(run.manifest.metrics["loss"]) < Decimal("0.1")
    assert run.manifest.hyperparameters == {"learning_rate": "0.1", "steps": "60"}
    assert run.manifest.output_root == hash_folder(folder).root
    assert run.manifest.environment.threads == "1"
