// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {Deployed} from "./Deployed.sol";

/// @notice A small world with two publishers, a registry and the signatures they make. The type strings are written
/// out again here, so that a change in the contract's own shows.
abstract contract RegistryWorld is Deployed {
    IModelRegistry internal registry;
    address internal publisher;
    uint256 internal publisherKey;
    address internal other;
    uint256 internal otherKey;

    function setUp() public virtual {
        vm.warp(1_750_000_000);
        registry = newRegistry();
        (publisher, publisherKey) = makeAddrAndKey("publisher");
        (other, otherKey) = makeAddrAndKey("other publisher");
    }

    function none() internal pure returns (bytes32[] memory) {
        return new bytes32[](0);
    }

    function list(bytes32 first) internal pure returns (bytes32[] memory ids) {
        ids = new bytes32[](1);
        ids[0] = first;
    }

    function list(bytes32 first, bytes32 second) internal pure returns (bytes32[] memory ids) {
        ids = new bytes32[](2);
        (ids[0], ids[1]) = (first, second);
    }

    /// @dev Registers `digest` in the publisher's name.
    function registered(IModelRegistry.Kind kind, bytes32 digest, bytes32[] memory parents)
        internal
        returns (bytes32)
    {
        vm.prank(publisher);
        return registry.register(kind, digest, parents);
    }

    function model(bytes32 digest) internal returns (bytes32) {
        return registered(IModelRegistry.Kind.Model, digest, none());
    }

    function typed(bytes32 domain, bytes32 structHash) internal pure returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(domain, structHash);
    }

    function signed(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function registerDigest(
        address by,
        IModelRegistry.Kind kind,
        bytes32 digest,
        bytes32[] memory parents,
        uint256 deadline
    ) internal view returns (bytes32) {
        bytes32 typehash = keccak256(
            "Register(address publisher,uint8 kind,bytes32 manifestDigest,bytes32[] parents,uint256 deadline)"
        );
        bytes32 lineage = keccak256(abi.encodePacked(parents));
        bytes32 request = keccak256(abi.encode(typehash, by, uint8(kind), digest, lineage, deadline));
        return typed(registry.domainSeparator(), request);
    }

    function revokeDigest(bytes32 id, string memory reason, uint256 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash = keccak256("Revoke(bytes32 id,string reason,uint256 deadline)");
        bytes32 request = keccak256(abi.encode(typehash, id, keccak256(bytes(reason)), deadline));
        return typed(registry.domainSeparator(), request);
    }

    function nameDigest(address by, string memory name, bytes32 id, uint256 nonce, uint256 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash = keccak256(
            "SetName(address publisher,string name,bytes32 id,uint256 nonce,uint256 deadline)"
        );
        bytes32 request = keccak256(abi.encode(typehash, by, keccak256(bytes(name)), id, nonce, deadline));
        return typed(registry.domainSeparator(), request);
    }
}
