// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {Deployed} from "./Deployed.sol";

/// @notice Two publishers who register, revoke and name at random, each other's records too.
contract RegistryActors is Deployed {
    IModelRegistry public immutable registry = newRegistry();
    address[2] public publishers = [makeAddr("publisher"), makeAddr("other publisher")];
    string[2] public names = ["chat", "classifier"];
    bytes32[] private _ids;
    mapping(bytes32 id => bytes32 hash) private _asRegistered;

    /// @notice Whether anybody but its publisher ever revoked a record or pointed a name at it, or made it twice.
    bool public trespassed;

    function register(uint256 who, uint256 kind, uint256 digest, uint256 one, uint256 two) external {
        bytes32[] memory parents = new bytes32[](_ids.length == 0 ? 0 : (one ^ two) % 3);
        if (parents.length > 0) parents[0] = _ids[one % _ids.length];
        if (parents.length > 1) parents[1] = _ids[two % _ids.length];
        vm.prank(publishers[who & 1]);
        try registry.register(IModelRegistry.Kind(kind % 4), bytes32(digest % 16), parents) returns (
            bytes32 id
        ) {
            if (_asRegistered[id] != 0) trespassed = true;
            _ids.push(id);
            _asRegistered[id] = unchanging(id);
        } catch {}
    }

    function revoke(uint256 who, uint256 which) external {
        if (_ids.length == 0) return;
        bytes32 id = _ids[which % _ids.length];
        vm.prank(publishers[who & 1]);
        try registry.revoke(id, "") {
            if (registry.record(id).publisher != publishers[who & 1]) trespassed = true;
        } catch {}
        skip(1);
    }

    function setName(uint256 who, uint256 name, uint256 which) external {
        if (_ids.length == 0) return;
        bytes32 id = _ids[which % _ids.length];
        vm.prank(publishers[who & 1]);
        try registry.setName(names[name & 1], id) {
            if (registry.record(id).publisher != publishers[who & 1]) trespassed = true;
        } catch {}
    }

    /// @dev All of a record that revoking must not touch.
    function unchanging(bytes32 id) public view returns (bytes32) {
        IModelRegistry.Record memory record = registry.record(id);
        return keccak256(
            abi.encode(
                record.publisher,
                record.kind,
                record.registeredAt,
                record.manifestDigest,
                registry.parents(id)
            )
        );
    }

    function count() external view returns (uint256) {
        return _ids.length;
    }

    function idAt(uint256 i) external view returns (bytes32) {
        return _ids[i];
    }

    function isAsRegistered(bytes32 id) external view returns (bool) {
        return unchanging(id) == _asRegistered[id];
    }
}

contract ModelRegistryInvariantTest is Test {
    RegistryActors private actors;
    IModelRegistry private registry;

    function setUp() public {
        vm.warp(1_750_000_000);
        actors = new RegistryActors();
        registry = actors.registry();
        targetContract(address(actors));
        bytes4[] memory steps = new bytes4[](4);
        steps[0] = actors.register.selector;
        steps[1] = actors.register.selector;
        steps[2] = actors.revoke.selector;
        steps[3] = actors.setName.selector;
        targetSelector(FuzzSelector({addr: address(actors), selectors: steps}));
    }

    /// @dev One campaign for all of them: each would be tried on the same sequences.
    function invariant_every_step_keeps_every_promise() public view {
        a_record_never_changes_but_to_be_revoked();
        parents_are_older_and_of_lawful_kinds();
        a_name_points_at_a_record_of_its_owner();
    }

    function a_record_never_changes_but_to_be_revoked() private view {
        for (uint256 i = 0; i < actors.count(); ++i) {
            bytes32 id = actors.idAt(i);
            IModelRegistry.Record memory record = registry.record(id);
            assertTrue(actors.isAsRegistered(id));
            assertTrue(record.status != IModelRegistry.Status.Unknown);
            assertEq(record.status == IModelRegistry.Status.Revoked, record.revokedAt != 0);
            assertEq(id, registry.recordId(record.publisher, record.manifestDigest));
        }
    }

    function parents_are_older_and_of_lawful_kinds() private view {
        for (uint256 i = 0; i < actors.count(); ++i) {
            IModelRegistry.Record memory child = registry.record(actors.idAt(i));
            bytes32[] memory parents = registry.parents(actors.idAt(i));
            assertLe(parents.length, 16);
            for (uint256 j = 0; j < parents.length; ++j) {
                IModelRegistry.Record memory parent = registry.record(parents[j]);
                assertLe(parent.registeredAt, child.registeredAt);
                // A record revoked before its child was made could not have become a parent.
                if (parent.revokedAt != 0) assertLe(child.registeredAt, parent.revokedAt);
                bool data = parent.kind == IModelRegistry.Kind.Dataset;
                if (child.kind == IModelRegistry.Kind.Dataset) assertTrue(data);
                if (child.kind == IModelRegistry.Kind.Model) assertFalse(data);
                if (child.kind == IModelRegistry.Kind.Run) {
                    assertTrue(data || parent.kind == IModelRegistry.Kind.Model);
                }
            }
        }
    }

    function a_name_points_at_a_record_of_its_owner() private view {
        for (uint256 i = 0; i < 4; ++i) {
            address publisher = actors.publishers(i & 1);
            bytes32 id = registry.resolve(publisher, actors.names(i >> 1));
            if (id != 0) assertEq(registry.record(id).publisher, publisher);
        }
        assertFalse(actors.trespassed());
    }
}
