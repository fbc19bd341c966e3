// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Vm} from "forge-std/Vm.sol";

import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {ChannelWorld} from "./ChannelWorld.sol";
import {ISilentToken} from "./Deployed.sol";

contract PaymentChannelsDepositTest is ChannelWorld {
    function test_a_config_without_payer_receiver_authorizer_or_token_is_refused() public {
        for (uint256 missing = 0; missing < 4; ++missing) {
            IPaymentChannels.ChannelConfig memory config = plain();
            if (missing == 0) config.payer = address(0);
            if (missing == 1) config.receiver = address(0);
            if (missing == 2) config.receiverAuthorizer = address(0);
            if (missing == 3) config.token = address(0);
            vm.expectRevert(IPaymentChannels.InvalidChannel.selector);
            channels.deposit(config, 1, address(collector), "");
        }
    }

    function test_a_withdraw_delay_outside_the_range_is_refused() public {
        IPaymentChannels.ChannelConfig memory config = plain();
        config.withdrawDelay = channels.MIN_WITHDRAW_DELAY() - 1;
        vm.expectRevert(IPaymentChannels.WithdrawDelayOutOfRange.selector);
        channels.deposit(config, 1, address(collector), "");

        config.withdrawDelay = channels.MAX_WITHDRAW_DELAY() + 1;
        vm.expectRevert(IPaymentChannels.WithdrawDelayOutOfRange.selector);
        channels.deposit(config, 1, address(collector), "");
    }

    function test_a_deposit_of_nothing_is_refused() public {
        vm.expectRevert(IPaymentChannels.ZeroDeposit.selector);
        channels.deposit(plain(), 0, address(collector), "");
    }

    function test_a_collector_without_code_is_refused() public {
        vm.expectRevert(IPaymentChannels.InvalidCollector.selector);
        channels.deposit(plain(), 1, address(0), "");
        vm.expectRevert(IPaymentChannels.InvalidCollector.selector);
        channels.deposit(plain(), 1, stranger, "");
    }

    function test_a_balance_above_128_bits_is_refused() public {
        address generous = newSkewedCollector(0);
        channels.deposit(plain(), type(uint128).max, generous, "");
        vm.expectRevert(IPaymentChannels.DepositOverflow.selector);
        channels.deposit(plain(), 1, generous, "");
    }

    function test_a_collector_that_brings_too_little_or_too_much_is_refused() public {
        for (int256 skew = -2; skew <= 2; ++skew) {
            if (skew == 0) continue;
            address skewed = newSkewedCollector(skew);
            vm.expectRevert(IPaymentChannels.DepositCollectionFailed.selector);
            channels.deposit(plain(), 2, skewed, "");
        }
    }

    function test_a_token_that_takes_a_fee_is_refused() public {
        token = newFeeToken();
        token.mint(payer, DOLLAR);
        bytes memory data = authorization(plain(), 1000, 7);
        // The collector itself has received too little to pass on.
        vm.expectRevert();
        channels.deposit(plain(), 1000, address(collector), data);

        // Nor does it help to make up for the collector's loss: the channel counts what arrives.
        token.mint(address(collector), 10);
        vm.expectRevert(IPaymentChannels.DepositCollectionFailed.selector);
        channels.deposit(plain(), 1000, address(collector), data);
    }

    function test_a_collector_that_reenters_is_refused() public {
        address sly = newReentrantCollector();
        bytes memory inner = abi.encodeCall(channels.settle, (receiver, address(token)));
        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        channels.deposit(plain(), 1, address(sly), inner);

        inner =
            abi.encodeCall(channels.deposit, (plain(), 1, address(collector), authorization(plain(), 1, 7)));
        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        channels.deposit(plain(), 1, address(sly), inner);
    }

    function test_an_authorisation_of_another_amount_is_refused() public {
        bytes memory data = authorization(plain(), 1000, 7);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        channels.deposit(plain(), 1001, address(collector), data);
    }

    function test_an_authorisation_for_another_channel_is_refused() public {
        bytes memory data = authorization(salted(1), 1000, 7);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        channels.deposit(salted(2), 1000, address(collector), data);
    }

    function test_an_authorisation_is_refused_the_second_time() public {
        bytes memory data = authorization(plain(), 1000, 7);
        channels.deposit(plain(), 1000, address(collector), data);
        bytes32 nonce = keccak256(abi.encode(idOf(plain()), uint256(7)));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, nonce));
        channels.deposit(plain(), 1000, address(collector), data);
    }

    function test_a_first_deposit_opens_the_channel() public {
        bytes32 id = idOf(plain());
        bytes memory data = authorization(plain(), 1000, 7);
        vm.expectEmit(address(channels));
        emit IPaymentChannels.ChannelCreated(id, plain());
        vm.expectEmit(address(channels));
        emit IPaymentChannels.Deposited(id, stranger, 1000, 1000);
        vm.prank(stranger);
        channels.deposit(plain(), 1000, address(collector), data);

        (uint128 balance, uint128 claimed) = channels.channels(id);
        assertEq(balance, 1000);
        assertEq(claimed, 0);
        assertEq(token.balanceOf(address(channels)), 1000);
        assertEq(token.balanceOf(address(collector)), 0);
    }

    function test_a_second_deposit_tops_the_channel_up() public {
        fund(plain(), 1000);
        bytes memory data = authorization(plain(), 500, 8);
        vm.recordLogs();
        channels.deposit(plain(), 500, address(collector), data);
        bytes32 created = IPaymentChannels.ChannelCreated.selector;
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            assertNotEq(logs[i].topics[0], created);
        }
        assertEq(balanceOf(plain()), 1500);
    }

    function test_a_token_whose_transfer_returns_nothing_is_served() public {
        ISilentToken silent = newSilentToken();
        silent.mint(payer, 1000);
        IPaymentChannels.ChannelConfig memory config = plain();
        config.token = address(silent);
        channels.deposit(config, 1000, address(collector), abi.encode(0, 1, 2, bytes("")));
        assertEq(silent.balanceOf(address(channels)), 1000);

        claimAll(config, 400);
        channels.settle(receiver, address(silent));
        assertEq(silent.balanceOf(receiver), 400);
    }

    function testFuzz_what_is_deposited_is_what_the_channel_holds(uint64 first, uint64 second) public {
        uint128 one = uint128(bound(first, 1, 1000 * DOLLAR));
        uint128 two = uint128(bound(second, 1, 1000 * DOLLAR));
        fund(plain(), one);
        fund(plain(), two);
        assertEq(balanceOf(plain()), one + two);
        assertEq(token.balanceOf(address(channels)), one + two);
    }
}
