// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title IReceiveWithAuthorization
/// @notice The one ERC-3009 function a deposit needs, in the overload that takes EIP-1271 signatures too.
interface IReceiveWithAuthorization {
    /// @notice Moves `value` from `from` to the caller, who must be `to`, on the signature of `from`.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}
