// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDevUSD} from "../../contracts/interfaces/IDevUSD.sol";
import {IERC3009DepositCollector} from "../../contracts/interfaces/IERC3009DepositCollector.sol";
import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {Deployed} from "./Deployed.sol";

/// @notice A small world with a payer, a receiver, a token and the channels contract, and the signatures they make.
abstract contract ChannelWorld is Deployed {
    uint256 internal constant DOLLAR = 1e6;
    bytes32 internal constant RECEIVE_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    IPaymentChannels internal channels;
    IERC3009DepositCollector internal collector;
    IDevUSD internal token;

    address internal payer;
    uint256 internal payerKey;
    address internal receiver;
    address internal authorizer;
    uint256 internal authorizerKey;
    address internal stranger;

    function setUp() public virtual {
        vm.warp(1_750_000_000);
        channels = newChannels();
        collector = newCollector(address(channels));
        token = newDollar();
        (payer, payerKey) = makeAddrAndKey("payer");
        receiver = makeAddr("receiver");
        (authorizer, authorizerKey) = makeAddrAndKey("receiver authorizer");
        stranger = makeAddr("stranger");
        token.mint(payer, 1_000_000 * DOLLAR);
    }

    /// @dev The channel that most tests use.
    function plain() internal view returns (IPaymentChannels.ChannelConfig memory) {
        return salted(1);
    }

    function salted(uint256 salt) internal view returns (IPaymentChannels.ChannelConfig memory) {
        return IPaymentChannels.ChannelConfig({
            payer: payer,
            payerAuthorizer: payer,
            receiver: receiver,
            receiverAuthorizer: authorizer,
            token: address(token),
            withdrawDelay: 900,
            salt: bytes32(salt)
        });
    }

    function idOf(IPaymentChannels.ChannelConfig memory config) internal view returns (bytes32) {
        return channels.getChannelId(config);
    }

    function signed(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev The payer's authorisation of one deposit, as the collector takes it.
    function authorization(IPaymentChannels.ChannelConfig memory config, uint256 amount, uint256 salt)
        internal
        view
        returns (bytes memory)
    {
        return authorization(config, amount, salt, payer);
    }

    /// @dev The same, with tokens of a wallet whose key is the payer's.
    function authorization(
        IPaymentChannels.ChannelConfig memory config,
        uint256 amount,
        uint256 salt,
        address from
    ) internal view returns (bytes memory) {
        bytes32 nonce = keccak256(abi.encode(idOf(config), salt));
        (uint256 validAfter, uint256 validBefore) = (block.timestamp - 1, block.timestamp + 60);
        bytes32 request = keccak256(
            abi.encode(RECEIVE_TYPEHASH, from, address(collector), amount, validAfter, validBefore, nonce)
        );
        bytes32 domain = IDevUSD(config.token).DOMAIN_SEPARATOR();
        bytes memory signature = signed(payerKey, keccak256(abi.encodePacked("\x19\x01", domain, request)));
        return abi.encode(validAfter, validBefore, salt, signature);
    }

    function fund(IPaymentChannels.ChannelConfig memory config, uint128 amount) internal {
        bytes memory data = authorization(config, amount, vm.randomUint());
        channels.deposit(config, amount, address(collector), data);
    }

    /// @dev A claim of `total` under a voucher for `ceiling`.
    function row(IPaymentChannels.ChannelConfig memory config, uint128 ceiling, uint128 total)
        internal
        view
        returns (IPaymentChannels.VoucherClaim memory)
    {
        bytes memory signature = signed(payerKey, channels.getVoucherDigest(idOf(config), ceiling));
        return IPaymentChannels.VoucherClaim({
            voucher: IPaymentChannels.Voucher({channel: config, maxClaimableAmount: ceiling}),
            signature: signature,
            totalClaimed: total
        });
    }

    function only(IPaymentChannels.VoucherClaim memory claim)
        internal
        pure
        returns (IPaymentChannels.VoucherClaim[] memory rows)
    {
        rows = new IPaymentChannels.VoucherClaim[](1);
        rows[0] = claim;
    }

    function claimAll(IPaymentChannels.ChannelConfig memory config, uint128 total) internal {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(config, total, total));
        vm.prank(receiver);
        channels.claim(rows);
    }

    function refundSignature(IPaymentChannels.ChannelConfig memory config, uint256 nonce, uint128 amount)
        internal
        view
        returns (bytes memory)
    {
        return signed(authorizerKey, channels.getRefundDigest(idOf(config), nonce, amount));
    }

    function balanceOf(IPaymentChannels.ChannelConfig memory config) internal view returns (uint128 balance) {
        (balance,) = channels.channels(idOf(config));
    }

    function claimedOf(IPaymentChannels.ChannelConfig memory config) internal view returns (uint128 claimed) {
        (, claimed) = channels.channels(idOf(config));
    }
}
