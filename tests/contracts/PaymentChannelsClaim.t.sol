// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {ChannelWorld} from "./ChannelWorld.sol";
import {IContractWallet, IFailingToken} from "./Deployed.sol";

contract PaymentChannelsClaimTest is ChannelWorld {
    function setUp() public override {
        super.setUp();
        fund(salted(1), 1000);
        fund(salted(2), 1000);
    }

    function batchSignature(uint256 key, IPaymentChannels.VoucherClaim[] memory rows)
        internal
        view
        returns (bytes memory)
    {
        return signed(key, channels.getClaimBatchDigest(rows));
    }

    function test_an_empty_batch_is_refused() public {
        vm.expectRevert(IPaymentChannels.EmptyBatch.selector);
        channels.claim(new IPaymentChannels.VoucherClaim[](0));
        vm.expectRevert(IPaymentChannels.EmptyBatch.selector);
        channels.claimWithSignature(new IPaymentChannels.VoucherClaim[](0), "");
    }

    function test_a_claim_by_a_stranger_is_refused() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 500));
        vm.expectRevert(IPaymentChannels.NotAuthorizedToClaim.selector);
        vm.prank(stranger);
        channels.claim(rows);
    }

    function test_a_batch_with_one_row_of_another_receiver_is_refused_whole() public {
        IPaymentChannels.ChannelConfig memory foreign = plain();
        foreign.receiver = stranger;
        foreign.receiverAuthorizer = stranger;
        fund(foreign, 1000);
        IPaymentChannels.VoucherClaim[] memory rows = new IPaymentChannels.VoucherClaim[](2);
        (rows[0], rows[1]) = (row(plain(), 500, 500), row(foreign, 500, 500));
        vm.expectRevert(IPaymentChannels.NotAuthorizedToClaim.selector);
        vm.prank(receiver);
        channels.claim(rows);
        assertEq(claimedOf(plain()), 0);
    }

    function test_a_claim_above_the_voucher_is_refused() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 501));
        vm.expectRevert(IPaymentChannels.ClaimExceedsCeiling.selector);
        vm.prank(receiver);
        channels.claim(rows);
    }

    function test_a_claim_above_the_balance_is_refused() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 1001, 1001));
        vm.expectRevert(IPaymentChannels.ClaimExceedsBalance.selector);
        vm.prank(receiver);
        channels.claim(rows);
    }

    function test_a_voucher_signed_by_another_key_is_refused() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 500));
        rows[0].signature = signed(authorizerKey, channels.getVoucherDigest(idOf(plain()), 500));
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        vm.prank(receiver);
        channels.claim(rows);
    }

    function test_a_voucher_of_another_channel_is_refused() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(salted(1), 500, 500));
        rows[0].voucher.channel = salted(2);
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        vm.prank(receiver);
        channels.claim(rows);
    }

    function test_a_voucher_with_a_malformed_signature_is_refused() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 500));
        rows[0].signature = hex"0102";
        vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureLength.selector, 2));
        vm.prank(receiver);
        channels.claim(rows);
    }

    function test_a_named_payer_authorizer_is_a_key_and_never_a_contract() public {
        IContractWallet wallet = newWallet(payer);
        IPaymentChannels.ChannelConfig memory config = plain();
        config.payerAuthorizer = address(wallet);
        fund(config, 1000);
        IPaymentChannels.VoucherClaim[] memory rows = only(row(config, 500, 500));
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        vm.prank(receiver);
        channels.claim(rows);
    }

    function test_a_frozen_wallets_voucher_is_refused() public {
        (IPaymentChannels.ChannelConfig memory config, IContractWallet wallet) = walletChannel();
        wallet.freeze();
        IPaymentChannels.VoucherClaim[] memory rows = only(row(config, 500, 500));
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        vm.prank(receiver);
        channels.claim(rows);
    }

    function test_a_batch_signed_by_another_key_is_refused() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 500));
        bytes memory signature = batchSignature(payerKey, rows);
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        channels.claimWithSignature(rows, signature);
    }

    function test_a_signed_batch_with_another_total_is_refused() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 400));
        bytes memory signature = batchSignature(authorizerKey, rows);
        rows[0].totalClaimed = 401;
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        channels.claimWithSignature(rows, signature);
    }

    function test_a_signed_batch_over_two_authorizers_is_refused() public {
        IPaymentChannels.ChannelConfig memory foreign = plain();
        foreign.receiverAuthorizer = stranger;
        fund(foreign, 1000);
        IPaymentChannels.VoucherClaim[] memory rows = new IPaymentChannels.VoucherClaim[](2);
        (rows[0], rows[1]) = (row(plain(), 500, 500), row(foreign, 500, 500));
        bytes memory signature = batchSignature(authorizerKey, rows);
        vm.expectRevert(IPaymentChannels.NotReceiverAuthorizer.selector);
        channels.claimWithSignature(rows, signature);
    }

    function test_a_settlement_that_the_token_answers_with_false_is_refused() public {
        IFailingToken failing = newFailingToken();
        token = failing;
        failing.mint(payer, DOLLAR);
        fund(plain(), 1000);
        claimAll(plain(), 400);
        failing.fail(true);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(failing)));
        channels.settle(receiver, address(failing));

        failing.fail(false);
        channels.settle(receiver, address(failing));
        assertEq(failing.balanceOf(receiver), 400);
    }

    function test_a_claim_books_and_moves_nothing() public {
        vm.expectEmit(address(channels));
        emit IPaymentChannels.Claimed(idOf(plain()), receiver, 400, 400);
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 400));
        vm.prank(receiver);
        channels.claim(rows);

        (uint128 total, uint128 settled) = channels.receivers(receiver, address(token));
        assertEq(claimedOf(plain()), 400);
        assertEq(total, 400);
        assertEq(settled, 0);
        assertEq(token.balanceOf(receiver), 0);
    }

    function test_a_claim_sent_again_changes_nothing() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 400));
        vm.startPrank(authorizer);
        channels.claim(rows);
        vm.recordLogs();
        channels.claim(rows);
        assertEq(vm.getRecordedLogs().length, 0);
        rows[0].totalClaimed = 399;
        channels.claim(rows);
        vm.stopPrank();
        assertEq(claimedOf(plain()), 400);
    }

    function test_anyone_may_submit_a_batch_that_the_authorizer_signed() public {
        IPaymentChannels.VoucherClaim[] memory rows = new IPaymentChannels.VoucherClaim[](2);
        (rows[0], rows[1]) = (row(salted(1), 500, 400), row(salted(2), 300, 300));
        bytes memory signature = batchSignature(authorizerKey, rows);
        vm.prank(stranger);
        channels.claimWithSignature(rows, signature);
        (uint128 total,) = channels.receivers(receiver, address(token));
        assertEq(total, 700);
    }

    function test_a_wallets_voucher_and_a_wallets_batch_are_taken() public {
        (IPaymentChannels.ChannelConfig memory config,) = walletChannel();
        IPaymentChannels.VoucherClaim[] memory rows = only(row(config, 500, 400));
        bytes memory signature = batchSignature(authorizerKey, rows);
        channels.claimWithSignature(rows, signature);
        assertEq(claimedOf(config), 400);
    }

    function test_settling_pays_the_receiver_once() public {
        channels.settle(receiver, address(token));
        assertEq(token.balanceOf(receiver), 0);

        claimAll(salted(1), 400);
        claimAll(salted(2), 300);
        vm.expectEmit(address(channels));
        emit IPaymentChannels.Settled(receiver, address(token), stranger, 700);
        vm.startPrank(stranger);
        channels.settle(receiver, address(token));
        channels.settle(receiver, address(token));
        vm.stopPrank();
        assertEq(token.balanceOf(receiver), 700);
    }

    function testFuzz_a_claim_never_passes_the_smallest_of_voucher_and_balance(uint128 ceiling, uint128 total)
        public
    {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), ceiling, total));
        vm.prank(receiver);
        try channels.claim(rows) {
            assertTrue(total <= ceiling && total <= 1000);
            assertEq(claimedOf(plain()), total);
        } catch {
            assertTrue(total > ceiling || total > 1000);
            assertEq(claimedOf(plain()), 0);
        }
    }

    /// @dev A channel whose payer and receiverAuthorizer are EIP-1271 wallets.
    function walletChannel()
        private
        returns (IPaymentChannels.ChannelConfig memory config, IContractWallet wallet)
    {
        wallet = newWallet(payer);
        config = plain();
        config.payerAuthorizer = address(0);
        config.payer = address(wallet);
        config.receiverAuthorizer = address(newWallet(authorizer));
        token.mint(address(wallet), 1000);
        bytes memory data = authorization(config, 1000, 9, address(wallet));
        channels.deposit(config, 1000, address(collector), data);
    }
}
