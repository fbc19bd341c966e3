// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";

/// @title IAuditAnchor
/// @notice Holds the latest checkpoint of each node's audit log, so that a node cannot show different histories to
/// different people: a log's size never shrinks, and one size has one root.
/// @dev Whether a larger checkpoint extends the one before it is proved off chain, with a consistency proof between
/// the two; the chain's part is that neither can be denied. One word is kept of each log; the whole root, and the
/// signature that makes an anchor evidence for the NodeRegistry, stand in the event.
interface IAuditAnchor is IERC5267 {
    /// @param size Entries in the log.
    /// @param anchoredAt Unix seconds of the block that anchored it.
    /// @param anchoredIn That block's number: its `Anchored` event has the root.
    /// @param mark The first bytes of the root. They tell a conflict from a repetition, and prove nothing.
    struct Anchor {
        uint64 size;
        uint48 anchoredAt;
        uint48 anchoredIn;
        bytes12 mark;
    }

    /// @notice A checkpoint was written on chain. `root` is the RFC 6962 Merkle root, `signature` the node's.
    event Anchored(
        bytes32 indexed logId, address indexed node, uint64 size, bytes32 root, string origin, bytes signature
    );

    /// @notice A log has a name.
    error EmptyOrigin();
    /// @notice An empty log has nothing to anchor.
    error EmptyLog();
    /// @notice The log was anchored with more entries before.
    error SizeShrinks(uint64 anchoredSize, uint64 size);
    /// @notice The node signed two roots for the same size: it has forked its history.
    error RootConflict(bytes12 anchoredMark, bytes32 root);
    /// @notice Exactly this checkpoint is the latest already.
    error AlreadyAnchored(bytes32 logId, uint64 size);

    /// @notice Writes a node's signed checkpoint on chain. Anyone may submit it: an auditor too.
    /// @param origin The log's name, as in the first line of its checkpoint.
    /// @param size Entries in the log, not zero and not below the anchored size.
    /// @param root RFC 6962 Merkle root of those entries.
    /// @param signature EIP-712 over `Checkpoint(string origin,uint64 size,bytes32 root)` by the node's key.
    /// @return id The log's id.
    function anchor(string calldata origin, uint64 size, bytes32 root, bytes calldata signature)
        external
        returns (bytes32 id);

    /// @notice The id of a node's log of this name: `keccak256(abi.encode(node, origin))`.
    function logId(address node, string calldata origin) external pure returns (bytes32);

    /// @notice The latest checkpoint of a log; all zero if it was never anchored.
    function latest(bytes32 id)
        external
        view
        returns (uint64 size, uint48 anchoredAt, uint48 anchoredIn, bytes12 mark);

    /// @notice The EIP-712 domain separator, for this chain and this address.
    function domainSeparator() external view returns (bytes32);
}
