// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";

/// @title RegistryDigests
/// @notice EIP-712 struct hashes of the three requests a publisher can sign for the ModelRegistry.
library RegistryDigests {
    bytes32 internal constant REGISTER_TYPEHASH = keccak256(
        "Register(address publisher,uint8 kind,bytes32 manifestDigest,bytes32[] parents,uint256 deadline)"
    );
    bytes32 internal constant REVOKE_TYPEHASH =
        keccak256("Revoke(bytes32 id,string reason,uint256 deadline)");
    bytes32 internal constant SET_NAME_TYPEHASH =
        keccak256("SetName(address publisher,string name,bytes32 id,uint256 nonce,uint256 deadline)");

    function registration(
        address publisher,
        IModelRegistry.Kind kind,
        bytes32 manifestDigest,
        bytes32[] calldata parents,
        uint256 deadline
    ) internal pure returns (bytes32) {
        bytes32 lineage = keccak256(abi.encodePacked(parents));
        return keccak256(abi.encode(REGISTER_TYPEHASH, publisher, kind, manifestDigest, lineage, deadline));
    }

    function revocation(bytes32 id, string calldata reason, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(REVOKE_TYPEHASH, id, keccak256(bytes(reason)), deadline));
    }

    function naming(address publisher, string calldata name, bytes32 id, uint256 nonce, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        return
            keccak256(abi.encode(SET_NAME_TYPEHASH, publisher, keccak256(bytes(name)), id, nonce, deadline));
    }
}
