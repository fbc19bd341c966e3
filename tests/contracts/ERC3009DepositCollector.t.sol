// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IERC3009DepositCollector} from "../../contracts/interfaces/IERC3009DepositCollector.sol";
import {ChannelWorld} from "./ChannelWorld.sol";
import {IFailingToken} from "./Deployed.sol";

contract ERC3009DepositCollectorTest is ChannelWorld {
    function test_a_collector_for_no_contract_is_refused() public {
        (address made, bytes memory failure) = tried("ERC3009DepositCollector", abi.encode(address(0)));
        assertEq(made, address(0));
        assertEq(bytes4(failure), IERC3009DepositCollector.InvalidX402BatchSettlementAddress.selector);
    }

    function test_collecting_for_anybody_but_the_channels_contract_is_refused() public {
        bytes memory data = authorization(plain(), 1000, 7);
        bytes32 id = idOf(plain());
        vm.expectRevert(IERC3009DepositCollector.OnlyX402BatchSettlement.selector);
        vm.prank(payer);
        collector.collect(payer, address(token), 1000, id, data);
    }

    function test_data_of_another_shape_is_refused() public {
        vm.expectRevert();
        channels.deposit(plain(), 1000, address(collector), hex"00");
    }

    function test_a_token_that_answers_the_forwarding_with_false_is_refused() public {
        IFailingToken failing = newFailingToken();
        token = failing;
        failing.mint(payer, 1000);
        failing.fail(true);
        bytes memory data = authorization(plain(), 1000, 7);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(failing)));
        channels.deposit(plain(), 1000, address(collector), data);
    }

    function test_an_authorisation_spent_outside_a_deposit_is_impossible() public {
        bytes memory data = authorization(plain(), 1000, 7);
        (uint256 validAfter, uint256 validBefore, uint256 salt, bytes memory signature) =
            abi.decode(data, (uint256, uint256, uint256, bytes));
        bytes32 nonce = keccak256(abi.encode(idOf(plain()), salt));
        vm.expectRevert();
        vm.prank(stranger);
        token.receiveWithAuthorization(
            payer, address(collector), 1000, validAfter, validBefore, nonce, signature
        );
    }

    function test_what_is_collected_goes_to_the_channels_contract() public {
        bytes memory data = authorization(plain(), 1000, 7);
        bytes32 id = idOf(plain());
        vm.prank(address(channels));
        collector.collect(payer, address(token), 1000, id, data);
        assertEq(token.balanceOf(address(channels)), 1000);
        assertEq(token.balanceOf(address(collector)), 0);
    }
}
