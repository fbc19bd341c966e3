// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IPaymentChannels} from "../interfaces/IPaymentChannels.sol";

/// @title ChannelDigests
/// @notice EIP-712 digests of the x402 batch-settlement scheme. `domain` is the domain separator: a batch computes it
/// once and hashes many rows.
library ChannelDigests {
    bytes32 internal constant CHANNEL_CONFIG_TYPEHASH = keccak256(
        "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,"
        "address token,uint40 withdrawDelay,bytes32 salt)"
    );
    bytes32 internal constant VOUCHER_TYPEHASH =
        keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
    bytes32 internal constant REFUND_TYPEHASH =
        keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)");
    bytes32 internal constant CLAIM_ENTRY_TYPEHASH =
        keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
    bytes32 internal constant CLAIM_BATCH_TYPEHASH = keccak256(
        "ClaimBatch(ClaimEntry[] claims)"
        "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
    );

    /// @return The channel's id.
    function channelId(bytes32 domain, IPaymentChannels.ChannelConfig calldata config)
        internal
        pure
        returns (bytes32)
    {
        bytes32 hashed = keccak256(abi.encode(CHANNEL_CONFIG_TYPEHASH, config));
        return MessageHashUtils.toTypedDataHash(domain, hashed);
    }

    /// @return ids The channel ids of the rows, in order.
    function channelIds(bytes32 domain, IPaymentChannels.VoucherClaim[] calldata claims)
        internal
        pure
        returns (bytes32[] memory ids)
    {
        ids = new bytes32[](claims.length);
        for (uint256 i = 0; i < claims.length; ++i) {
            ids[i] = channelId(domain, claims[i].voucher.channel);
        }
    }

    /// @return What the payer's side signs.
    function voucher(bytes32 domain, bytes32 id, uint128 maxClaimableAmount) internal pure returns (bytes32) {
        bytes32 hashed = keccak256(abi.encode(VOUCHER_TYPEHASH, id, maxClaimableAmount));
        return MessageHashUtils.toTypedDataHash(domain, hashed);
    }

    /// @return What the receiverAuthorizer signs for a refund.
    function refund(bytes32 domain, bytes32 id, uint256 nonce, uint128 amount)
        internal
        pure
        returns (bytes32)
    {
        bytes32 hashed = keccak256(abi.encode(REFUND_TYPEHASH, id, nonce, amount));
        return MessageHashUtils.toTypedDataHash(domain, hashed);
    }

    /// @return What the receiverAuthorizer signs for a batch of rows with these channel ids.
    function claimBatch(bytes32 domain, bytes32[] memory ids, IPaymentChannels.VoucherClaim[] calldata claims)
        internal
        pure
        returns (bytes32)
    {
        bytes32[] memory entries = new bytes32[](claims.length);
        for (uint256 i = 0; i < claims.length; ++i) {
            uint128 ceiling = claims[i].voucher.maxClaimableAmount;
            entries[i] = keccak256(abi.encode(CLAIM_ENTRY_TYPEHASH, ids[i], ceiling, claims[i].totalClaimed));
        }
        bytes32 hashed = keccak256(abi.encode(CLAIM_BATCH_TYPEHASH, keccak256(abi.encodePacked(entries))));
        return MessageHashUtils.toTypedDataHash(domain, hashed);
    }
}
