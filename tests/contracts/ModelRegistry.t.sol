// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {RegistryWorld} from "./RegistryWorld.sol";

contract ModelRegistryTest is RegistryWorld {
    IModelRegistry.Kind private constant DATASET = IModelRegistry.Kind.Dataset;
    IModelRegistry.Kind private constant RUN = IModelRegistry.Kind.Run;
    IModelRegistry.Kind private constant MODEL = IModelRegistry.Kind.Model;

    function test_a_record_of_no_kind_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.InvalidKind.selector, IModelRegistry.Kind.None));
        registry.register(IModelRegistry.Kind.None, "digest", none());
    }

    function test_a_kind_that_does_not_exist_is_refused() public {
        bytes memory call = abi.encodeCall(registry.register, (MODEL, "digest", none()));
        call[35] = 0x04;
        (bool ok,) = address(registry).call(call);
        assertFalse(ok);
    }

    function test_a_zero_digest_is_refused() public {
        vm.expectRevert(IModelRegistry.ZeroDigest.selector);
        registry.register(MODEL, 0, none());
    }

    function test_the_same_record_is_refused_the_second_time() public {
        bytes32 id = model("digest");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.AlreadyRegistered.selector, id));
        model("digest");

        // Not even as something else, nor after it was revoked.
        vm.startPrank(publisher);
        registry.revoke(id, "wrong");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.AlreadyRegistered.selector, id));
        registry.register(DATASET, "digest", none());
        vm.stopPrank();
    }

    function test_a_seventeenth_parent_is_refused() public {
        bytes32[] memory parents = new bytes32[](17);
        for (uint256 i = 0; i < 17; ++i) {
            parents[i] = model(bytes32(i + 1));
        }
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.TooManyParents.selector, 17, 16));
        registry.register(MODEL, "child", parents);
    }

    function test_an_unknown_parent_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownParent.selector, bytes32("nobody")));
        registry.register(MODEL, "child", list("nobody"));
    }

    function test_a_record_cannot_be_its_own_parent() public {
        bytes32 id = registry.recordId(publisher, "digest");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownParent.selector, id));
        registered(MODEL, "digest", list(id));
    }

    function test_a_revoked_parent_is_refused() public {
        bytes32 parent = model("parent");
        vm.prank(publisher);
        registry.revoke(parent, "leaked");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.RevokedParent.selector, parent));
        registered(MODEL, "child", list(parent));
    }

    function test_the_same_parent_twice_is_refused() public {
        bytes32 parent = model("parent");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.DuplicateParent.selector, parent));
        registered(MODEL, "child", list(parent, parent));
    }

    function test_only_lawful_lineages_are_taken() public {
        // allowed[child][parent], both in the order Dataset, Run, Model
        bool[3][3] memory allowed = [[true, false, false], [true, false, true], [false, true, true]];
        for (uint8 child = 1; child <= 3; ++child) {
            for (uint8 parent = 1; parent <= 3; ++parent) {
                IModelRegistry.Kind kind = IModelRegistry.Kind(child);
                IModelRegistry.Kind from = IModelRegistry.Kind(parent);
                bytes32 id = registered(from, keccak256(abi.encode("parent", child, parent)), none());
                if (!allowed[child - 1][parent - 1]) {
                    bytes4 refusal = IModelRegistry.ParentKindNotAllowed.selector;
                    vm.expectRevert(abi.encodeWithSelector(refusal, id, from, kind));
                }
                registered(kind, keccak256(abi.encode("child", child, parent)), list(id));
            }
        }
    }

    function test_revoking_what_is_not_recorded_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownRecord.selector, bytes32("nobody")));
        registry.revoke("nobody", "");
    }

    function test_revoking_somebody_elses_record_is_refused() public {
        bytes32 id = model("digest");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotPublisher.selector, other, publisher));
        vm.prank(other);
        registry.revoke(id, "mine now");
    }

    function test_revoking_twice_is_refused() public {
        bytes32 id = model("digest");
        vm.startPrank(publisher);
        registry.revoke(id, "leaked");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.AlreadyRevoked.selector, id));
        registry.revoke(id, "leaked again");
        vm.stopPrank();
    }

    function test_names_that_could_deceive_are_refused() public {
        bytes32 id = model("digest");
        string[8] memory names =
            ["", "Upper", "a b", "a/b", "a\nb", unicode"modèl", "a@b", string(new bytes(65))];
        vm.startPrank(publisher);
        for (uint256 i = 0; i < names.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IModelRegistry.InvalidName.selector, names[i]));
            registry.setName(names[i], id);
        }
        bytes memory long = new bytes(65);
        for (uint256 i = 0; i < 65; ++i) {
            long[i] = "a";
        }
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.InvalidName.selector, string(long)));
        registry.setName(string(long), id);
        vm.stopPrank();
    }

    function test_a_name_for_an_unknown_foreign_or_revoked_record_is_refused() public {
        bytes32 id = model("digest");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownRecord.selector, bytes32("nobody")));
        registry.setName("chat", "nobody");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotPublisher.selector, other, publisher));
        vm.prank(other);
        registry.setName("chat", id);
        vm.startPrank(publisher);
        registry.revoke(id, "leaked");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.AlreadyRevoked.selector, id));
        registry.setName("chat", id);
        vm.stopPrank();
    }

    function test_registering_makes_a_record_and_says_so() public {
        bytes32 data = registered(DATASET, "data", none());
        bytes32 id = registry.recordId(publisher, "run");
        vm.expectEmit(address(registry));
        emit IModelRegistry.Registered(id, publisher, RUN, "run", list(data));
        assertEq(registered(RUN, "run", list(data)), id);

        IModelRegistry.Record memory record = registry.record(id);
        assertEq(record.publisher, publisher);
        assertTrue(record.kind == RUN && record.status == IModelRegistry.Status.Active);
        assertEq(record.registeredAt, block.timestamp);
        assertEq(record.revokedAt, 0);
        assertEq(record.manifestDigest, "run");
        assertEq(registry.parents(id), list(data));
    }

    function test_two_publishers_can_record_the_same_digest() public {
        bytes32 mine = model("digest");
        vm.prank(other);
        bytes32 theirs = registry.register(MODEL, "digest", none());
        assertNotEq(mine, theirs);
        assertEq(mine, keccak256(abi.encode(publisher, bytes32("digest"))));
    }

    function test_sixteen_parents_are_taken() public {
        bytes32[] memory parents = new bytes32[](16);
        for (uint256 i = 0; i < 16; ++i) {
            parents[i] = model(bytes32(i + 1));
        }
        bytes32 id = registered(MODEL, "child", parents);
        assertEq(registry.parents(id), parents);
    }

    function test_an_unknown_record_reads_as_unknown() public view {
        IModelRegistry.Record memory record = registry.record("nobody");
        assertTrue(record.status == IModelRegistry.Status.Unknown);
        assertEq(registry.resolve(publisher, "chat"), 0);
    }

    function test_revoking_is_final_and_keeps_the_record() public {
        bytes32 id = model("digest");
        skip(100);
        vm.expectEmit(address(registry));
        emit IModelRegistry.Revoked(id, publisher, "leaked");
        vm.prank(publisher);
        registry.revoke(id, "leaked");
        IModelRegistry.Record memory record = registry.record(id);
        assertTrue(record.status == IModelRegistry.Status.Revoked);
        assertEq(record.revokedAt, block.timestamp);
        assertEq(record.registeredAt, block.timestamp - 100);
        assertEq(record.manifestDigest, "digest");
    }

    function test_a_name_points_at_the_record_it_was_last_given() public {
        bytes32 first = model("first");
        bytes32 second = model("second");
        vm.startPrank(publisher);
        registry.setName("chat-135m.v1_0", first);
        assertEq(registry.resolve(publisher, "chat-135m.v1_0"), first);
        vm.expectEmit(address(registry));
        emit IModelRegistry.NameSet(publisher, "chat-135m.v1_0", second);
        registry.setName("chat-135m.v1_0", second);
        vm.stopPrank();
        assertEq(registry.resolve(publisher, "chat-135m.v1_0"), second);
        assertEq(registry.resolve(other, "chat-135m.v1_0"), 0);
    }

    function testFuzz_an_id_belongs_to_one_publisher_and_one_digest(
        address one,
        bytes32 digest,
        address two,
        bytes32 otherDigest
    ) public view {
        vm.assume(one != two || digest != otherDigest);
        assertNotEq(registry.recordId(one, digest), registry.recordId(two, otherDigest));
    }
}
