// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {ChannelWorld} from "./ChannelWorld.sol";

contract PaymentChannelsRefundTest is ChannelWorld {
    uint256 private funded;

    function setUp() public override {
        super.setUp();
        fund(plain(), 1000);
        funded = token.balanceOf(payer);
    }

    function test_a_refund_by_a_stranger_or_the_payer_is_refused() public {
        vm.expectRevert(IPaymentChannels.NotAuthorizedToRefund.selector);
        vm.prank(stranger);
        channels.refund(plain(), 100);
        vm.expectRevert(IPaymentChannels.NotAuthorizedToRefund.selector);
        vm.prank(payer);
        channels.refund(plain(), 100);
    }

    function test_a_refund_of_nothing_is_refused() public {
        vm.expectRevert(IPaymentChannels.ZeroRefund.selector);
        vm.prank(receiver);
        channels.refund(plain(), 0);
        vm.expectRevert(IPaymentChannels.ZeroRefund.selector);
        channels.refundWithSignature(plain(), 0, 0, "");
    }

    function test_a_signed_refund_with_another_nonce_is_refused() public {
        bytes memory signature = refundSignature(plain(), 1, 100);
        vm.expectRevert(IPaymentChannels.InvalidRefundNonce.selector);
        channels.refundWithSignature(plain(), 100, 1, signature);
    }

    function test_a_signed_refund_is_refused_the_second_time() public {
        bytes memory signature = refundSignature(plain(), 0, 100);
        channels.refundWithSignature(plain(), 100, 0, signature);
        vm.expectRevert(IPaymentChannels.InvalidRefundNonce.selector);
        channels.refundWithSignature(plain(), 100, 0, signature);
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        channels.refundWithSignature(plain(), 100, 1, signature);
    }

    function test_a_direct_refund_uses_up_the_nonce_of_a_signed_one() public {
        bytes memory signature = refundSignature(plain(), 0, 100);
        vm.prank(receiver);
        channels.refund(plain(), 100);
        vm.expectRevert(IPaymentChannels.InvalidRefundNonce.selector);
        channels.refundWithSignature(plain(), 100, 0, signature);
    }

    function test_a_signed_refund_of_another_amount_or_channel_is_refused() public {
        bytes memory signature = refundSignature(plain(), 0, 100);
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        channels.refundWithSignature(plain(), 101, 0, signature);
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        channels.refundWithSignature(salted(2), 100, 0, signature);
    }

    function test_a_refund_signed_by_the_payer_is_refused() public {
        bytes memory signature = signed(payerKey, channels.getRefundDigest(idOf(plain()), 0, 100));
        vm.expectRevert(IPaymentChannels.InvalidSignature.selector);
        channels.refundWithSignature(plain(), 100, 0, signature);
    }

    function test_a_refund_takes_nothing_that_was_claimed() public {
        claimAll(plain(), 400);
        vm.expectEmit(address(channels));
        emit IPaymentChannels.Refunded(idOf(plain()), receiver, 600);
        vm.prank(receiver);
        channels.refund(plain(), 1000);
        assertEq(balanceOf(plain()), 400);
        assertEq(token.balanceOf(payer), funded + 600);

        channels.settle(receiver, address(token));
        assertEq(token.balanceOf(receiver), 400);
    }

    function test_a_refund_from_an_exhausted_channel_moves_nothing_but_the_nonce() public {
        claimAll(plain(), 1000);
        vm.recordLogs();
        vm.prank(receiver);
        channels.refund(plain(), 1);
        assertEq(vm.getRecordedLogs().length, 0);
        assertEq(channels.refundNonce(idOf(plain())), 1);
        assertEq(token.balanceOf(payer), funded);
    }

    function test_refunding_everything_closes_a_channel_and_a_deposit_opens_it_again() public {
        vm.expectEmit(address(channels));
        emit IPaymentChannels.Refunded(idOf(plain()), authorizer, 1000);
        vm.expectEmit(address(channels));
        emit IPaymentChannels.ChannelClosed(idOf(plain()), plain());
        vm.prank(authorizer);
        channels.refund(plain(), 1000);
        assertEq(balanceOf(plain()), 0);

        bytes memory data = authorization(plain(), 10, 77);
        vm.expectEmit(address(channels));
        emit IPaymentChannels.ChannelCreated(idOf(plain()), plain());
        channels.deposit(plain(), 10, address(collector), data);
    }

    function test_anyone_may_submit_a_refund_that_the_authorizer_signed() public {
        bytes memory signature = refundSignature(plain(), 0, 300);
        vm.prank(stranger);
        channels.refundWithSignature(plain(), 300, 0, signature);
        assertEq(token.balanceOf(payer), funded + 300);
        assertEq(token.balanceOf(stranger), 0);
        assertEq(channels.refundNonce(idOf(plain())), 1);
    }

    function test_a_wallet_may_be_the_authorizer_of_refunds() public {
        IPaymentChannels.ChannelConfig memory config = plain();
        config.receiverAuthorizer = address(newWallet(authorizer));
        fund(config, 1000);
        bytes memory signature = refundSignature(config, 0, 300);
        channels.refundWithSignature(config, 300, 0, signature);
        assertEq(balanceOf(config), 700);
    }

    function test_a_refund_takes_the_place_of_a_pending_withdrawal_as_far_as_it_goes() public {
        vm.prank(payer);
        channels.initiateWithdraw(plain(), 500);
        vm.startPrank(receiver);
        channels.refund(plain(), 200);
        (uint128 amount, uint40 initiatedAt) = channels.pendingWithdrawals(idOf(plain()));
        assertEq(amount, 300);
        assertEq(initiatedAt, block.timestamp);

        channels.refund(plain(), 300);
        (amount, initiatedAt) = channels.pendingWithdrawals(idOf(plain()));
        assertEq(amount, 0);
        assertEq(initiatedAt, 0);
        vm.stopPrank();
    }

    function testFuzz_a_refund_gives_the_smaller_of_asked_and_available(uint128 claimed, uint128 asked)
        public
    {
        claimed = uint128(bound(claimed, 1, 1000));
        asked = uint128(bound(asked, 1, type(uint128).max));
        claimAll(plain(), claimed);
        vm.prank(receiver);
        channels.refund(plain(), asked);
        uint256 expected = asked < 1000 - claimed ? asked : 1000 - claimed;
        assertEq(token.balanceOf(payer), funded + expected);
        assertEq(balanceOf(plain()), 1000 - expected);
    }
}
