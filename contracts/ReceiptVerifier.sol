// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IAuditAnchor} from "./interfaces/IAuditAnchor.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IReceiptVerifier} from "./interfaces/IReceiptVerifier.sol";
import {CheckpointDigests} from "./libraries/CheckpointDigests.sol";
import {MerkleProofs} from "./libraries/MerkleProofs.sol";
import {ReceiptDigests} from "./libraries/ReceiptDigests.sol";

/// @title ReceiptVerifier
/// @notice See {IReceiptVerifier}.
contract ReceiptVerifier is IReceiptVerifier {
    /// @inheritdoc IReceiptVerifier
    IAuditAnchor public immutable anchors;

    constructor(IAuditAnchor anchors_) {
        if (address(anchors_).code.length == 0) revert NotAContract(address(anchors_));
        anchors = anchors_;
    }

    /// @inheritdoc IReceiptVerifier
    function isLogged(
        string calldata origin,
        INodeRegistry.Head calldata head,
        Shown calldata shown,
        bytes32[] calldata path
    ) external view returns (bool) {
        bytes32 hashed = CheckpointDigests.structHash(origin, head.size, head.root);
        bytes32 digest = MessageHashUtils.toTypedDataHash(anchors.domainSeparator(), hashed);
        if (ECDSA.recoverCalldata(digest, head.signature) != signerOf(shown)) return false;
        uint64 seq = shown.receipt.seq;
        bytes32 leaf = ReceiptDigests.leaf(shown.text, shown.signature, seq);
        return MerkleProofs.includes(head.root, head.size, seq, leaf, path);
    }

    /// @inheritdoc IReceiptVerifier
    function signerOf(Shown calldata shown) public view returns (address) {
        bytes32 digest = sha256(shown.text);
        if (digest != shown.receipt.receiptDigest) revert WrongText(shown.receipt.receiptDigest, digest);
        bytes32 domain = ReceiptDigests.domainSeparator(address(anchors));
        bytes32 hashed = ReceiptDigests.structHash(shown.receipt);
        return ECDSA.recoverCalldata(MessageHashUtils.toTypedDataHash(domain, hashed), shown.signature);
    }
}
