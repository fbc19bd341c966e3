"""Which ways of writing `chain.finality` the settings file takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.chain.deploy import Deployment
from registry.config import load
from registry.errors import ConfigError


def finality(folder: Path, deployment: Deployment, written: str) -> str | int:
    contracts = deployment.to_json()
    del contracts["chain_id"]
    path = folder / "weightproof.toml"
    path.write_text(
        f'[chain]\nrpc_url = "http://127.0.0.1:8545"\n{written}\n[contracts]\n'
        + "".join(
            f"{name} = {value if isinstance(value, int) else repr(value)}\n"
            for name, value in contracts.items()
            if value is not None
        )
    )
    return load(path).chain.finality


@pytest.mark.parametrize(
    "value", ["-1", "true", "1.5", '"soon"', '"-1"', '""', '"5 blocks"', '"٥"', "[5]"]
)
def test_anything_but_a_name_or_a_count_is_refused(
    tmp_path: Path, deployment: Deployment, value: str
) -> None:
    with pytest.raises(ConfigError, match=r"chain\.finality"):
        finality(tmp_path, deployment, f"finality = {value}")


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("", "finalized"),
        ('finality = "latest"', "latest"),
        ('finality = "finalized"', "finalized"),
        ("finality = 5", 5),
        ('finality = "5"', 5),
        ("finality = 0", 0),
    ],
)
def test_a_name_or_a_number_of_confirmations_is_taken(
    tmp_path: Path, deployment: Deployment, written: str, means: str | int
) -> None:
    assert finality(tmp_path, deployment, written) == means
