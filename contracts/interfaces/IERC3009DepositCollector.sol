// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDepositCollector} from "./IDepositCollector.sol";

/// @title IERC3009DepositCollector
/// @notice Collects deposits by ERC-3009: the payer signs a `ReceiveWithAuthorization` to this collector and needs no
/// ether and no allowance. Names and errors are those of the x402 batch-settlement scheme.
/// @dev `collectorData = abi.encode(uint256 validAfter, uint256 validBefore, uint256 salt, bytes signature)`. The
/// authorisation's nonce is `keccak256(abi.encode(channelId, salt))`, so it can fund no other channel.
interface IERC3009DepositCollector is IDepositCollector {
    /// @notice The channels contract must have an address.
    error InvalidX402BatchSettlementAddress();
    /// @notice Only the channels contract may collect.
    error OnlyX402BatchSettlement();

    /// @notice The channels contract that this collector serves.
    function x402BatchSettlement() external view returns (address);
}
