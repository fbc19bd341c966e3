// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {DevUSD} from "../dev/DevUSD.sol";

/// @title FailingToken
/// @notice A token that can be told to answer `false` to a transfer instead of reverting. Nothing may be booked as
/// paid on such an answer.
contract FailingToken is DevUSD {
    bool private _failing;

    /// @notice Turns the failing on or off.
    function fail(bool failing) external {
        _failing = failing;
    }

    /// @notice Moves tokens, or moves none and says so.
    function transfer(address to, uint256 value) public override(ERC20, IERC20) returns (bool) {
        if (_failing) return false;
        return super.transfer(to, value);
    }
}
