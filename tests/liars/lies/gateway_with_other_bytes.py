"""A gateway sends other bytes than the name of the manifest's block promises.

Caught by whoever loads the model, step 2, after 0 calls.
Evidence: the block's name.
"""

from __future__ import annotations

from dataclasses import replace

from registry.errors import BlockCorruptError
from registry.ipfs.cid import RAW, Cid
from registry.ipfs.gateway import GatewayBlockStore
from tests.attacks.hostile_gateway import gateway, other_bytes
from tests.liars.actor import MODEL
from tests.liars.finding import LOADER, Found
from tests.liars.stage import Stage


def catch(stage: Stage) -> Found:
    workspace, model_id = stage.workspace, stage.models[MODEL]
    manifest = str(Cid(RAW, workspace.records.record(model_id).manifest_digest))
    with gateway(workspace.blocks, {manifest: other_bytes}) as (url, _):
        reader = replace(workspace, blocks=GatewayBlockStore(url))
        try:
            reader.verify(model_id).close()
        except BlockCorruptError as error:
            assert error.cid == manifest
            step = " ".join(error.message.split(" ")[:2])
            return Found(LOADER, step, 0, {"cid": error.cid}, error.message)
    raise AssertionError("the model was verified")
