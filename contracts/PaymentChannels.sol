// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IDepositCollector} from "./interfaces/IDepositCollector.sol";
import {IPaymentChannels} from "./interfaces/IPaymentChannels.sol";
import {ChannelDigests} from "./libraries/ChannelDigests.sol";
import {ChannelRules} from "./libraries/ChannelRules.sol";

/// @title PaymentChannels
/// @notice See {IPaymentChannels}.
/// @dev Works from code alone: nothing is written to storage by the constructor, the re-entrancy guard is transient,
/// and the domain separator is rebuilt from `block.chainid` and `address(this)` wherever the code runs. A devnet can
/// therefore copy the deployed code to the address that clients expect.
contract PaymentChannels is IPaymentChannels, EIP712, Multicall, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @inheritdoc IPaymentChannels
    uint40 public constant MIN_WITHDRAW_DELAY = ChannelRules.MIN_WITHDRAW_DELAY;
    /// @inheritdoc IPaymentChannels
    uint40 public constant MAX_WITHDRAW_DELAY = ChannelRules.MAX_WITHDRAW_DELAY;
    /// @inheritdoc IPaymentChannels
    bytes32 public constant CHANNEL_CONFIG_TYPEHASH = ChannelDigests.CHANNEL_CONFIG_TYPEHASH;
    /// @inheritdoc IPaymentChannels
    bytes32 public constant VOUCHER_TYPEHASH = ChannelDigests.VOUCHER_TYPEHASH;
    /// @inheritdoc IPaymentChannels
    bytes32 public constant REFUND_TYPEHASH = ChannelDigests.REFUND_TYPEHASH;
    /// @inheritdoc IPaymentChannels
    bytes32 public constant CLAIM_ENTRY_TYPEHASH = ChannelDigests.CLAIM_ENTRY_TYPEHASH;
    /// @inheritdoc IPaymentChannels
    bytes32 public constant CLAIM_BATCH_TYPEHASH = ChannelDigests.CLAIM_BATCH_TYPEHASH;

    /// @inheritdoc IPaymentChannels
    mapping(bytes32 channelId => ChannelState) public channels;
    /// @inheritdoc IPaymentChannels
    mapping(bytes32 channelId => WithdrawalState) public pendingWithdrawals;
    /// @inheritdoc IPaymentChannels
    mapping(bytes32 channelId => uint256 nonce) public refundNonce;
    /// @inheritdoc IPaymentChannels
    mapping(address receiver => mapping(address token => ReceiverState)) public receivers;

    constructor() EIP712("x402 Batch Settlement", "1") {}

    /// @inheritdoc IPaymentChannels
    function deposit(
        ChannelConfig calldata config,
        uint128 amount,
        address collector,
        bytes calldata collectorData
    ) external nonReentrant {
        // Check
        ChannelRules.check(config);
        if (amount == 0) revert ZeroDeposit();
        if (collector.code.length == 0) revert InvalidCollector();
        bytes32 channelId = getChannelId(config);
        ChannelState memory channel = channels[channelId];
        if (amount > type(uint128).max - channel.balance) revert DepositOverflow();

        // Effect
        bool created = channel.balance == 0;
        channel.balance += amount;
        channels[channelId].balance = channel.balance;

        // Log
        if (created) emit ChannelCreated(channelId, config);
        emit Deposited(channelId, msg.sender, amount, channel.balance);

        // Interaction
        IERC20 token = IERC20(config.token);
        uint256 held = token.balanceOf(address(this));
        IDepositCollector(collector).collect(config.payer, config.token, amount, channelId, collectorData);
        if (token.balanceOf(address(this)) != held + amount) revert DepositCollectionFailed();
    }

    /// @inheritdoc IPaymentChannels
    function claim(VoucherClaim[] calldata claims) external nonReentrant {
        // Check
        if (claims.length == 0) revert EmptyBatch();

        bytes32 domain = _domainSeparatorV4();
        for (uint256 i = 0; i < claims.length; ++i) {
            ChannelConfig calldata config = claims[i].voucher.channel;
            if (!ChannelRules.isReceiverSide(config, msg.sender)) revert NotAuthorizedToClaim();
            _claimRow(claims[i], ChannelDigests.channelId(domain, config), domain);
        }
    }

    /// @inheritdoc IPaymentChannels
    function claimWithSignature(VoucherClaim[] calldata claims, bytes calldata authorizerSignature)
        external
        nonReentrant
    {
        // Check
        if (claims.length == 0) revert EmptyBatch();
        address authorizer = claims[0].voucher.channel.receiverAuthorizer;
        for (uint256 i = 1; i < claims.length; ++i) {
            if (claims[i].voucher.channel.receiverAuthorizer != authorizer) revert NotReceiverAuthorizer();
        }
        bytes32 domain = _domainSeparatorV4();
        bytes32[] memory ids = ChannelDigests.channelIds(domain, claims);
        _checkSigned(authorizer, ChannelDigests.claimBatch(domain, ids, claims), authorizerSignature);

        for (uint256 i = 0; i < claims.length; ++i) {
            _claimRow(claims[i], ids[i], domain);
        }
    }

    /// @inheritdoc IPaymentChannels
    function settle(address receiver, address token) external nonReentrant {
        // Check
        ReceiverState memory state = receivers[receiver][token];
        uint128 amount = state.totalClaimed - state.totalSettled;
        if (amount == 0) return;

        // Effect
        receivers[receiver][token].totalSettled = state.totalClaimed;

        // Log
        emit Settled(receiver, token, msg.sender, amount);

        // Interaction
        IERC20(token).safeTransfer(receiver, amount);
    }

    /// @inheritdoc IPaymentChannels
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        // Check
        if (!ChannelRules.isPayerSide(config, msg.sender)) revert NotAuthorizedToFinalizeWithdraw();
        if (amount == 0) revert NothingToWithdraw();
        bytes32 channelId = getChannelId(config);
        if (pendingWithdrawals[channelId].initiatedAt != 0) revert WithdrawalAlreadyPending();
        ChannelState memory channel = channels[channelId];
        if (amount > channel.balance - channel.totalClaimed) revert WithdrawAmountExceedsAvailable();

        // Effect
        uint40 initiatedAt = uint40(block.timestamp);
        pendingWithdrawals[channelId] = WithdrawalState({amount: amount, initiatedAt: initiatedAt});

        // Log
        emit WithdrawInitiated(channelId, amount, initiatedAt + config.withdrawDelay);
    }

    /// @inheritdoc IPaymentChannels
    function finalizeWithdraw(ChannelConfig calldata config) external nonReentrant {
        // Check
        if (!ChannelRules.isPayerSide(config, msg.sender)) revert NotAuthorizedToFinalizeWithdraw();
        bytes32 channelId = getChannelId(config);
        WithdrawalState memory pending = pendingWithdrawals[channelId];
        if (pending.initiatedAt == 0) revert WithdrawalNotPending();
        if (block.timestamp < uint256(pending.initiatedAt) + config.withdrawDelay) {
            revert WithdrawDelayNotElapsed();
        }

        // Effect
        delete pendingWithdrawals[channelId];
        (uint128 amount, bool closed) = _release(channelId, pending.amount);

        // Log
        emit WithdrawFinalized(channelId, msg.sender, amount);
        if (closed) emit ChannelClosed(channelId, config);

        // Interaction
        if (amount != 0) IERC20(config.token).safeTransfer(config.payer, amount);
    }

    /// @inheritdoc IPaymentChannels
    function refund(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        // Check
        if (!ChannelRules.isReceiverSide(config, msg.sender)) revert NotAuthorizedToRefund();
        if (amount == 0) revert ZeroRefund();

        _refund(config, getChannelId(config), amount);
    }

    /// @inheritdoc IPaymentChannels
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata authorizerSignature
    ) external nonReentrant {
        // Check
        if (amount == 0) revert ZeroRefund();
        bytes32 channelId = getChannelId(config);
        if (nonce != refundNonce[channelId]) revert InvalidRefundNonce();
        _checkSigned(
            config.receiverAuthorizer, getRefundDigest(channelId, nonce, amount), authorizerSignature
        );

        _refund(config, channelId, amount);
    }

    /// @inheritdoc IPaymentChannels
    function multicall(bytes[] calldata data)
        public
        override(IPaymentChannels, Multicall)
        returns (bytes[] memory results)
    {
        return super.multicall(data);
    }

    /// @inheritdoc IPaymentChannels
    function getClaimBatchDigest(VoucherClaim[] calldata claims) external view returns (bytes32) {
        bytes32 domain = _domainSeparatorV4();
        return ChannelDigests.claimBatch(domain, ChannelDigests.channelIds(domain, claims), claims);
    }

    /// @inheritdoc IPaymentChannels
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32) {
        return ChannelDigests.voucher(_domainSeparatorV4(), channelId, maxClaimableAmount);
    }

    /// @inheritdoc IPaymentChannels
    function getChannelId(ChannelConfig calldata config) public view returns (bytes32) {
        return ChannelDigests.channelId(_domainSeparatorV4(), config);
    }

    /// @inheritdoc IPaymentChannels
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) public view returns (bytes32) {
        return ChannelDigests.refund(_domainSeparatorV4(), channelId, nonce, amount);
    }

    function _claimRow(VoucherClaim calldata row, bytes32 channelId, bytes32 domain) private {
        ChannelConfig calldata config = row.voucher.channel;
        ChannelState memory channel = channels[channelId];
        uint128 total = row.totalClaimed;
        if (total <= channel.totalClaimed) return;

        // Check
        if (total > row.voucher.maxClaimableAmount) revert ClaimExceedsCeiling();
        if (total > channel.balance) revert ClaimExceedsBalance();
        bytes32 digest = ChannelDigests.voucher(domain, channelId, row.voucher.maxClaimableAmount);
        _checkVoucher(config, digest, row.signature);

        // Effect
        uint128 amount = total - channel.totalClaimed;
        channels[channelId].totalClaimed = total;
        receivers[config.receiver][config.token].totalClaimed += amount;

        // Log
        emit Claimed(channelId, msg.sender, amount, total);
    }

    function _refund(ChannelConfig calldata config, bytes32 channelId, uint128 asked) private {
        // Effect
        ++refundNonce[channelId];
        (uint128 amount, bool closed) = _release(channelId, asked);
        if (amount == 0) return;
        WithdrawalState memory pending = pendingWithdrawals[channelId];
        if (pending.initiatedAt != 0) {
            if (amount >= pending.amount) delete pendingWithdrawals[channelId];
            else pendingWithdrawals[channelId].amount = pending.amount - amount;
        }

        // Log
        emit Refunded(channelId, msg.sender, amount);
        if (closed) emit ChannelClosed(channelId, config);

        // Interaction
        IERC20(config.token).safeTransfer(config.payer, amount);
    }

    /// @dev Takes up to `asked` of what is available out of a channel's balance.
    /// @return amount What was taken.
    /// @return closed Whether this emptied a channel on which nothing was ever claimed.
    function _release(bytes32 channelId, uint128 asked) private returns (uint128 amount, bool closed) {
        ChannelState memory channel = channels[channelId];
        uint128 available = channel.balance - channel.totalClaimed;
        amount = asked < available ? asked : available;
        if (amount == 0) return (0, false);
        channel.balance -= amount;
        channels[channelId].balance = channel.balance;
        closed = channel.balance == 0;
    }

    /// @dev A named payerAuthorizer is a key: recovering it needs no call, so a claim's gas is known beforehand.
    function _checkVoucher(ChannelConfig calldata config, bytes32 digest, bytes calldata signature)
        private
        view
    {
        address authorizer = config.payerAuthorizer;
        if (authorizer == address(0)) {
            _checkSigned(config.payer, digest, signature);
        } else if (ECDSA.recoverCalldata(digest, signature) != authorizer) {
            revert InvalidSignature();
        }
    }

    function _checkSigned(address signer, bytes32 digest, bytes calldata signature) private view {
        if (!SignatureChecker.isValidSignatureNowCalldata(signer, digest, signature)) {
            revert InvalidSignature();
        }
    }
}
