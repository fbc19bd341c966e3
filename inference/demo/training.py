"""The training example, registered: reviews → dataset record → run record → model record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inference.demo.models import prepare_minilm
from inference.demo.reviews import SEED, Recipe, fine_tune, write_dataset
from registry.hashing.walk import walk
from registry.manifest import Parent
from registry.record import Kind
from registry.register import Registration, register_dataset, register_model, register_run
from registry.terminal import Terminal
from registry.training.run import TrainingRun
from registry.workspace import Workspace

NAME = "minilm-reviews"


@dataclass(frozen=True)
class Trained:
    """What the example leaves: the records, the model's folder, the measured metrics."""

    dataset: Registration
    base: Registration
    run: Registration
    model: Registration
    folder: Path
    metrics: Mapping[str, str]


def train_and_register(folder: Path, workspace: Workspace, terminal: Terminal) -> Trained:
    """Write the reviews, fine-tune MiniLM on them, register all of it as the publisher."""
    signer = workspace.signer("publisher")
    reviews, base, output = folder / "reviews", folder / "minilm", folder / NAME
    write_dataset(reviews)
    prepare_minilm(base)
    dataset = register_dataset(
        reviews,
        name="movie-reviews",
        blocks=workspace.blocks,
        registry=workspace.records,
        signer=signer,
    )
    parent = register_folder(base, "all-minilm-l6-v2", "embed", (), {}, workspace, terminal)
    recipe = Recipe()
    with (
        TrainingRun(
            NAME,
            datasets=[dataset.id],
            base=[parent.id],
            hyperparameters=recipe.to_text(),
            seed=SEED,
        ) as run,
        terminal.steps_bar("fine-tuning MiniLM", recipe.steps) as advance,
    ):
        metrics = fine_tune(
            base=base, dataset=reviews, target=output, recipe=recipe, progress=advance
        )
        for name, value in metrics.items():
            run.metric(name, value)
        run.output(output)
    recorded = register_run(
        run.manifest, blocks=workspace.blocks, registry=workspace.records, signer=signer
    )
    model = register_folder(
        output, NAME, "classify", (Parent(Kind.RUN, recorded.id),), metrics, workspace, terminal
    )
    return Trained(dataset, parent, recorded, model, output, metrics)


def register_folder(
    folder: Path,
    name: str,
    task: str,
    parents: tuple[Parent, ...],
    metrics: Mapping[str, str],
    workspace: Workspace,
    terminal: Terminal,
) -> Registration:
    """Register a folder as a model of the publisher's, with a bar."""
    total = sum(file.size for file in walk(folder))
    with terminal.bytes_bar(f"registering {name}", total) as advance:
        return register_model(
            folder,
            name=name,
            task=task,
            parents=parents,
            metrics=metrics,
            license="Apache-2.0",
            blocks=workspace.blocks,
            registry=workspace.records,
            signer=workspace.signer("publisher"),
            progress=advance,
        )
