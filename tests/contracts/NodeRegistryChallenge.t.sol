// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../contracts/interfaces/INodeRegistry.sol";
import {LogTree} from "./LogTree.sol";
import {NodeWorld} from "./NodeWorld.sol";

/// @notice A node that will not show that its log only grew must do so on chain, or lose its bond.
contract NodeRegistryChallengeTest is NodeWorld {
    bytes32[] private entries;

    function setUp() public override {
        super.setUp();
        register();
        entries = leaves(40, 99, 0);
    }

    function challenge(uint256 old, uint256 size) private returns (bytes32 id) {
        (INodeRegistry.Head memory earlier, INodeRegistry.Head memory later) =
            (headOf(entries, old), headOf(entries, size));
        vm.prank(reporter);
        id = registry.challenge(ORIGIN, earlier, later);
    }

    function answer(uint256 old, uint256 size, bytes32[] memory proof) private {
        answer(old, size, proof, "");
    }

    function answer(uint256 old, uint256 size, bytes32[] memory proof, bytes memory refusal) private {
        (bytes32 before, bytes32 later) = (LogTree.root(entries, 0, old), LogTree.root(entries, 0, size));
        if (refusal.length != 0) vm.expectRevert(refusal);
        registry.answer(node, uint64(old), before, uint64(size), later, proof);
    }

    function test_heads_in_the_wrong_order_are_refused() public {
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) =
            (headOf(entries, 5), headOf(entries, 9));
        vm.startPrank(reporter);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongSizes.selector, 9, 5));
        registry.challenge(ORIGIN, two, one);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongSizes.selector, 5, 5));
        registry.challenge(ORIGIN, one, one);
        INodeRegistry.Head memory none = head(0, 0);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongSizes.selector, 0, 5));
        registry.challenge(ORIGIN, none, one);
    }

    function test_the_same_challenge_twice_is_refused_also_after_its_answer() public {
        bytes32 id = challenge(5, 9);
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) =
            (headOf(entries, 5), headOf(entries, 9));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.AlreadyChallenged.selector, id));
        vm.prank(reporter);
        registry.challenge(ORIGIN, one, two);
        answer(5, 9, LogTree.consistency(entries, 5, 9));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.AlreadyChallenged.selector, id));
        vm.prank(reporter);
        registry.challenge(ORIGIN, one, two);
    }

    function test_what_was_not_asked_is_not_answered() public {
        bytes32[] memory proof = LogTree.consistency(entries, 5, 9);
        bytes32 id = keccak256(abi.encode(node, 5, headOf(entries, 5).root, 9, headOf(entries, 9).root));
        answer(5, 9, proof, abi.encodeWithSelector(INodeRegistry.NoChallenge.selector, id));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NoChallenge.selector, bytes32("none")));
        registry.endSilence("none");
    }

    function testFuzz_an_honest_node_can_always_answer(uint256 old, uint256 size) public {
        size = bound(size, 2, 40);
        old = bound(old, 1, size - 1);
        bytes32 id = challenge(old, size);
        assertEq(registry.nodes(node).challenges, 1);
        answer(old, size, LogTree.consistency(entries, old, size));
        assertEq(registry.nodes(node).challenges, 0);
        assertEq(token.balanceOf(owner), 9 * BOND + STAKE);
        assertEq(token.balanceOf(reporter), 10 * BOND - STAKE);
        skip(30 days);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NoChallenge.selector, id));
        registry.endSilence(id);
    }

    function testFuzz_a_proof_with_a_change_is_no_answer(
        uint256 old,
        uint256 size,
        uint256 place,
        uint256 bit
    ) public {
        size = bound(size, 2, 40);
        old = bound(old, 1, size - 1);
        bytes32 id = challenge(old, size);
        bytes32[] memory proof = LogTree.consistency(entries, old, size);
        proof[place % proof.length] ^= bytes32(1 << (bit % 256));
        answer(old, size, proof, abi.encodeWithSelector(INodeRegistry.NoExtension.selector, id));
    }

    function testFuzz_a_proof_that_is_too_long_or_too_short_is_no_answer(uint256 old, uint256 size) public {
        size = bound(size, 2, 40);
        old = bound(old, 1, size - 1);
        bytes32 id = challenge(old, size);
        bytes32[] memory proof = LogTree.consistency(entries, old, size);
        bytes memory refusal = abi.encodeWithSelector(INodeRegistry.NoExtension.selector, id);
        answer(old, size, LogTree.longer(proof, "more"), refusal);
        assembly ("memory-safe") {
            mstore(proof, sub(mload(proof), 1))
        }
        answer(old, size, proof, refusal);
    }

    function testFuzz_no_proof_shows_that_a_rewritten_log_only_grew(uint256 old, uint256 size, uint256 from)
        public
    {
        size = bound(size, 2, 40);
        old = bound(old, 1, size - 1);
        bytes32[] memory rewritten = leaves(size, bound(from, 0, old - 1), 1);
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) =
            (headOf(entries, old), headOf(rewritten, size));
        vm.prank(reporter);
        bytes32 id = registry.challenge(ORIGIN, one, two);
        bytes32[] memory proof = LogTree.consistency(rewritten, old, size);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NoExtension.selector, id));
        registry.answer(node, uint64(old), one.root, uint64(size), two.root, proof);

        skip(registry.ANSWER_WINDOW() + 1);
        registry.endSilence(id);
        assertEq(registry.nodes(node).bond, 0);
    }

    function test_silence_is_not_ended_before_its_time() public {
        bytes32 id = challenge(5, 9);
        uint64 deadline = uint64(block.timestamp) + registry.ANSWER_WINDOW();
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StillAnswerable.selector, id, deadline));
        registry.endSilence(id);
    }

    function test_silence_costs_the_bond_and_the_challenger_gets_its_share_and_stake() public {
        bytes32 id = challenge(5, 9);
        skip(registry.ANSWER_WINDOW() + 1);
        vm.prank(stranger);
        registry.endSilence(id);
        assertEq(token.balanceOf(reporter), 10 * BOND + BOND / 4);
        assertEq(token.balanceOf(stranger), 0);
        assertEq(token.balanceOf(registry.BURNED()), BOND - BOND / 4);
        assertEq(token.balanceOf(address(registry)), 0);
    }

    function test_a_late_answer_still_saves_a_node_whose_silence_was_not_ended() public {
        challenge(5, 9);
        skip(registry.ANSWER_WINDOW() + 1 days);
        answer(5, 9, LogTree.consistency(entries, 5, 9));
        assertEq(registry.nodes(node).bond, BOND);
    }

    function test_a_node_does_not_leave_while_a_challenge_waits() public {
        vm.prank(owner);
        registry.announceLeaving(node);
        uint64 due = uint64(block.timestamp) + registry.LEAVING_DELAY();
        vm.warp(due - 1);
        challenge(5, 9);
        vm.warp(due);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StillBound.selector, node, due, 1));
        vm.prank(owner);
        registry.withdrawBond(node);
        answer(5, 9, LogTree.consistency(entries, 5, 9));
        vm.prank(owner);
        registry.withdrawBond(node);
        assertEq(token.balanceOf(address(registry)), 0);
    }

    function test_when_the_node_was_slashed_meanwhile_the_stake_comes_back_at_once() public {
        bytes32 id = challenge(5, 9);
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) = (head(10, "ten"), head(10, "forked"));
        vm.prank(stranger);
        registry.reportFork(ORIGIN, one, two);
        registry.endSilence(id);
        assertEq(token.balanceOf(reporter), 10 * BOND);
        assertEq(token.balanceOf(address(registry)), 0);
    }
}
