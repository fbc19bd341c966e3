// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice RFC 6962's definitions, written down as they stand there: slow, and apart from what is tested.
library LogTree {
    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(hex"01", left, right));
    }

    /// @notice MTH(D[from:to]) over leaf hashes.
    function root(bytes32[] memory leaves, uint256 from, uint256 to) internal pure returns (bytes32) {
        if (to - from == 1) return leaves[from];
        uint256 middle = from + split(to - from);
        return node(root(leaves, from, middle), root(leaves, middle, to));
    }

    /// @notice PATH(index, D[from:to]).
    function path(bytes32[] memory leaves, uint256 index, uint256 from, uint256 to)
        internal
        pure
        returns (bytes32[] memory)
    {
        if (to - from == 1) return new bytes32[](0);
        uint256 middle = from + split(to - from);
        if (index < middle) return longer(path(leaves, index, from, middle), root(leaves, middle, to));
        return longer(path(leaves, index, middle, to), root(leaves, from, middle));
    }

    /// @notice PROOF(old, D[0:size]), for 0 < old < size.
    function consistency(bytes32[] memory leaves, uint256 old, uint256 size)
        internal
        pure
        returns (bytes32[] memory)
    {
        return subproof(leaves, old, 0, size, true);
    }

    /// @notice SUBPROOF(old, D[from:to], whole); `old` counts from 0.
    function subproof(bytes32[] memory leaves, uint256 old, uint256 from, uint256 to, bool whole)
        private
        pure
        returns (bytes32[] memory)
    {
        if (old == to) {
            return whole ? new bytes32[](0) : longer(new bytes32[](0), root(leaves, from, to));
        }
        uint256 middle = from + split(to - from);
        if (old <= middle) {
            return longer(subproof(leaves, old, from, middle, whole), root(leaves, middle, to));
        }
        return longer(subproof(leaves, old, middle, to, false), root(leaves, from, middle));
    }

    /// @dev The largest power of two smaller than `count`.
    function split(uint256 count) private pure returns (uint256 half) {
        half = 1;
        while (half * 2 < count) half *= 2;
    }

    /// @notice The list with one more hash.
    function longer(bytes32[] memory list, bytes32 last) internal pure returns (bytes32[] memory made) {
        made = new bytes32[](list.length + 1);
        for (uint256 i; i < list.length; ++i) {
            made[i] = list[i];
        }
        made[list.length] = last;
    }
}
