// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAuditAnchor} from "./IAuditAnchor.sol";
import {INodeRegistry} from "./INodeRegistry.sol";

/// @title IReceiptVerifier
/// @notice Anyone, and any contract, can check a node's receipt here: who signed it, and whether it is in the log
/// whose head that same key signed. Nothing is stored and nothing costs gas when it is asked from outside.
/// @dev A signature binds the receipt's text and the values beside it. That both say the same is not read out of the
/// text here: a node that signs a charge and another one in the text has signed its own conviction.
interface IReceiptVerifier {
    /// @param receipt What the signature binds.
    /// @param text The receipt's canonical bytes (RFC 8785), whose SHA-256 is `receiptDigest`.
    /// @param signature 65 bytes: r, s, v.
    struct Shown {
        INodeRegistry.Receipt receipt;
        bytes text;
        bytes signature;
    }

    /// @notice There is no contract at this address.
    error NotAContract(address place);
    /// @notice The text is not that of the receipt.
    error WrongText(bytes32 digest, bytes32 found);

    /// @notice Who signed a receipt. Reverts for a text that is not the receipt's, and for what is no signature.
    function signerOf(Shown calldata shown) external view returns (address);

    /// @notice Whether a receipt stands at its place in the log whose head its signer signed. Reverts as `signerOf`
    /// does. That the head was anchored is said by the event `Anchored`, which carries its root and signature; the
    /// chain itself keeps too little of a root to prove anything.
    /// @param origin The log's name, as in the first line of its checkpoints.
    /// @param path RFC 6962 audit path in the log of the head's size, lowest sibling first.
    function isLogged(
        string calldata origin,
        INodeRegistry.Head calldata head,
        Shown calldata shown,
        bytes32[] calldata path
    ) external view returns (bool);

    /// @notice Where logs are anchored, and whose address the domain of receipts names.
    function anchors() external view returns (IAuditAnchor);
}
