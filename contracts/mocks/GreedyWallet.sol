// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @title GreedyWallet
/// @notice Takes any signature for its own, after it has burnt all gas above `left`: whoever settles would pay for it.
contract GreedyWallet is IERC1271 {
    uint256 private immutable _left;

    constructor(uint256 left) {
        _left = left;
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        uint256 burnt;
        while (gasleft() > _left) burnt++;
        return IERC1271.isValidSignature.selector;
    }
}
