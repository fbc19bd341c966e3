// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title MerkleProofs
/// @notice Verifies proofs about RFC 6962 trees: that a leaf is in a tree, that a tree extends another.
/// @dev The algorithms are those of RFC 9162, sections 2.1.3.2 and 2.1.4.2. Hashes are SHA-256.
library MerkleProofs {
    /// @notice The hash of a leaf's bytes.
    function leafHash(bytes memory data) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x00), data));
    }

    /// @notice The hash of an inner node.
    function nodeHash(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x01), left, right));
    }

    /// @notice Whether the leaf hash `leaf` stands at `index` in the tree of `size` leaves under `root`.
    function includes(bytes32 root, uint64 size, uint64 index, bytes32 leaf, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        if (index >= size) return false;
        uint64 place = index;
        uint64 last = size - 1;
        bytes32 value = leaf;
        for (uint256 i; i < proof.length; ++i) {
            if (last == 0) return false;
            if (place & 1 == 1 || place == last) {
                value = nodeHash(proof[i], value);
                while (place & 1 == 0 && place != 0) (place, last) = (place >> 1, last >> 1);
            } else {
                value = nodeHash(value, proof[i]);
            }
            (place, last) = (place >> 1, last >> 1);
        }
        return last == 0 && value == root;
    }

    /// @notice Whether the tree (`newSize`, `newRoot`) begins with the tree (`oldSize`, `oldRoot`).
    /// @dev `oldSize` is not zero and below `newSize`.
    function extends(
        bytes32 oldRoot,
        uint64 oldSize,
        bytes32 newRoot,
        uint64 newSize,
        bytes32[] calldata proof
    ) internal pure returns (bool) {
        // A complete old tree is itself the first hash of the path, and is not sent.
        bool complete = oldSize & (oldSize - 1) == 0;
        if (!complete && proof.length == 0) return false;
        uint64 place = oldSize - 1;
        uint64 last = newSize - 1;
        while (place & 1 == 1) (place, last) = (place >> 1, last >> 1);
        bytes32 first = complete ? oldRoot : proof[0];
        bytes32 second = first;
        for (uint256 i = complete ? 0 : 1; i < proof.length; ++i) {
            if (last == 0) return false;
            if (place & 1 == 1 || place == last) {
                (first, second) = (nodeHash(proof[i], first), nodeHash(proof[i], second));
                while (place & 1 == 0 && place != 0) (place, last) = (place >> 1, last >> 1);
            } else {
                second = nodeHash(second, proof[i]);
            }
            (place, last) = (place >> 1, last >> 1);
        }
        return last == 0 && first == oldRoot && second == newRoot;
    }
}
