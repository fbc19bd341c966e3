// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Test} from "forge-std/Test.sol";

import {IAuditAnchor} from "../../contracts/interfaces/IAuditAnchor.sol";
import {Deployed} from "./Deployed.sol";

/// @notice A node that signs checkpoints of any size and root for either of its logs, and submits old ones again.
contract AnchorActors is Deployed {
    IAuditAnchor public immutable anchors = newAnchors();
    string[2] private _origins = ["node.example/one", "node.example/two"];
    address private _node;
    uint256 private _key;
    uint64[2] private _size;
    bytes12[2] private _mark;

    /// @notice How many checkpoints were taken.
    uint256 public taken;
    /// @notice Whether a log ever shrank, or had two roots for one size.
    bool public rewrote;

    constructor() {
        (_node, _key) = makeAddrAndKey("node");
    }

    function anchor(uint256 which, uint64 size, uint256 variant) external {
        which &= 1;
        // A handful of sizes and roots, so that they meet again.
        size = uint64(bound(size, 0, 40));
        bytes32 root = keccak256(abi.encode(size, variant % 2));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_key, _digest(which, size, root));
        try anchors.anchor(_origins[which], size, root, abi.encodePacked(r, s, v)) {
            ++taken;
        } catch {}
        (uint64 now_,,, bytes12 current) = anchors.latest(anchors.logId(_node, _origins[which]));
        if (now_ < _size[which] || (now_ == _size[which] && current != _mark[which])) rewrote = true;
        (_size[which], _mark[which]) = (now_, current);
    }

    function _digest(uint256 which, uint64 size, bytes32 root) private view returns (bytes32) {
        bytes32 typehash = keccak256("Checkpoint(string origin,uint64 size,bytes32 root)");
        bytes32 checkpoint = keccak256(abi.encode(typehash, keccak256(bytes(_origins[which])), size, root));
        return MessageHashUtils.toTypedDataHash(anchors.domainSeparator(), checkpoint);
    }
}

contract AuditAnchorInvariantTest is Test {
    AnchorActors private actors;

    function setUp() public {
        vm.warp(1_750_000_000);
        actors = new AnchorActors();
        targetContract(address(actors));
        bytes4[] memory steps = new bytes4[](1);
        steps[0] = actors.anchor.selector;
        targetSelector(FuzzSelector({addr: address(actors), selectors: steps}));
    }

    function invariant_an_anchored_log_never_shrinks_and_one_size_has_one_root() public view {
        assertFalse(actors.rewrote());
    }
}
