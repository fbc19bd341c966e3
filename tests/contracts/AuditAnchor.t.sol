// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IAuditAnchor} from "../../contracts/interfaces/IAuditAnchor.sol";
import {Deployed} from "./Deployed.sol";

contract AuditAnchorTest is Deployed {
    string private constant ORIGIN = "node.example/log";

    IAuditAnchor private anchors;
    address private node;
    uint256 private nodeKey;

    function setUp() public {
        vm.warp(1_750_000_000);
        anchors = newAnchors();
        (node, nodeKey) = makeAddrAndKey("node");
    }

    function signature(uint64 size, bytes32 root) private view returns (bytes memory) {
        bytes32 typehash = keccak256("Checkpoint(string origin,uint64 size,bytes32 root)");
        bytes32 checkpoint = keccak256(abi.encode(typehash, keccak256(bytes(ORIGIN)), size, root));
        bytes32 digest = MessageHashUtils.toTypedDataHash(anchors.domainSeparator(), checkpoint);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(nodeKey, digest);
        return abi.encodePacked(r, s, v);
    }

    function anchor(uint64 size, bytes32 root) private returns (bytes32) {
        return anchors.anchor(ORIGIN, size, root, signature(size, root));
    }

    function test_a_log_without_a_name_is_refused() public {
        vm.expectRevert(IAuditAnchor.EmptyOrigin.selector);
        anchors.anchor("", 1, "root", "");
    }

    function test_an_empty_log_is_refused() public {
        vm.expectRevert(IAuditAnchor.EmptyLog.selector);
        anchors.anchor(ORIGIN, 0, "root", "");
    }

    function test_a_malformed_signature_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureLength.selector, 0));
        anchors.anchor(ORIGIN, 1, "root", "");
        vm.expectRevert(ECDSA.ECDSAInvalidSignature.selector);
        anchors.anchor(ORIGIN, 1, "root", new bytes(65));
    }

    function test_a_smaller_size_is_refused() public {
        anchor(10, "ten");
        bytes memory signed = signature(9, "nine");
        vm.expectRevert(abi.encodeWithSelector(IAuditAnchor.SizeShrinks.selector, 10, 9));
        anchors.anchor(ORIGIN, 9, "nine", signed);
    }

    function test_another_root_for_the_same_size_is_refused() public {
        anchor(10, "ten");
        bytes memory signed = signature(10, "forked");
        bytes4 refusal = IAuditAnchor.RootConflict.selector;
        vm.expectRevert(abi.encodeWithSelector(refusal, bytes12("ten"), bytes32("forked")));
        anchors.anchor(ORIGIN, 10, "forked", signed);
    }

    function test_the_same_checkpoint_twice_is_refused() public {
        bytes32 id = anchor(10, "ten");
        bytes memory signed = signature(10, "ten");
        vm.expectRevert(abi.encodeWithSelector(IAuditAnchor.AlreadyAnchored.selector, id, 10));
        anchors.anchor(ORIGIN, 10, "ten", signed);
    }

    function test_a_changed_checkpoint_never_lands_in_the_nodes_log() public {
        bytes32 id = anchor(10, "ten");
        bytes memory signed = signature(11, "eleven");
        // The signature recovers to some other address, whose log this then is.
        bytes32 elsewhere = anchors.anchor(ORIGIN, 12, "eleven", signed);
        assertNotEq(elsewhere, id);
        elsewhere = anchors.anchor("node.example/lag", 11, "eleven", signed);
        assertNotEq(elsewhere, anchors.logId(node, "node.example/lag"));
        (uint64 size,,,) = anchors.latest(id);
        assertEq(size, 10);
    }

    function test_a_checkpoint_of_another_chain_never_lands_in_the_nodes_log() public {
        bytes memory signed = signature(10, "ten");
        vm.chainId(1);
        assertNotEq(anchors.anchor(ORIGIN, 10, "ten", signed), anchors.logId(node, ORIGIN));
    }

    function test_anyone_may_submit_a_nodes_checkpoint() public {
        bytes32 id = anchors.logId(node, ORIGIN);
        assertEq(id, keccak256(abi.encode(node, ORIGIN)));
        bytes memory signed = signature(10, "ten");
        vm.expectEmit(address(anchors));
        emit IAuditAnchor.Anchored(id, node, 10, "ten", ORIGIN, signed);
        vm.prank(makeAddr("auditor"));
        assertEq(anchors.anchor(ORIGIN, 10, "ten", signed), id);

        (uint64 size, uint48 anchoredAt, uint48 anchoredIn, bytes12 mark) = anchors.latest(id);
        assertEq(size, 10);
        assertEq(anchoredAt, block.timestamp);
        assertEq(anchoredIn, block.number);
        assertEq(mark, bytes12("ten"));
    }

    function test_a_log_grows() public {
        bytes32 id = anchor(10, "ten");
        skip(60);
        vm.roll(block.number + 5);
        anchor(11, "eleven");
        (uint64 size, uint48 anchoredAt, uint48 anchoredIn, bytes12 mark) = anchors.latest(id);
        assertEq(size, 11);
        assertEq(anchoredAt, block.timestamp);
        assertEq(anchoredIn, block.number);
        assertEq(mark, bytes12("eleven"));
    }

    function test_a_log_that_was_never_anchored_reads_as_zero() public view {
        (uint64 size, uint48 anchoredAt, uint48 anchoredIn, bytes12 mark) = anchors.latest("nobody");
        assertEq(size + anchoredAt + anchoredIn, 0);
        assertEq(mark, 0);
    }

    function test_a_log_takes_one_word_of_the_contracts_storage() public {
        anchor(10, "ten");
        vm.record();
        anchor(20_000, "later");
        (, bytes32[] memory writes) = vm.accesses(address(anchors));
        assertGt(writes.length, 0);
        for (uint256 i; i < writes.length; ++i) {
            assertEq(writes[i], writes[0]);
        }
    }

    function testFuzz_only_a_larger_size_is_taken(uint64 first, uint64 second) public {
        first = uint64(bound(first, 1, type(uint64).max));
        second = uint64(bound(second, 1, type(uint64).max));
        bytes32 id = anchor(first, "first");
        bytes memory signed = signature(second, "second");
        try anchors.anchor(ORIGIN, second, "second", signed) {
            assertGt(second, first);
        } catch {
            assertLe(second, first);
        }
        (uint64 size,,,) = anchors.latest(id);
        assertEq(size, first > second ? first : second);
    }
}
