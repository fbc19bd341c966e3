// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DevUSD} from "../dev/DevUSD.sol";

/// @title FeeToken
/// @notice A token that keeps one percent of every transfer: what arrives is not what was sent. A channel must refuse
/// its deposits.
contract FeeToken is DevUSD {
    function _update(address from, address to, uint256 value) internal override {
        if (from == address(0) || to == address(0)) return super._update(from, to, value);
        uint256 fee = value / 100;
        super._update(from, address(0), fee);
        super._update(from, to, value - fee);
    }
}
