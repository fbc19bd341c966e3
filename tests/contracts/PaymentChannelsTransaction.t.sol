// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {ChannelWorld} from "./ChannelWorld.sol";
import {IReentrantToken} from "./Deployed.sol";

/// @notice Calls within calls: a token that calls back, and several calls in one transaction.
contract PaymentChannelsTransactionTest is ChannelWorld {
    IReentrantToken private sly;

    function setUp() public override {
        super.setUp();
        sly = newReentrantToken();
        token = sly;
        sly.mint(payer, DOLLAR);
        fund(plain(), 1000);
    }

    /// @dev Every way in, with arguments that would be lawful on their own.
    function waysIn() private view returns (bytes[] memory calls) {
        calls = new bytes[](9);
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 500));
        bytes memory batch = signed(authorizerKey, channels.getClaimBatchDigest(rows));
        bytes memory data = authorization(plain(), 10, 99);
        calls[0] = abi.encodeCall(channels.deposit, (plain(), 10, address(collector), data));
        calls[1] = abi.encodeCall(channels.claim, (rows));
        calls[2] = abi.encodeCall(channels.claimWithSignature, (rows, batch));
        calls[3] = abi.encodeCall(channels.settle, (receiver, address(sly)));
        calls[4] = abi.encodeCall(channels.initiateWithdraw, (plain(), 10));
        calls[5] = abi.encodeCall(channels.finalizeWithdraw, (plain()));
        calls[6] = abi.encodeCall(channels.refund, (plain(), 10));
        uint256 nonce = channels.refundNonce(idOf(plain()));
        bytes memory refundSigned = refundSignature(plain(), nonce, 10);
        calls[7] = abi.encodeCall(channels.refundWithSignature, (plain(), 10, nonce, refundSigned));
        calls[8] = abi.encodeCall(channels.multicall, (only(calls[3])));
    }

    function only(bytes memory call) private pure returns (bytes[] memory calls) {
        calls = new bytes[](1);
        calls[0] = call;
    }

    function assertKeptOut() private view {
        assertFalse(sly.succeeded());
        assertEq(bytes4(sly.answer()), ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
    }

    function test_no_way_in_is_open_while_a_deposit_is_under_way() public {
        bytes[] memory calls = waysIn();
        for (uint256 i = 0; i < calls.length; ++i) {
            sly.arm(address(channels), calls[i]);
            fund(plain(), 100);
            assertKeptOut();
        }
        assertEq(balanceOf(plain()), 1000 + 100 * calls.length);
    }

    function test_no_way_in_is_open_while_a_settlement_is_under_way() public {
        bytes[] memory calls = waysIn();
        for (uint256 i = 0; i < calls.length; ++i) {
            claimAll(plain(), claimedOf(plain()) + 1);
            sly.arm(address(channels), calls[i]);
            channels.settle(receiver, address(sly));
            assertKeptOut();
        }
        assertEq(sly.balanceOf(receiver), calls.length);
    }

    function test_no_way_in_is_open_while_a_refund_is_under_way() public {
        bytes[] memory calls = waysIn();
        for (uint256 i = 0; i < calls.length; ++i) {
            sly.arm(address(channels), calls[i]);
            vm.prank(receiver);
            channels.refund(plain(), 1);
            assertKeptOut();
        }
        assertEq(balanceOf(plain()), 1000 - calls.length);
    }

    function test_no_way_in_is_open_while_a_withdrawal_is_under_way() public {
        bytes[] memory calls = waysIn();
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(payer);
            channels.initiateWithdraw(plain(), 1);
            skip(900);
            sly.arm(address(channels), calls[i]);
            vm.prank(payer);
            channels.finalizeWithdraw(plain());
            assertKeptOut();
        }
        assertEq(balanceOf(plain()), 1000 - calls.length);
    }

    function test_one_call_that_fails_undoes_the_whole_transaction() public {
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(channels.refund, (plain(), 10));
        calls[1] = abi.encodeCall(channels.refund, (plain(), 0));
        vm.expectRevert(IPaymentChannels.ZeroRefund.selector);
        vm.prank(receiver);
        channels.multicall(calls);
        assertEq(balanceOf(plain()), 1000);
    }

    function test_a_multicall_gives_nobody_another_name() public {
        bytes[] memory calls = only(abi.encodeCall(channels.refund, (plain(), 10)));
        vm.expectRevert(IPaymentChannels.NotAuthorizedToRefund.selector);
        vm.prank(stranger);
        channels.multicall(calls);
    }

    function test_claiming_refunding_and_settling_fit_one_transaction() public {
        IPaymentChannels.VoucherClaim[] memory rows = only(row(plain(), 500, 400));
        bytes[] memory calls = new bytes[](3);
        bytes memory batch = signed(authorizerKey, channels.getClaimBatchDigest(rows));
        bytes memory refundSigned = refundSignature(plain(), 0, 600);
        calls[0] = abi.encodeCall(channels.claimWithSignature, (rows, batch));
        calls[1] = abi.encodeCall(channels.refundWithSignature, (plain(), 600, 0, refundSigned));
        calls[2] = abi.encodeCall(channels.settle, (receiver, address(sly)));
        vm.prank(stranger);
        channels.multicall(calls);
        assertEq(sly.balanceOf(receiver), 400);
        assertEq(balanceOf(plain()), 400);
        assertEq(sly.balanceOf(address(channels)), 0);
    }
}
