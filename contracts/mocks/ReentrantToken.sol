// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DevUSD} from "../dev/DevUSD.sol";

/// @title ReentrantToken
/// @notice A token that calls back in the middle of a transfer, as tokens with hooks do, and keeps what came of it.
contract ReentrantToken is DevUSD {
    address private _target;
    bytes private _call;

    /// @notice Whether the call back succeeded, the last time there was one.
    bool public succeeded;
    /// @notice What the call back returned or failed with.
    bytes public answer;

    /// @notice Arms the token: the next transfer calls `target` with `data`, once.
    function arm(address target, bytes calldata data) external {
        (_target, _call) = (target, data);
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        address target = _target;
        if (target == address(0) || from == address(0)) return;
        _target = address(0);
        (succeeded, answer) = target.call(_call);
    }
}
