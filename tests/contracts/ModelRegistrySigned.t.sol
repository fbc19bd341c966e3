// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";

import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {IContractWallet} from "./Deployed.sol";
import {RegistryWorld} from "./RegistryWorld.sol";

/// @notice Requests that a publisher signed and somebody else submits.
contract ModelRegistrySignedTest is RegistryWorld {
    IModelRegistry.Kind private constant MODEL = IModelRegistry.Kind.Model;
    uint256 private soon;

    function setUp() public override {
        super.setUp();
        soon = block.timestamp + 60;
    }

    function refused() private {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.InvalidSignature.selector, publisher));
    }

    function test_a_registration_after_its_deadline_is_refused() public {
        bytes memory signature =
            signed(publisherKey, registerDigest(publisher, MODEL, "digest", none(), soon));
        vm.warp(soon + 1);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.SignatureExpired.selector, soon));
        registry.registerFor(publisher, MODEL, "digest", none(), soon, signature);
    }

    function test_a_registration_that_differs_from_what_was_signed_is_refused() public {
        bytes32 parent = model("parent");
        bytes memory signature =
            signed(publisherKey, registerDigest(publisher, MODEL, "digest", list(parent), soon));
        refused();
        registry.registerFor(publisher, IModelRegistry.Kind.Run, "digest", list(parent), soon, signature);
        refused();
        registry.registerFor(publisher, MODEL, "digesu", list(parent), soon, signature);
        refused();
        registry.registerFor(publisher, MODEL, "digest", none(), soon, signature);
        refused();
        registry.registerFor(publisher, MODEL, "digest", list(parent), soon + 1, signature);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.InvalidSignature.selector, other));
        registry.registerFor(other, MODEL, "digest", list(parent), soon, signature);
    }

    function test_a_registration_signed_by_somebody_else_or_by_nobody_is_refused() public {
        bytes memory signature = signed(otherKey, registerDigest(publisher, MODEL, "digest", none(), soon));
        refused();
        registry.registerFor(publisher, MODEL, "digest", none(), soon, signature);
        refused();
        registry.registerFor(publisher, MODEL, "digest", none(), soon, "");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.InvalidSignature.selector, address(0)));
        registry.registerFor(address(0), MODEL, "digest", none(), soon, new bytes(65));
    }

    function test_a_registration_signed_for_another_chain_or_registry_is_refused() public {
        bytes memory signature =
            signed(publisherKey, registerDigest(publisher, MODEL, "digest", none(), soon));
        IModelRegistry elsewhere = newRegistry();
        refused();
        elsewhere.registerFor(publisher, MODEL, "digest", none(), soon, signature);
        vm.chainId(1);
        refused();
        registry.registerFor(publisher, MODEL, "digest", none(), soon, signature);
    }

    function test_a_signed_registration_cannot_be_used_twice() public {
        bytes memory signature =
            signed(publisherKey, registerDigest(publisher, MODEL, "digest", none(), soon));
        bytes32 id = registry.registerFor(publisher, MODEL, "digest", none(), soon, signature);
        vm.prank(publisher);
        registry.revoke(id, "leaked");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.AlreadyRegistered.selector, id));
        registry.registerFor(publisher, MODEL, "digest", none(), soon, signature);
    }

    function test_a_frozen_wallets_registration_is_refused() public {
        IContractWallet wallet = newWallet(publisher);
        wallet.freeze();
        bytes memory signature =
            signed(publisherKey, registerDigest(address(wallet), MODEL, "digest", none(), soon));
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.InvalidSignature.selector, address(wallet)));
        registry.registerFor(address(wallet), MODEL, "digest", none(), soon, signature);
    }

    function test_a_revocation_that_differs_from_what_was_signed_is_refused() public {
        bytes32 id = model("digest");
        bytes32 sibling = model("sibling");
        bytes memory signature = signed(publisherKey, revokeDigest(id, "leaked", soon));
        refused();
        registry.revokeFor(sibling, "leaked", soon, signature);
        refused();
        registry.revokeFor(id, "lost", soon, signature);
        refused();
        registry.revokeFor(id, "leaked", soon + 1, signature);
        vm.warp(soon + 1);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.SignatureExpired.selector, soon));
        registry.revokeFor(id, "leaked", soon, signature);
    }

    function test_a_revocation_signed_by_somebody_else_is_refused() public {
        bytes32 id = model("digest");
        bytes memory signature = signed(otherKey, revokeDigest(id, "leaked", soon));
        refused();
        registry.revokeFor(id, "leaked", soon, signature);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownRecord.selector, bytes32("nobody")));
        registry.revokeFor("nobody", "leaked", soon, signature);
    }

    function test_a_signed_revocation_cannot_be_used_twice() public {
        bytes32 id = model("digest");
        bytes memory signature = signed(publisherKey, revokeDigest(id, "leaked", soon));
        registry.revokeFor(id, "leaked", soon, signature);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.AlreadyRevoked.selector, id));
        registry.revokeFor(id, "leaked", soon, signature);
    }

    function test_a_naming_that_differs_from_what_was_signed_is_refused() public {
        bytes32 id = model("digest");
        bytes32 sibling = model("sibling");
        bytes memory signature = signed(publisherKey, nameDigest(publisher, "chat", id, 0, soon));
        refused();
        registry.setNameFor(publisher, "chatt", id, 0, soon, signature);
        refused();
        registry.setNameFor(publisher, "chat", sibling, 0, soon, signature);
        refused();
        registry.setNameFor(publisher, "chat", id, 1, soon, signature);
        refused();
        registry.setNameFor(publisher, "chat", id, 0, soon + 1, signature);
        vm.warp(soon + 1);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.SignatureExpired.selector, soon));
        registry.setNameFor(publisher, "chat", id, 0, soon, signature);
    }

    function test_an_old_naming_cannot_be_played_again() public {
        bytes32 first = model("first");
        bytes32 second = model("second");
        bytes memory toFirst = signed(publisherKey, nameDigest(publisher, "chat", first, 0, soon));
        bytes memory toSecond = signed(publisherKey, nameDigest(publisher, "chat", second, 1, soon));
        registry.setNameFor(publisher, "chat", first, 0, soon, toFirst);
        registry.setNameFor(publisher, "chat", second, 1, soon, toSecond);
        vm.expectRevert(abi.encodeWithSelector(Nonces.InvalidAccountNonce.selector, publisher, 2));
        registry.setNameFor(publisher, "chat", first, 0, soon, toFirst);
        assertEq(registry.resolve(publisher, "chat"), second);
    }

    function test_anyone_may_submit_what_a_publisher_signed() public {
        bytes32 digest = registerDigest(publisher, MODEL, "digest", none(), soon);
        vm.startPrank(other);
        bytes32 id =
            registry.registerFor(publisher, MODEL, "digest", none(), soon, signed(publisherKey, digest));
        assertEq(registry.record(id).publisher, publisher);

        digest = nameDigest(publisher, "chat", id, 0, soon);
        registry.setNameFor(publisher, "chat", id, 0, soon, signed(publisherKey, digest));
        assertEq(registry.resolve(publisher, "chat"), id);
        assertEq(registry.nonces(publisher), 1);

        digest = revokeDigest(id, "leaked", soon);
        registry.revokeFor(id, "leaked", soon, signed(publisherKey, digest));
        assertTrue(registry.record(id).status == IModelRegistry.Status.Revoked);
        vm.stopPrank();
    }

    function test_a_wallet_can_be_a_publisher() public {
        address wallet = address(newWallet(publisher));
        bytes32 digest = registerDigest(wallet, MODEL, "digest", none(), soon);
        bytes32 id = registry.registerFor(wallet, MODEL, "digest", none(), soon, signed(publisherKey, digest));
        registry.revokeFor(id, "leaked", soon, signed(publisherKey, revokeDigest(id, "leaked", soon)));
        assertEq(registry.record(id).publisher, wallet);
    }

    function testFuzz_no_other_digest_opens_a_signed_registration(bytes32 meant, bytes32 tried) public {
        vm.assume(meant != tried && tried != 0);
        bytes memory signature = signed(publisherKey, registerDigest(publisher, MODEL, meant, none(), soon));
        refused();
        registry.registerFor(publisher, MODEL, tried, none(), soon, signature);
    }
}
