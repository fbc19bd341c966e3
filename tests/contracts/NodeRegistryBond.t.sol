// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {INodeRegistry} from "../../contracts/interfaces/INodeRegistry.sol";
import {NodeWorld} from "./NodeWorld.sol";

/// @notice Putting a node up, and taking its bond back.
contract NodeRegistryBondTest is NodeWorld {
    function test_parts_that_are_no_contracts_are_refused() public {
        (address made, bytes memory failure) = tried("NodeRegistry", abi.encode(stranger, anchors, STAKE));
        assertEq(made, address(0));
        assertEq(failure, abi.encodeWithSelector(INodeRegistry.NotAContract.selector, stranger));
        (, failure) = tried("NodeRegistry", abi.encode(token, anchors, 0));
        assertEq(failure, abi.encodeWithSelector(INodeRegistry.NoStake.selector));
    }

    function test_a_node_without_a_bond_is_refused() public {
        bytes memory agreed = consent(owner, "url");
        vm.expectRevert(INodeRegistry.EmptyBond.selector);
        vm.prank(owner);
        registry.register(node, "url", 0, agreed);
    }

    function test_nobody_is_put_up_against_its_will() public {
        bytes memory agreed = consent(owner, "url");
        vm.expectPartialRevert(INodeRegistry.NoConsent.selector);
        vm.prank(owner);
        registry.register(node, "other", BOND, agreed);
        vm.expectPartialRevert(INodeRegistry.NoConsent.selector);
        vm.prank(reporter);
        registry.register(node, "url", BOND, agreed);
        vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureLength.selector, 0));
        vm.prank(owner);
        registry.register(node, "url", BOND, "");
    }

    function test_a_token_that_takes_a_fee_is_refused() public {
        token = newFeeToken();
        registry = newNodeRegistry(address(token), address(anchors), STAKE);
        token.mint(owner, BOND);
        vm.prank(owner);
        token.approve(address(registry), BOND);
        bytes memory agreed = consent(owner, "url");
        vm.expectPartialRevert(INodeRegistry.WrongAmount.selector);
        vm.prank(owner);
        registry.register(node, "url", BOND, agreed);
    }

    function test_a_key_is_put_up_once_even_after_it_left() public {
        register();
        bytes memory agreed = consent(reporter, "url");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.AlreadyRegistered.selector, node));
        vm.prank(reporter);
        registry.register(node, "url", BOND, agreed);

        vm.startPrank(owner);
        registry.announceLeaving(node);
        skip(registry.LEAVING_DELAY());
        registry.withdrawBond(node);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.AlreadyRegistered.selector, node));
        registry.register(node, "url", BOND, agreed);
    }

    function test_a_node_that_was_put_up_can_be_read() public {
        bytes memory agreed = consent(owner, "https://node.example");
        vm.expectEmit(address(registry));
        emit INodeRegistry.Registered(node, owner, "https://node.example", BOND);
        vm.prank(owner);
        registry.register(node, "https://node.example", BOND, agreed);
        INodeRegistry.Node memory known = registry.nodes(node);
        assertEq(known.owner, owner);
        assertEq(known.bond, BOND);
        assertEq(known.url, "https://node.example");
        assertEq(uint256(known.leavesAt) + known.slashedAt + known.challenges, 0);
        assertEq(token.balanceOf(address(registry)), BOND);
    }

    function test_only_the_owner_moves_leaves_and_withdraws() public {
        register();
        bytes memory refusal = abi.encodeWithSelector(INodeRegistry.NotTheOwner.selector, node, stranger);
        vm.startPrank(stranger);
        vm.expectRevert(refusal);
        registry.move(node, "url");
        vm.expectRevert(refusal);
        registry.announceLeaving(node);
        vm.expectRevert(refusal);
        registry.withdrawBond(node);
    }

    function test_the_owner_says_where_the_node_answers() public {
        register();
        vm.expectEmit(address(registry));
        emit INodeRegistry.Moved(node, "https://other.example");
        vm.prank(owner);
        registry.move(node, "https://other.example");
        assertEq(registry.nodes(node).url, "https://other.example");
    }

    function test_anyone_may_add_to_a_bond() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, node));
        vm.prank(reporter);
        registry.raise(node, 1);
        register();
        vm.expectRevert(INodeRegistry.EmptyBond.selector);
        vm.prank(reporter);
        registry.raise(node, 0);
        vm.prank(reporter);
        registry.raise(node, 5);
        assertEq(registry.nodes(node).bond, BOND + 5);
        assertEq(token.balanceOf(address(registry)), BOND + 5);
    }

    function test_a_bond_does_not_come_back_before_the_delay_is_over() public {
        register();
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StillBound.selector, node, 0, 0));
        registry.withdrawBond(node);
        registry.announceLeaving(node);
        uint64 due = uint64(block.timestamp) + registry.LEAVING_DELAY();
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.AlreadyLeaving.selector, node, due));
        registry.announceLeaving(node);
        vm.warp(due - 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StillBound.selector, node, due, 0));
        registry.withdrawBond(node);
        vm.warp(due);
        registry.withdrawBond(node);
        assertEq(token.balanceOf(owner), 10 * BOND);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, node));
        registry.withdrawBond(node);
    }

    function test_a_node_that_is_leaving_can_still_lose_its_bond() public {
        register();
        vm.prank(owner);
        registry.announceLeaving(node);
        skip(registry.LEAVING_DELAY());
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) = (head(10, "ten"), head(10, "forked"));
        vm.prank(reporter);
        registry.reportFork(ORIGIN, one, two);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, node));
        vm.prank(owner);
        registry.withdrawBond(node);
    }
}
