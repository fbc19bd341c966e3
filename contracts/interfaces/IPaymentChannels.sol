// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";

/// @title IPaymentChannels
/// @notice One-way payment channels of the x402 batch-settlement scheme. A payer escrows tokens for one receiver and
/// signs vouchers, each a cumulative ceiling; the receiver's side claims what was really charged, many channels in
/// one transaction, and moves the tokens in another.
/// @dev Functions, events, errors and digests are those of the scheme, so that unmodified clients pay us; hence the
/// errors without arguments. A channel's id is the EIP-712 digest of its config. Tokens that take a fee on transfer
/// are refused at deposit; tokens whose balances change by themselves (rebasing) must not be used.
interface IPaymentChannels is IERC5267 {
    /// @param payer Whose tokens are escrowed; refunds and withdrawals go there.
    /// @param payerAuthorizer The key that signs vouchers and may withdraw; zero: the payer itself signs, as a key or
    /// an EIP-1271 wallet.
    /// @param receiver Whom `settle` pays.
    /// @param receiverAuthorizer Who signs for claims and refunds; a key or an EIP-1271 wallet, not zero.
    /// @param token The ERC-20 token.
    /// @param withdrawDelay Seconds between a withdrawal's start and its end: the receiver's time to claim.
    /// @param salt Tells channels of the same parties apart.
    struct ChannelConfig {
        address payer;
        address payerAuthorizer;
        address receiver;
        address receiverAuthorizer;
        address token;
        uint40 withdrawDelay;
        bytes32 salt;
    }

    /// @param channel The channel's config, which gives its id.
    /// @param maxClaimableAmount Most that may be claimed in the channel's whole life, atomic units.
    struct Voucher {
        ChannelConfig channel;
        uint128 maxClaimableAmount;
    }

    /// @param voucher What the payer signed.
    /// @param signature The payer side's EIP-712 signature of it.
    /// @param totalClaimed What the receiver's side claims in the channel's whole life, at most the ceiling.
    struct VoucherClaim {
        Voucher voucher;
        bytes signature;
        uint128 totalClaimed;
    }

    /// @param balance Deposits less refunds and withdrawals, atomic units.
    /// @param totalClaimed Claimed so far; `balance - totalClaimed` is available.
    struct ChannelState {
        uint128 balance;
        uint128 totalClaimed;
    }

    /// @param amount Most that the pending withdrawal will take.
    /// @param initiatedAt Unix seconds; 0 when none is pending.
    struct WithdrawalState {
        uint128 amount;
        uint40 initiatedAt;
    }

    /// @param totalClaimed Sum of all claims for this receiver and token.
    /// @param totalSettled Of that, what was transferred.
    struct ReceiverState {
        uint128 totalClaimed;
        uint128 totalSettled;
    }

    /// @notice A deposit met an empty channel on which nothing was ever claimed; it can happen again after
    /// `ChannelClosed`.
    event ChannelCreated(bytes32 indexed channelId, ChannelConfig config);
    /// @notice A channel on which nothing was ever claimed was emptied.
    event ChannelClosed(bytes32 indexed channelId, ChannelConfig config);
    /// @notice Tokens arrived in a channel.
    event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
    /// @notice Part of a channel's balance was booked to its receiver.
    event Claimed(
        bytes32 indexed channelId, address indexed sender, uint128 claimAmount, uint128 newTotalClaimed
    );
    /// @notice A receiver's claims were transferred to it.
    event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
    /// @notice The receiver's side returned tokens to the payer.
    event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
    /// @notice The payer's side asked for tokens back; unclaimed vouchers must be claimed before `finalizeWithdraw`.
    event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
    /// @notice A withdrawal ended; the amount is what was transferred, perhaps less than asked for.
    event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);

    /// @notice Payer, receiver, receiverAuthorizer or token is zero.
    error InvalidChannel();
    /// @notice The withdraw delay is outside MIN_WITHDRAW_DELAY … MAX_WITHDRAW_DELAY.
    error WithdrawDelayOutOfRange();
    /// @notice A deposit has an amount.
    error ZeroDeposit();
    /// @notice The balance would not fit 128 bits.
    error DepositOverflow();
    /// @notice There is no contract at the collector's address.
    error InvalidCollector();
    /// @notice Not exactly the deposit's amount arrived.
    error DepositCollectionFailed();
    /// @notice A claim has at least one row.
    error EmptyBatch();
    /// @notice The caller is neither receiver nor receiverAuthorizer of every row.
    error NotAuthorizedToClaim();
    /// @notice The rows of a signed batch do not all name the same receiverAuthorizer.
    error NotReceiverAuthorizer();
    /// @notice More is claimed than the voucher allows.
    error ClaimExceedsCeiling();
    /// @notice More is claimed than the channel holds.
    error ClaimExceedsBalance();
    /// @notice A signature is not the required signer's over exactly this content.
    error InvalidSignature();
    /// @notice A refund has an amount.
    error ZeroRefund();
    /// @notice The caller is neither receiver nor receiverAuthorizer.
    error NotAuthorizedToRefund();
    /// @notice A signed refund names the channel's current refund nonce.
    error InvalidRefundNonce();
    /// @notice The caller is neither payer nor payerAuthorizer; said of `initiateWithdraw` too, for which the scheme
    /// has no error of its own.
    error NotAuthorizedToFinalizeWithdraw();
    /// @notice A withdrawal has an amount.
    error NothingToWithdraw();
    /// @notice More is asked for than is available.
    error WithdrawAmountExceedsAvailable();
    /// @notice The channel has a withdrawal under way.
    error WithdrawalAlreadyPending();
    /// @notice The channel has no withdrawal under way.
    error WithdrawalNotPending();
    /// @notice The withdrawal's delay is not over.
    error WithdrawDelayNotElapsed();

    /// @notice Escrows tokens in a channel, which need not exist yet. Anyone may submit it; the tokens come from the
    /// payer, whose authorisation the collector checks.
    /// @param config The channel.
    /// @param amount Atomic units, not zero.
    /// @param collector The {IDepositCollector} that brings the tokens.
    /// @param collectorData What that collector needs.
    function deposit(
        ChannelConfig calldata config,
        uint128 amount,
        address collector,
        bytes calldata collectorData
    ) external;

    /// @notice Books what was charged, for many channels. The caller is receiver or receiverAuthorizer of each. A row
    /// that claims no more than is booked already changes nothing, so a batch can be sent again.
    /// @param claims The rows.
    function claim(VoucherClaim[] calldata claims) external;

    /// @notice As `claim`, submitted by anyone, on one signature of the receiverAuthorizer that all rows share.
    /// @param claims The rows.
    /// @param authorizerSignature EIP-712 over `ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128
    /// maxClaimableAmount,uint128 totalClaimed)`.
    function claimWithSignature(VoucherClaim[] calldata claims, bytes calldata authorizerSignature) external;

    /// @notice Transfers all that is claimed and not yet settled to the receiver. Anyone may call it; with nothing to
    /// settle it does nothing.
    /// @param receiver Whose claims.
    /// @param token In which token.
    function settle(address receiver, address token) external;

    /// @notice Starts taking tokens back. The caller is the payer or its authorizer.
    /// @param config The channel.
    /// @param amount Atomic units, at most what is available now.
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external;

    /// @notice Takes tokens back once the delay is over: the amount asked for, or what is still available if that is
    /// less. The caller is the payer or its authorizer.
    /// @param config The channel.
    function finalizeWithdraw(ChannelConfig calldata config) external;

    /// @notice Returns tokens to the payer at once, at most what is available. The caller is the receiver or its
    /// authorizer. It uses up a refund nonce even if nothing is available, and takes the place of a pending
    /// withdrawal as far as it goes.
    /// @param config The channel.
    /// @param amount Atomic units, not zero.
    function refund(ChannelConfig calldata config, uint128 amount) external;

    /// @notice As `refund`, submitted by anyone, on the receiverAuthorizer's signature.
    /// @param config The channel.
    /// @param amount Atomic units, not zero.
    /// @param nonce The channel's current refund nonce.
    /// @param authorizerSignature EIP-712 over `Refund(bytes32 channelId,uint256 nonce,uint128 amount)`.
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata authorizerSignature
    ) external;

    /// @notice Several of these calls in one transaction, all or none.
    /// @param data The calls, ABI-encoded.
    /// @return results What each returned.
    function multicall(bytes[] calldata data) external returns (bytes[] memory results);

    /// @notice A channel's money.
    function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed);

    /// @notice A channel's withdrawal under way, zero if there is none.
    function pendingWithdrawals(bytes32 channelId) external view returns (uint128 amount, uint40 initiatedAt);

    /// @notice How many refunds the channel has had, and so the nonce of the next.
    function refundNonce(bytes32 channelId) external view returns (uint256 nonce);

    /// @notice A receiver's money in one token.
    function receivers(address receiver, address token)
        external
        view
        returns (uint128 totalClaimed, uint128 totalSettled);

    /// @notice The channel's id: the EIP-712 digest of its config, for this chain and this contract.
    function getChannelId(ChannelConfig calldata config) external view returns (bytes32);

    /// @notice What the payer's side signs for a voucher.
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32);

    /// @notice What the receiverAuthorizer signs for a refund.
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) external view returns (bytes32);

    /// @notice What the receiverAuthorizer signs for a batch of claims.
    function getClaimBatchDigest(VoucherClaim[] calldata claims) external view returns (bytes32);

    /// @notice Seconds; a shorter delay would leave a receiver no time to claim.
    function MIN_WITHDRAW_DELAY() external view returns (uint40);

    /// @notice Seconds; a longer delay would let a receiver hold a payer's tokens hostage.
    function MAX_WITHDRAW_DELAY() external view returns (uint40);

    /// @notice EIP-712 type hash of `ChannelConfig`.
    function CHANNEL_CONFIG_TYPEHASH() external view returns (bytes32);

    /// @notice EIP-712 type hash of `Voucher`.
    function VOUCHER_TYPEHASH() external view returns (bytes32);

    /// @notice EIP-712 type hash of `Refund`.
    function REFUND_TYPEHASH() external view returns (bytes32);

    /// @notice EIP-712 type hash of `ClaimEntry`.
    function CLAIM_ENTRY_TYPEHASH() external view returns (bytes32);

    /// @notice EIP-712 type hash of `ClaimBatch`.
    function CLAIM_BATCH_TYPEHASH() external view returns (bytes32);
}
