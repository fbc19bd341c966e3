// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../contracts/interfaces/INodeRegistry.sol";
import {NodeWorld} from "./NodeWorld.sol";

/// @notice What costs a node its bond, and what does not.
contract NodeRegistryReportsTest is NodeWorld {
    uint64 private constant SIZE = 13;
    uint64 private constant FROM = 6;

    function setUp() public override {
        super.setUp();
        register();
    }

    function assertSlashed(INodeRegistry.Lie lie) private {
        uint128 share = BOND / 4;
        assertEq(token.balanceOf(reporter), 10 * BOND + share, vm.toString(uint256(lie)));
        assertEq(token.balanceOf(registry.BURNED()), BOND - share);
        assertEq(registry.nodes(node).bond, 0);
        assertEq(registry.nodes(node).slashedAt, block.timestamp);
        assertEq(token.balanceOf(address(registry)), 0);
    }

    function expectSlash(INodeRegistry.Lie lie) private {
        vm.expectEmit(address(registry));
        emit INodeRegistry.Slashed(node, reporter, lie, BOND / 4, BOND - BOND / 4);
        vm.prank(reporter);
    }

    function test_the_same_head_twice_is_no_fork() public {
        INodeRegistry.Head memory one = head(10, "ten");
        vm.expectRevert(INodeRegistry.SameStatement.selector);
        registry.reportFork(ORIGIN, one, one);
    }

    function test_heads_of_two_sizes_are_no_fork() public {
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) = (head(10, "ten"), head(11, "xi"));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongSizes.selector, 10, 11));
        registry.reportFork(ORIGIN, one, two);
    }

    function test_a_head_that_another_key_signed_is_no_fork() public {
        INodeRegistry.Head memory one = head(10, "ten");
        INodeRegistry.Head memory two = headBy(payerKey, 10, "forked");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.TwoSigners.selector, node, payer));
        registry.reportFork(ORIGIN, one, two);
    }

    function test_a_fork_of_a_key_without_a_bond_costs_nobody() public {
        INodeRegistry.Head memory one = headBy(payerKey, 10, "ten");
        INodeRegistry.Head memory two = headBy(payerKey, 10, "forked");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, payer));
        registry.reportFork(ORIGIN, one, two);
    }

    function test_a_fork_costs_the_bond_once() public {
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) = (head(10, "ten"), head(10, "forked"));
        expectSlash(INodeRegistry.Lie.Fork);
        registry.reportFork(ORIGIN, one, two);
        assertSlashed(INodeRegistry.Lie.Fork);

        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, node));
        registry.reportFork(ORIGIN, two, one);
    }

    function test_one_receipt_is_no_twins() public {
        INodeRegistry.Receipt memory one = receipt(3, 100);
        bytes memory signature = receiptSignature(one);
        vm.expectRevert(INodeRegistry.SameStatement.selector);
        registry.reportTwins(one, signature, one, signature);
    }

    function test_receipts_at_two_places_are_no_twins() public {
        (INodeRegistry.Receipt memory one, INodeRegistry.Receipt memory two) = (receipt(3, 1), receipt(4, 1));
        (bytes memory first, bytes memory second) = (receiptSignature(one), receiptSignature(two));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.DifferentPlaces.selector, 3, 4));
        registry.reportTwins(one, first, two, second);
    }

    function test_two_receipts_with_one_number_cost_the_bond() public {
        (INodeRegistry.Receipt memory one, INodeRegistry.Receipt memory two) = (receipt(3, 1), receipt(3, 2));
        (bytes memory first, bytes memory second) = (receiptSignature(one), receiptSignature(two));
        expectSlash(INodeRegistry.Lie.Twins);
        registry.reportTwins(one, first, two, second);
        assertSlashed(INodeRegistry.Lie.Twins);
    }

    function test_the_signer_of_a_receipt_can_be_asked_for() public view {
        INodeRegistry.Receipt memory one = receipt(3, 100);
        bytes memory signature = receiptSignature(one);
        assertEq(registry.receiptSigner(one, signature), node);
        ++one.charged;
        assertNotEq(registry.receiptSigner(one, signature), node);
    }

    function test_a_log_that_grew_is_not_rewritten() public {
        bytes32[] memory log = leaves(SIZE, SIZE, 0);
        INodeRegistry.Head memory one = headOf(log, FROM);
        INodeRegistry.Head memory two = headOf(log, SIZE);
        for (uint64 i; i < FROM; ++i) {
            INodeRegistry.Inclusion memory before = included(log, i, FROM);
            INodeRegistry.Inclusion memory later = included(log, i, SIZE);
            vm.expectRevert(INodeRegistry.SameStatement.selector);
            registry.reportRewrite(ORIGIN, one, before, two, later, i);
        }
    }

    function test_a_leaf_that_is_not_there_proves_no_rewriting() public {
        bytes32[] memory log = leaves(SIZE, SIZE, 0);
        INodeRegistry.Head memory one = headOf(log, FROM);
        INodeRegistry.Head memory two = headOf(log, SIZE);
        INodeRegistry.Inclusion memory before = included(log, 2, FROM);
        // A true path, of another leaf than the one it is said to be.
        INodeRegistry.Inclusion memory later = included(log, 3, SIZE);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongProof.selector, 2, SIZE));
        registry.reportRewrite(ORIGIN, one, before, two, later, 2);
    }

    function testFuzz_a_rewritten_log_costs_the_bond(uint64 first, uint64 second, uint64 index) public {
        first = uint64(bound(first, 1, 40));
        second = uint64(bound(second, 1, 40));
        index = uint64(bound(index, 0, (first < second ? first : second) - 1));
        (bytes32[] memory old, bytes32[] memory other) = (leaves(first, 99, 0), leaves(second, index, 1));
        INodeRegistry.Head memory one = headOf(old, first);
        INodeRegistry.Head memory two = headOf(other, second);
        INodeRegistry.Inclusion memory before = included(old, index, first);
        INodeRegistry.Inclusion memory later = included(other, index, second);
        expectSlash(INodeRegistry.Lie.Rewrite);
        registry.reportRewrite(ORIGIN, one, before, two, later, index);
        assertSlashed(INodeRegistry.Lie.Rewrite);
    }

    function test_a_receipt_that_is_in_the_log_was_not_dropped() public {
        INodeRegistry.Receipt memory stated = receipt(4, 100);
        bytes32[] memory log = leaves(SIZE, SIZE, 0);
        log[4] = receiptLeaf(stated, text(100));
        INodeRegistry.Head memory whole = headOf(log, SIZE);
        INodeRegistry.Inclusion memory found = included(log, 4, SIZE);
        bytes memory signature = receiptSignature(stated);
        vm.expectRevert(INodeRegistry.SameStatement.selector);
        registry.reportDrop(ORIGIN, whole, found, stated, signature, text(100));
    }

    function test_another_text_than_the_receipts_proves_no_drop() public {
        INodeRegistry.Receipt memory stated = receipt(4, 100);
        bytes32[] memory log = leaves(SIZE, SIZE, 0);
        log[4] = receiptLeaf(stated, text(100));
        INodeRegistry.Head memory whole = headOf(log, SIZE);
        INodeRegistry.Inclusion memory found = included(log, 4, SIZE);
        bytes memory signature = receiptSignature(stated);
        vm.expectRevert(
            abi.encodeWithSelector(INodeRegistry.WrongText.selector, sha256(text(100)), sha256(text(101)))
        );
        registry.reportDrop(ORIGIN, whole, found, stated, signature, text(101));
    }

    function test_a_log_that_does_not_reach_the_receipt_yet_dropped_nothing() public {
        INodeRegistry.Receipt memory stated = receipt(SIZE, 100);
        bytes32[] memory log = leaves(SIZE, SIZE, 0);
        INodeRegistry.Head memory whole = headOf(log, SIZE);
        INodeRegistry.Inclusion memory found = included(log, SIZE - 1, SIZE);
        bytes memory signature = receiptSignature(stated);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongProof.selector, SIZE, SIZE));
        registry.reportDrop(ORIGIN, whole, found, stated, signature, text(100));
    }

    function test_a_dropped_receipt_costs_the_bond() public {
        INodeRegistry.Receipt memory stated = receipt(4, 100);
        bytes32[] memory log = leaves(SIZE, SIZE, 0);
        INodeRegistry.Head memory whole = headOf(log, SIZE);
        INodeRegistry.Inclusion memory found = included(log, 4, SIZE);
        bytes memory signature = receiptSignature(stated);
        expectSlash(INodeRegistry.Lie.Drop);
        registry.reportDrop(ORIGIN, whole, found, stated, signature, text(100));
        assertSlashed(INodeRegistry.Lie.Drop);
    }
}
