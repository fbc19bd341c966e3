// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title CheckpointDigests
/// @notice EIP-712 struct hash of an audit log's checkpoint.
library CheckpointDigests {
    bytes32 internal constant CHECKPOINT_TYPEHASH =
        keccak256("Checkpoint(string origin,uint64 size,bytes32 root)");

    function structHash(string calldata origin, uint64 size, bytes32 root) internal pure returns (bytes32) {
        return keccak256(abi.encode(CHECKPOINT_TYPEHASH, keccak256(bytes(origin)), size, root));
    }
}
