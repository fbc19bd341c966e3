// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";

import {INodeRegistry} from "../interfaces/INodeRegistry.sol";
import {MerkleProofs} from "./MerkleProofs.sol";

/// @title ReceiptDigests
/// @notice EIP-712 hashes of a node's receipts and of its consent, and the leaf a receipt has in the node's log.
library ReceiptDigests {
    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(bytes32 receiptDigest,bytes32 modelId,address payer,uint256 charged,bytes32 requestHash,bytes32 responseHash,uint64 seq)"
    );
    bytes32 internal constant CONSENT_TYPEHASH = keccak256("Consent(address owner,string url)");
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    function structHash(INodeRegistry.Receipt calldata receipt) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                RECEIPT_TYPEHASH,
                receipt.receiptDigest,
                receipt.modelId,
                receipt.payer,
                receipt.charged,
                receipt.requestHash,
                receipt.responseHash,
                receipt.seq
            )
        );
    }

    function consentHash(address owner, string calldata url) internal pure returns (bytes32) {
        return keccak256(abi.encode(CONSENT_TYPEHASH, owner, keccak256(bytes(url))));
    }

    /// @notice The domain receipts are signed in: they belong to the log anchored at `anchors`.
    function domainSeparator(address anchors) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                DOMAIN_TYPEHASH, keccak256("Weightproof Receipt"), keccak256("1"), block.chainid, anchors
            )
        );
    }

    /// @notice The hash of the only leaf that a signed receipt can have: its entry is canonical JSON (RFC 8785).
    /// @param text The receipt's canonical bytes.
    function leaf(bytes calldata text, bytes calldata signature, uint64 seq) internal pure returns (bytes32) {
        return MerkleProofs.leafHash(
            abi.encodePacked(
                '{"body":{"receipt":',
                text,
                ',"signature":"',
                Strings.toHexString(signature),
                '"},"format":"weightproof/entry@1","kind":"receipt","seq":',
                Strings.toString(seq),
                "}"
            )
        );
    }
}
