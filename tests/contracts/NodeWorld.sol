// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IAuditAnchor} from "../../contracts/interfaces/IAuditAnchor.sol";
import {INodeRegistry} from "../../contracts/interfaces/INodeRegistry.sol";
import {ChannelWorld} from "./ChannelWorld.sol";
import {LogTree} from "./LogTree.sol";

/// @notice A node that was put up with a bond, its signatures, and logs of any leaves.
abstract contract NodeWorld is ChannelWorld {
    string internal constant ORIGIN = "node.example/log";
    uint128 internal constant BOND = 1_000e6;
    uint128 internal constant STAKE = 5e6;

    IAuditAnchor internal anchors;
    INodeRegistry internal registry;
    address internal owner;
    address internal reporter;
    // A node signs claims too: it is its channels' receiverAuthorizer.
    address internal node;
    uint256 internal nodeKey;

    function setUp() public virtual override {
        super.setUp();
        anchors = newAnchors();
        registry = newNodeRegistry(address(token), address(anchors), STAKE);
        (node, nodeKey) = (authorizer, authorizerKey);
        owner = makeAddr("owner");
        reporter = makeAddr("reporter");
        for (uint256 i; i < 2; ++i) {
            address holder = i == 0 ? owner : reporter;
            token.mint(holder, 10 * BOND);
            vm.prank(holder);
            token.approve(address(registry), type(uint256).max);
        }
    }

    function separator() internal view returns (bytes32) {
        return domain("Weightproof NodeRegistry", address(registry));
    }

    function domain(string memory name, address place) internal view returns (bytes32) {
        bytes32 typehash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typehash, keccak256(bytes(name)), keccak256("1"), block.chainid, place));
    }

    function consent(address owner_, string memory url) internal view returns (bytes memory) {
        bytes32 typehash = keccak256("Consent(address owner,string url)");
        bytes32 agreed = keccak256(abi.encode(typehash, owner_, keccak256(bytes(url))));
        return signed(nodeKey, MessageHashUtils.toTypedDataHash(separator(), agreed));
    }

    function register() internal {
        bytes memory agreed = consent(owner, "https://node.example");
        vm.prank(owner);
        registry.register(node, "https://node.example", BOND, agreed);
    }

    function head(uint64 size, bytes32 root) internal view returns (INodeRegistry.Head memory) {
        return headBy(nodeKey, size, root);
    }

    function headBy(uint256 key, uint64 size, bytes32 root)
        internal
        view
        returns (INodeRegistry.Head memory)
    {
        bytes32 typehash = keccak256("Checkpoint(string origin,uint64 size,bytes32 root)");
        bytes32 checkpoint = keccak256(abi.encode(typehash, keccak256(bytes(ORIGIN)), size, root));
        bytes32 digest = MessageHashUtils.toTypedDataHash(anchors.domainSeparator(), checkpoint);
        return INodeRegistry.Head({size: size, root: root, signature: signed(key, digest)});
    }

    function headOf(bytes32[] memory log, uint256 size) internal view returns (INodeRegistry.Head memory) {
        return head(uint64(size), LogTree.root(log, 0, size));
    }

    function included(bytes32[] memory log, uint256 index, uint256 size)
        internal
        pure
        returns (INodeRegistry.Inclusion memory)
    {
        return INodeRegistry.Inclusion({leaf: log[index], path: LogTree.path(log, index, 0, size)});
    }

    /// @dev A log of `size` leaves; another `variant` differs in every leaf from `from` on.
    function leaves(uint256 size, uint256 from, uint256 variant)
        internal
        pure
        returns (bytes32[] memory log)
    {
        log = new bytes32[](size);
        for (uint256 i; i < size; ++i) {
            log[i] = keccak256(abi.encode(i, i < from ? 0 : variant));
        }
    }

    function receipt(uint64 seq, uint256 charged) internal view returns (INodeRegistry.Receipt memory) {
        return INodeRegistry.Receipt({
            receiptDigest: sha256(text(charged)),
            modelId: "model",
            payer: payer,
            charged: charged,
            requestHash: "request",
            responseHash: "response",
            seq: seq
        });
    }

    function text(uint256 charged) internal pure returns (bytes memory) {
        return abi.encodePacked('{"charged":"', vm.toString(charged), '"}');
    }

    function receiptSignature(INodeRegistry.Receipt memory stated) internal view returns (bytes memory) {
        bytes32 typehash = keccak256(
            "Receipt(bytes32 receiptDigest,bytes32 modelId,address payer,uint256 charged,bytes32 requestHash,bytes32 responseHash,uint64 seq)"
        );
        bytes32 hashed = keccak256(
            abi.encode(
                typehash,
                stated.receiptDigest,
                stated.modelId,
                stated.payer,
                stated.charged,
                stated.requestHash,
                stated.responseHash,
                stated.seq
            )
        );
        bytes32 place = domain("Weightproof Receipt", address(anchors));
        return signed(nodeKey, MessageHashUtils.toTypedDataHash(place, hashed));
    }

    /// @dev The leaf of a receipt's entry, as the log has it.
    function receiptLeaf(INodeRegistry.Receipt memory stated, bytes memory shown)
        internal
        view
        returns (bytes32)
    {
        return sha256(
            abi.encodePacked(
                hex"00",
                '{"body":{"receipt":',
                shown,
                ',"signature":"',
                vm.toString(receiptSignature(stated)),
                '"},"format":"weightproof/entry@1","kind":"receipt","seq":',
                vm.toString(uint256(stated.seq)),
                "}"
            )
        );
    }
}
