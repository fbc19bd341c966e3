// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {IAuditAnchor} from "./interfaces/IAuditAnchor.sol";
import {CheckpointDigests} from "./libraries/CheckpointDigests.sol";

/// @title AuditAnchor
/// @notice See {IAuditAnchor}.
contract AuditAnchor is IAuditAnchor, EIP712 {
    /// @inheritdoc IAuditAnchor
    mapping(bytes32 id => Anchor) public latest;

    constructor() EIP712("Weightproof AuditAnchor", "1") {}

    /// @inheritdoc IAuditAnchor
    function anchor(string calldata origin, uint64 size, bytes32 root, bytes calldata signature)
        external
        returns (bytes32 id)
    {
        // Check
        if (bytes(origin).length == 0) revert EmptyOrigin();
        if (size == 0) revert EmptyLog();
        bytes32 digest = _hashTypedDataV4(CheckpointDigests.structHash(origin, size, root));
        address node = ECDSA.recoverCalldata(digest, signature);
        id = logId(node, origin);
        Anchor memory before = latest[id];
        if (size < before.size) revert SizeShrinks(before.size, size);
        if (size == before.size && bytes12(root) != before.mark) revert RootConflict(before.mark, root);
        if (size == before.size) revert AlreadyAnchored(id, size);

        // Effect
        latest[id] = Anchor({
            size: size,
            anchoredAt: uint48(block.timestamp),
            anchoredIn: uint48(block.number),
            mark: bytes12(root)
        });

        // Log
        emit Anchored(id, node, size, root, origin, signature);
    }

    /// @inheritdoc IAuditAnchor
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @inheritdoc IAuditAnchor
    function logId(address node, string calldata origin) public pure returns (bytes32) {
        return keccak256(abi.encode(node, origin));
    }
}
