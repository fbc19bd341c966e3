// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {ChannelWorld} from "./ChannelWorld.sol";

contract PaymentChannelsWithdrawTest is ChannelWorld {
    uint256 private funded;

    function setUp() public override {
        super.setUp();
        fund(plain(), 1000);
        funded = token.balanceOf(payer);
    }

    function initiate(uint128 amount) private {
        vm.prank(payer);
        channels.initiateWithdraw(plain(), amount);
    }

    function finalize() private {
        vm.prank(payer);
        channels.finalizeWithdraw(plain());
    }

    function test_a_withdrawal_by_a_stranger_or_the_receiver_is_refused() public {
        address[2] memory others = [stranger, receiver];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(IPaymentChannels.NotAuthorizedToFinalizeWithdraw.selector);
            vm.prank(others[i]);
            channels.initiateWithdraw(plain(), 100);
        }
        initiate(100);
        skip(900);
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(IPaymentChannels.NotAuthorizedToFinalizeWithdraw.selector);
            vm.prank(others[i]);
            channels.finalizeWithdraw(plain());
        }
    }

    function test_a_withdrawal_of_nothing_is_refused() public {
        vm.expectRevert(IPaymentChannels.NothingToWithdraw.selector);
        initiate(0);
    }

    function test_a_withdrawal_of_more_than_is_available_is_refused() public {
        claimAll(plain(), 400);
        vm.expectRevert(IPaymentChannels.WithdrawAmountExceedsAvailable.selector);
        initiate(601);
    }

    function test_a_second_withdrawal_is_refused_while_one_is_pending() public {
        initiate(100);
        vm.expectRevert(IPaymentChannels.WithdrawalAlreadyPending.selector);
        initiate(100);
    }

    function test_finalising_what_was_never_initiated_is_refused() public {
        vm.expectRevert(IPaymentChannels.WithdrawalNotPending.selector);
        finalize();
    }

    function test_finalising_before_the_delay_is_over_is_refused() public {
        initiate(100);
        skip(899);
        vm.expectRevert(IPaymentChannels.WithdrawDelayNotElapsed.selector);
        finalize();
    }

    function test_finalising_twice_is_refused() public {
        initiate(100);
        skip(900);
        finalize();
        vm.expectRevert(IPaymentChannels.WithdrawalNotPending.selector);
        finalize();
    }

    function test_a_voucher_left_unclaimed_is_lost_when_the_withdrawal_ends() public {
        initiate(1000);
        skip(900);
        finalize();
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 500));
        vm.expectRevert(IPaymentChannels.ClaimExceedsBalance.selector);
        vm.prank(receiver);
        channels.claim(rows);
    }

    function test_initiating_says_when_it_may_end_and_moves_nothing() public {
        vm.expectEmit(address(channels));
        emit IPaymentChannels.WithdrawInitiated(idOf(plain()), 600, uint40(block.timestamp + 900));
        initiate(600);
        (uint128 amount, uint40 initiatedAt) = channels.pendingWithdrawals(idOf(plain()));
        assertEq(amount, 600);
        assertEq(initiatedAt, block.timestamp);
        assertEq(balanceOf(plain()), 1000);
    }

    function test_the_receiver_can_claim_during_the_delay_and_the_payer_gets_the_rest() public {
        initiate(1000);
        claimAll(plain(), 400);
        skip(900);
        vm.expectEmit(address(channels));
        emit IPaymentChannels.WithdrawFinalized(idOf(plain()), payer, 600);
        finalize();
        assertEq(token.balanceOf(payer), funded + 600);
        assertEq(balanceOf(plain()), 400);
    }

    function test_a_withdrawal_overtaken_by_claims_ends_with_nothing() public {
        initiate(1000);
        claimAll(plain(), 1000);
        skip(900);
        finalize();
        assertEq(token.balanceOf(payer), funded);
        (uint128 amount, uint40 initiatedAt) = channels.pendingWithdrawals(idOf(plain()));
        assertEq(amount + initiatedAt, 0);
    }

    function test_withdrawing_everything_closes_an_unclaimed_channel() public {
        initiate(1000);
        skip(900);
        vm.expectEmit(address(channels));
        emit IPaymentChannels.ChannelClosed(idOf(plain()), plain());
        finalize();
    }

    function test_the_payers_authorizer_may_withdraw_to_the_payer() public {
        IPaymentChannels.ChannelConfig memory config = plain();
        config.payerAuthorizer = makeAddr("session key");
        fund(config, 1000);
        uint256 before = token.balanceOf(payer);
        vm.startPrank(config.payerAuthorizer);
        channels.initiateWithdraw(config, 1000);
        skip(900);
        channels.finalizeWithdraw(config);
        vm.stopPrank();
        assertEq(token.balanceOf(payer), before + 1000);
        assertEq(token.balanceOf(config.payerAuthorizer), 0);
    }

    function testFuzz_a_withdrawal_gives_the_smaller_of_asked_and_still_available(
        uint128 asked,
        uint128 claimed
    ) public {
        asked = uint128(bound(asked, 1, 1000));
        claimed = uint128(bound(claimed, 1, 1000));
        initiate(asked);
        claimAll(plain(), claimed);
        skip(900);
        finalize();
        uint256 expected = asked < 1000 - claimed ? asked : 1000 - claimed;
        assertEq(token.balanceOf(payer), funded + expected);
        assertEq(balanceOf(plain()), 1000 - expected);
    }
}
