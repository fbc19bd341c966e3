// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title IDepositCollector
/// @notice Brings a payer's tokens into the channels contract, by whatever authorisation it understands.
interface IDepositCollector {
    /// @notice Moves exactly `amount` of `token` from `payer` to the calling channels contract, which measures its own
    /// balance and refuses the deposit if a different amount arrived.
    /// @param payer Whose tokens.
    /// @param token The ERC-20 token.
    /// @param amount Atomic units.
    /// @param channelId The channel that the payer's authorisation is bound to.
    /// @param collectorData The payer's authorisation, in the collector's own encoding.
    function collect(
        address payer,
        address token,
        uint256 amount,
        bytes32 channelId,
        bytes calldata collectorData
    ) external;
}
