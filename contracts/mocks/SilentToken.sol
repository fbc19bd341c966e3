// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiveWithAuthorization} from "../interfaces/IReceiveWithAuthorization.sol";

/// @title SilentToken
/// @notice A token whose `transfer` returns nothing, as some old ones do. It is a lawful token and must be served.
/// It takes every authorisation for good: this mock is about the transfer.
contract SilentToken is IReceiveWithAuthorization {
    mapping(address account => uint256) public balanceOf;

    /// @notice Makes tokens out of nothing.
    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
    }

    /// @notice Moves tokens and returns no boolean.
    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    /// @inheritdoc IReceiveWithAuthorization
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256,
        uint256,
        bytes32,
        bytes calldata
    ) external {
        balanceOf[from] -= value;
        balanceOf[to] += value;
    }
}
