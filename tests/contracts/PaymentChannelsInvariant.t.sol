// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {IDevUSD} from "../../contracts/interfaces/IDevUSD.sol";
import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {ChannelActors} from "./ChannelActors.sol";

/// @notice What holds in PaymentChannels after any sequence of steps, by anyone.
contract PaymentChannelsInvariantTest is Test {
    ChannelActors private actors;
    IPaymentChannels private channels;

    function setUp() public {
        vm.warp(1_750_000_000);
        actors = new ChannelActors();
        channels = actors.channels();
        targetContract(address(actors));
        bytes4[] memory steps = new bytes4[](13);
        steps[0] = actors.deposit.selector;
        steps[1] = actors.deposit.selector;
        steps[2] = actors.claim.selector;
        steps[3] = actors.claimSigned.selector;
        steps[4] = actors.claimAgain.selector;
        steps[5] = actors.settle.selector;
        steps[6] = actors.initiateWithdraw.selector;
        steps[7] = actors.finalizeWithdraw.selector;
        steps[8] = actors.refund.selector;
        steps[9] = actors.refundSigned.selector;
        steps[10] = actors.donate.selector;
        steps[11] = actors.wait.selector;
        steps[12] = actors.trespass.selector;
        targetSelector(FuzzSelector({addr: address(actors), selectors: steps}));
    }

    /// @dev One campaign for all of them: each would be tried on the same sequences.
    function invariant_every_step_keeps_every_promise() public view {
        the_contract_holds_what_it_owes_and_what_it_was_given();
        nothing_is_claimed_above_the_balance_or_the_signed_ceiling();
        a_receivers_claims_are_the_sum_of_its_channels_claims();
        a_payer_gets_back_only_its_own();
        claims_settlements_and_nonces_never_shrink();
        what_must_fail_fails_and_what_is_due_succeeds();
        nothing_stays_with_the_collector();
    }

    /// @dev What the contract owes in a token: what payers can take back and receivers have not been paid.
    function owed(IDevUSD token) private view returns (uint256 sum) {
        for (uint256 i = 0; i < 8; ++i) {
            if (actors.configOf(i).token == address(token)) sum += actors.availableOf(i);
        }
        for (uint256 i = 0; i < 2; ++i) {
            (uint128 claimed, uint128 settled) = channels.receivers(actors.receivers(i), address(token));
            sum += claimed - settled;
        }
    }

    function the_contract_holds_what_it_owes_and_what_it_was_given() private view {
        for (uint256 i = 0; i < 2; ++i) {
            IDevUSD token = actors.tokens(i);
            assertEq(token.balanceOf(address(channels)), owed(token) + actors.donated(token));
        }
    }

    function nothing_is_claimed_above_the_balance_or_the_signed_ceiling() private view {
        for (uint256 i = 0; i < 8; ++i) {
            bytes32 id = actors.idOf(i);
            (uint128 balance, uint128 claimed) = channels.channels(id);
            assertLe(claimed, balance);
            assertLe(claimed, actors.signedMax(id));
        }
    }

    function a_receivers_claims_are_the_sum_of_its_channels_claims() private view {
        for (uint256 r = 0; r < 2; ++r) {
            for (uint256 t = 0; t < 2; ++t) {
                address receiver = actors.receivers(r);
                address token = address(actors.tokens(t));
                uint256 sum = 0;
                for (uint256 i = 0; i < 8; ++i) {
                    IPaymentChannels.ChannelConfig memory config = actors.configOf(i);
                    if (config.receiver != receiver || config.token != token) continue;
                    (, uint128 claimed) = channels.channels(actors.idOf(i));
                    sum += claimed;
                }
                (uint128 total, uint128 settled) = channels.receivers(receiver, token);
                assertEq(total, sum);
                assertLe(settled, total);
                assertEq(IDevUSD(token).balanceOf(receiver), settled);
            }
        }
    }

    function a_payer_gets_back_only_its_own() private view {
        for (uint256 p = 0; p < 2; ++p) {
            for (uint256 t = 0; t < 2; ++t) {
                (address payer, IDevUSD token) = (actors.payers(p), actors.tokens(t));
                uint256 balances = 0;
                for (uint256 i = 0; i < 8; ++i) {
                    IPaymentChannels.ChannelConfig memory config = actors.configOf(i);
                    if (config.payer != payer || config.token != address(token)) continue;
                    (uint128 balance,) = channels.channels(actors.idOf(i));
                    balances += balance;
                }
                assertEq(token.balanceOf(payer) + balances, actors.deposited(payer, token));
            }
        }
    }

    function claims_settlements_and_nonces_never_shrink() private view {
        assertFalse(actors.shrank());
    }

    function what_must_fail_fails_and_what_is_due_succeeds() private view {
        assertFalse(actors.trespassed());
    }

    function nothing_stays_with_the_collector() private view {
        for (uint256 i = 0; i < 2; ++i) {
            assertEq(actors.tokens(i).balanceOf(address(actors.collector())), 0);
        }
    }
}
