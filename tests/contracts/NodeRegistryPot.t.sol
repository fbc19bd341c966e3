// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../contracts/interfaces/INodeRegistry.sol";
import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {NodeWorld} from "./NodeWorld.sol";

/// @notice What a slashed node's payers get of its bond.
contract NodeRegistryPotTest is NodeWorld {
    function setUp() public override {
        super.setUp();
        register();
    }

    function slash() private {
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) = (head(10, "ten"), head(10, "forked"));
        vm.prank(reporter);
        registry.reportFork(ORIGIN, one, two);
    }

    /// @dev A channel of the payer's from which the node claimed `paid`.
    function paidChannel(uint256 salt, uint128 paid) private returns (IPaymentChannels.ChannelConfig memory) {
        IPaymentChannels.ChannelConfig memory config = salted(salt);
        fund(config, uint128(1_000 * DOLLAR));
        claimAll(config, paid);
        return config;
    }

    function test_a_channel_of_another_node_or_token_or_without_payments_counts_nothing() public {
        IPaymentChannels.ChannelConfig memory config = salted(7);
        bytes32 id = idOf(config);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NothingToCover.selector, id));
        registry.cover(config);
        config.receiverAuthorizer = stranger;
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, stranger));
        registry.cover(config);
        config = paidChannel(8, 100);
        INodeRegistry other =
            newNodeRegistry(address(newDollar()), address(anchors), address(channels), STAKE);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, node));
        other.cover(config);
    }

    function test_what_was_covered_counts_once() public {
        IPaymentChannels.ChannelConfig memory config = paidChannel(1, 100);
        registry.cover(config);
        bytes32 id = idOf(config);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NothingToCover.selector, id));
        registry.cover(config);
        assertEq(registry.coveredTotal(node), 100);
        claimAll(config, 250);
        registry.cover(config);
        assertEq(registry.coveredTotal(node), 250);
        assertEq(registry.covered(id), 250);
    }

    function test_nothing_is_paid_out_while_the_node_stands() public {
        IPaymentChannels.ChannelConfig memory config = paidChannel(1, 100);
        registry.cover(config);
        bytes32 id = idOf(config);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NothingToPayOut.selector, id));
        registry.payOut(config);
    }

    function test_payments_that_come_after_the_slashing_do_not_count() public {
        registry.cover(paidChannel(1, 100));
        slash();
        IPaymentChannels.ChannelConfig memory late = paidChannel(2, 900);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, node));
        registry.cover(late);
        bytes32 id = idOf(late);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NothingToPayOut.selector, id));
        registry.payOut(late);
    }

    function test_payers_share_the_pot_by_what_they_paid_and_each_once() public {
        IPaymentChannels.ChannelConfig memory small = paidChannel(1, 100);
        IPaymentChannels.ChannelConfig memory large = paidChannel(2, 300);
        registry.cover(small);
        registry.cover(large);
        slash();
        uint256 pot = BOND - BOND / 4;
        uint256 before = token.balanceOf(payer);
        vm.prank(stranger);
        registry.payOut(small);
        assertEq(token.balanceOf(payer) - before, pot / 4);
        bytes32 id = idOf(small);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NothingToPayOut.selector, id));
        registry.payOut(small);
        registry.payOut(large);
        assertEq(token.balanceOf(payer) - before, pot);
        assertEq(token.balanceOf(address(registry)), 0);
        assertEq(token.balanceOf(stranger), 0);
    }
}
