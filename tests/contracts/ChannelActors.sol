// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDevUSD} from "../../contracts/interfaces/IDevUSD.sol";
import {IERC3009DepositCollector} from "../../contracts/interfaces/IERC3009DepositCollector.sol";
import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {Deployed} from "./Deployed.sol";

/// @notice Two payers, two receivers, two tokens and a stranger, who do anything in any order: all that is lawful,
/// and all that must fail. It counts what it paid in and got out, and remembers what must never shrink.
contract ChannelActors is Deployed {
    bytes32 private constant RECEIVE_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    IPaymentChannels public immutable channels = newChannels();
    IERC3009DepositCollector public immutable collector = newCollector(address(channels));
    IDevUSD[2] public tokens;
    address[2] public payers;
    uint256[2] private _payerKeys;
    address[2] public receivers;
    address private _authorizer;
    uint256 private _authorizerKey;
    IPaymentChannels.ChannelConfig[] private _configs;
    bytes32[] private _ids;
    IPaymentChannels.VoucherClaim[] private _sent;
    uint256 private _salt;

    /// @notice Atomic units paid in by deposit, by payer and token, and given away to the contract, by token.
    mapping(address payer => mapping(IDevUSD token => uint256)) public deposited;
    mapping(IDevUSD token => uint256) public donated;
    /// @notice The highest ceiling that a channel's payer ever signed.
    mapping(bytes32 channelId => uint128) public signedMax;
    /// @notice What must never shrink, as it was last seen.
    mapping(bytes32 channelId => uint128) private _claimedBefore;
    mapping(bytes32 channelId => uint256) private _nonceBefore;
    mapping(address receiver => mapping(IDevUSD token => IPaymentChannels.ReceiverState)) private
        _receiverBefore;

    /// @notice Whether anything shrank that must not.
    bool public shrank;
    /// @notice Whether anything succeeded that must not.
    bool public trespassed;

    constructor() {
        tokens = [newDollar(), newDollar()];
        (payers[0], _payerKeys[0]) = makeAddrAndKey("first payer");
        (payers[1], _payerKeys[1]) = makeAddrAndKey("second payer");
        receivers = [makeAddr("first receiver"), makeAddr("second receiver")];
        (_authorizer, _authorizerKey) = makeAddrAndKey("receiver authorizer");
        for (uint256 i = 0; i < 8; ++i) {
            _configs.push(
                IPaymentChannels.ChannelConfig({
                    payer: payers[i & 1],
                    payerAuthorizer: i & 4 == 0 ? payers[i & 1] : address(0),
                    receiver: receivers[(i >> 1) & 1],
                    receiverAuthorizer: _authorizer,
                    token: address(tokens[(i >> 2) & 1]),
                    withdrawDelay: uint40(900 + 600 * i),
                    salt: bytes32(i)
                })
            );
            _ids.push(channels.getChannelId(_configs[i]));
        }
    }

    /// @dev After each step: what must never shrink has not.
    modifier watched() {
        _;
        for (uint256 i = 0; i < _configs.length; ++i) {
            bytes32 id = idOf(i);
            (, uint128 claimed) = channels.channels(id);
            uint256 nonce = channels.refundNonce(id);
            if (claimed < _claimedBefore[id] || nonce < _nonceBefore[id]) shrank = true;
            (_claimedBefore[id], _nonceBefore[id]) = (claimed, nonce);
        }
        for (uint256 i = 0; i < 4; ++i) {
            (address receiver, IDevUSD token) = (receivers[i & 1], tokens[i >> 1]);
            (uint128 claimed, uint128 settled) = channels.receivers(receiver, address(token));
            IPaymentChannels.ReceiverState memory before = _receiverBefore[receiver][token];
            if (claimed < before.totalClaimed || settled < before.totalSettled) shrank = true;
            _receiverBefore[receiver][token] = IPaymentChannels.ReceiverState(claimed, settled);
        }
    }

    function deposit(uint256 which, uint128 amount) external watched {
        IPaymentChannels.ChannelConfig memory config = _configs[which % 8];
        amount = uint128(bound(amount, 1, 1e12));
        IDevUSD token = IDevUSD(config.token);
        token.mint(config.payer, amount);
        bytes memory data = _authorization(which % 8, amount);
        channels.deposit(config, amount, address(collector), data);
        deposited[config.payer][token] += amount;
    }

    function claim(uint256 which, uint128 ceiling, uint128 total) external watched {
        IPaymentChannels.VoucherClaim[] memory rows = new IPaymentChannels.VoucherClaim[](1);
        rows[0] = _lawfulRow(which % 8, ceiling, total);
        vm.prank(rows[0].voucher.channel.receiver);
        channels.claim(rows);
    }

    function claimSigned(uint256 one, uint256 two, uint128 ceiling, uint128 total) external watched {
        IPaymentChannels.VoucherClaim[] memory rows = new IPaymentChannels.VoucherClaim[](2);
        rows[0] = _lawfulRow(one % 8, ceiling, total);
        rows[1] = _lawfulRow(two % 8, total, ceiling);
        bytes memory signature = _sign(_authorizerKey, channels.getClaimBatchDigest(rows));
        channels.claimWithSignature(rows, signature);
    }

    function claimAgain(uint256 which) external watched {
        if (_sent.length == 0) return;
        IPaymentChannels.VoucherClaim[] memory rows = new IPaymentChannels.VoucherClaim[](1);
        rows[0] = _sent[which % _sent.length];
        bytes memory signature = _sign(_authorizerKey, channels.getClaimBatchDigest(rows));
        // An old row may ask for more than refunds and withdrawals have left; then it is refused.
        try channels.claimWithSignature(rows, signature) {} catch {}
    }

    function settle(uint256 which) external watched {
        channels.settle(receivers[which & 1], address(tokens[(which >> 1) & 1]));
    }

    function initiateWithdraw(uint256 which, uint128 amount) external watched {
        uint128 available = availableOf(which % 8);
        (, uint40 initiatedAt) = channels.pendingWithdrawals(idOf(which % 8));
        if (available == 0 || initiatedAt != 0) return;
        vm.prank(_configs[which % 8].payer);
        channels.initiateWithdraw(_configs[which % 8], uint128(bound(amount, 1, available)));
    }

    function finalizeWithdraw(uint256 which) external watched {
        uint256 i = _pendingFrom(which % 8);
        IPaymentChannels.ChannelConfig memory config = _configs[i];
        (, uint40 initiatedAt) = channels.pendingWithdrawals(idOf(i));
        bool due = initiatedAt != 0 && block.timestamp >= initiatedAt + config.withdrawDelay;
        vm.prank(config.payer);
        try channels.finalizeWithdraw(config) {
            if (!due) trespassed = true;
        } catch {
            if (due) trespassed = true;
        }
    }

    function refund(uint256 which, uint128 amount) external watched {
        vm.prank(_configs[which % 8].receiver);
        channels.refund(_configs[which % 8], uint128(bound(amount, 1, 1e12)));
    }

    function refundSigned(uint256 which, uint128 amount) external watched {
        amount = uint128(bound(amount, 1, 1e12));
        uint256 nonce = channels.refundNonce(idOf(which % 8));
        bytes32 digest = channels.getRefundDigest(idOf(which % 8), nonce, amount);
        channels.refundWithSignature(_configs[which % 8], amount, nonce, _sign(_authorizerKey, digest));
    }

    function donate(uint256 which, uint96 amount) external watched {
        tokens[which & 1].mint(address(channels), amount);
        donated[tokens[which & 1]] += amount;
    }

    function wait(uint16 time) external watched {
        // Around the shortest delays, so that a withdrawal is tried both too early and in time.
        skip(bound(time, 1, 2000));
    }

    /// @dev Attempts that must fail whatever the state: by a stranger, or above a ceiling or a balance.
    function trespass(uint256 which, uint256 attempt, uint128 amount) external watched {
        IPaymentChannels.ChannelConfig memory config = _configs[which % 8];
        amount = uint128(bound(amount, 1, 1e12));
        (uint128 balance, uint128 claimed) = channels.channels(idOf(which % 8));
        IPaymentChannels.VoucherClaim[] memory rows = new IPaymentChannels.VoucherClaim[](1);
        bytes[5] memory calls;
        rows[0] = _row(which % 8, claimed + amount, claimed + amount);
        calls[0] = abi.encodeCall(channels.claim, (rows));
        calls[1] = abi.encodeCall(channels.refund, (config, amount));
        calls[2] = abi.encodeCall(channels.initiateWithdraw, (config, amount));
        rows[0] = _row(which % 8, balance + amount, balance + amount);
        bytes memory signature = _sign(_authorizerKey, channels.getClaimBatchDigest(rows));
        calls[3] = abi.encodeCall(channels.claimWithSignature, (rows, signature));
        rows[0] = _row(which % 8, claimed, claimed + amount);
        signature = _sign(_authorizerKey, channels.getClaimBatchDigest(rows));
        calls[4] = abi.encodeCall(channels.claimWithSignature, (rows, signature));
        vm.prank(makeAddr("stranger"));
        (bool ok,) = address(channels).call(calls[attempt % 5]);
        if (ok) trespassed = true;
    }

    function idOf(uint256 i) public view returns (bytes32) {
        return _ids[i];
    }

    function availableOf(uint256 i) public view returns (uint128) {
        (uint128 balance, uint128 claimed) = channels.channels(idOf(i));
        return balance - claimed;
    }

    function configOf(uint256 i) external view returns (IPaymentChannels.ChannelConfig memory) {
        return _configs[i];
    }

    /// @dev The next channel with a withdrawal under way; where there is none, the one asked for.
    function _pendingFrom(uint256 which) private view returns (uint256) {
        for (uint256 i = which; i < which + 8; ++i) {
            (, uint40 initiatedAt) = channels.pendingWithdrawals(idOf(i % 8));
            if (initiatedAt != 0) return i % 8;
        }
        return which;
    }

    /// @dev A row within balance and ceiling; perhaps below what is claimed already.
    function _lawfulRow(uint256 i, uint128 ceiling, uint128 total)
        private
        returns (IPaymentChannels.VoucherClaim memory row)
    {
        (uint128 balance,) = channels.channels(idOf(i));
        ceiling = uint128(bound(ceiling, 0, 2 * uint256(balance)));
        total = uint128(bound(total, 0, ceiling < balance ? ceiling : balance));
        row = _row(i, ceiling, total);
        if (ceiling > signedMax[idOf(i)]) signedMax[idOf(i)] = ceiling;
        _sent.push(row);
    }

    function _row(uint256 i, uint128 ceiling, uint128 total)
        private
        view
        returns (IPaymentChannels.VoucherClaim memory row)
    {
        row.voucher = IPaymentChannels.Voucher({channel: _configs[i], maxClaimableAmount: ceiling});
        row.signature = _sign(_payerKeys[i & 1], channels.getVoucherDigest(idOf(i), ceiling));
        row.totalClaimed = total;
    }

    function _authorization(uint256 i, uint256 amount) private returns (bytes memory) {
        bytes32 nonce = keccak256(abi.encode(idOf(i), ++_salt));
        uint256 until = block.timestamp + 60;
        bytes32 request = keccak256(
            abi.encode(RECEIVE_TYPEHASH, _configs[i].payer, address(collector), amount, 0, until, nonce)
        );
        bytes32 domain = IDevUSD(_configs[i].token).DOMAIN_SEPARATOR();
        bytes memory signature =
            _sign(_payerKeys[i & 1], keccak256(abi.encodePacked("\x19\x01", domain, request)));
        return abi.encode(0, until, _salt, signature);
    }

    function _sign(uint256 key, bytes32 digest) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }
}
