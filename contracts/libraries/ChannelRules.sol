// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentChannels} from "../interfaces/IPaymentChannels.sol";

/// @title ChannelRules
/// @notice What the x402 batch-settlement scheme asks of a channel's config, and who acts for which side.
library ChannelRules {
    /// @dev Seconds. Less would leave a receiver no time to claim before a withdrawal ends.
    uint40 internal constant MIN_WITHDRAW_DELAY = 15 minutes;
    /// @dev Seconds. More would let a receiver hold a payer's tokens hostage.
    uint40 internal constant MAX_WITHDRAW_DELAY = 30 days;

    /// @dev Fails unless a channel of this config may be opened.
    function check(IPaymentChannels.ChannelConfig calldata config) internal pure {
        if (
            config.payer == address(0) || config.receiver == address(0)
                || config.receiverAuthorizer == address(0) || config.token == address(0)
        ) revert IPaymentChannels.InvalidChannel();
        if (config.withdrawDelay < MIN_WITHDRAW_DELAY || config.withdrawDelay > MAX_WITHDRAW_DELAY) {
            revert IPaymentChannels.WithdrawDelayOutOfRange();
        }
    }

    /// @return Whether `caller` may claim from and refund this channel.
    function isReceiverSide(IPaymentChannels.ChannelConfig calldata config, address caller)
        internal
        pure
        returns (bool)
    {
        return caller == config.receiver || caller == config.receiverAuthorizer;
    }

    /// @return Whether `caller` may withdraw from this channel.
    function isPayerSide(IPaymentChannels.ChannelConfig calldata config, address caller)
        internal
        pure
        returns (bool)
    {
        return caller == config.payer || caller == config.payerAuthorizer;
    }
}
