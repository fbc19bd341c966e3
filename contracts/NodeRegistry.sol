// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {NodeBonds} from "./NodeBonds.sol";
import {IAuditAnchor} from "./interfaces/IAuditAnchor.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {CheckpointDigests} from "./libraries/CheckpointDigests.sol";
import {MerkleProofs} from "./libraries/MerkleProofs.sol";
import {ReceiptDigests} from "./libraries/ReceiptDigests.sol";

/// @title NodeRegistry
/// @notice See {INodeRegistry}. Here is what is evidence and what is not; the money is in NodeBonds.
contract NodeRegistry is NodeBonds {
    using SafeERC20 for IERC20;

    /// @inheritdoc INodeRegistry
    uint64 public constant ANSWER_WINDOW = 3 days;

    /// @inheritdoc INodeRegistry
    mapping(bytes32 id => Challenge) public challenges;

    constructor(IERC20 token_, IAuditAnchor anchors_, uint128 stake_) NodeBonds(token_, anchors_, stake_) {}

    /// @inheritdoc INodeRegistry
    function reportFork(string calldata origin, Head calldata first, Head calldata second)
        external
        nonReentrant
    {
        // Check
        if (first.size != second.size) revert WrongSizes(first.size, second.size);
        if (first.root == second.root) revert SameStatement();

        _slash(_signerOfBoth(origin, first, second), msg.sender, Lie.Fork);
    }

    /// @inheritdoc INodeRegistry
    function reportTwins(
        Receipt calldata first,
        bytes calldata firstSignature,
        Receipt calldata second,
        bytes calldata secondSignature
    ) external nonReentrant {
        // Check
        if (first.seq != second.seq) revert DifferentPlaces(first.seq, second.seq);
        if (ReceiptDigests.structHash(first) == ReceiptDigests.structHash(second)) revert SameStatement();
        address node = receiptSigner(first, firstSignature);
        _checkSame(node, receiptSigner(second, secondSignature));

        _slash(node, msg.sender, Lie.Twins);
    }

    /// @inheritdoc INodeRegistry
    function reportRewrite(
        string calldata origin,
        Head calldata first,
        Inclusion calldata inFirst,
        Head calldata second,
        Inclusion calldata inSecond,
        uint64 index
    ) external nonReentrant {
        // Check
        if (inFirst.leaf == inSecond.leaf) revert SameStatement();
        _checkIncluded(first, inFirst, index);
        _checkIncluded(second, inSecond, index);

        _slash(_signerOfBoth(origin, first, second), msg.sender, Lie.Rewrite);
    }

    /// @inheritdoc INodeRegistry
    function reportDrop(
        string calldata origin,
        Head calldata head,
        Inclusion calldata found,
        Receipt calldata receipt,
        bytes calldata signature,
        bytes calldata text
    ) external nonReentrant {
        // Check
        bytes32 digest = sha256(text);
        if (digest != receipt.receiptDigest) revert WrongText(receipt.receiptDigest, digest);
        if (ReceiptDigests.leaf(text, signature, receipt.seq) == found.leaf) revert SameStatement();
        _checkIncluded(head, found, receipt.seq);
        address node = receiptSigner(receipt, signature);
        _checkSame(node, _headSigner(origin, head));

        _slash(node, msg.sender, Lie.Drop);
    }

    /// @inheritdoc INodeRegistry
    function challenge(string calldata origin, Head calldata earlier, Head calldata later)
        external
        nonReentrant
        returns (bytes32 id)
    {
        // Check
        if (earlier.size == 0 || earlier.size >= later.size) revert WrongSizes(earlier.size, later.size);
        address node = _signerOfBoth(origin, earlier, later);
        Node storage known = _standing(node);
        id = _challengeId(node, earlier.size, earlier.root, later.size, later.root);
        if (challenges[id].deadline != 0) revert AlreadyChallenged(id);

        // Effect
        challenges[id] = Challenge({
            challenger: msg.sender, deadline: uint64(block.timestamp) + ANSWER_WINDOW, node: node
        });
        ++known.challenges;

        // Log
        emit Challenged(id, node, msg.sender, earlier.size, later.size);

        // Interaction
        _draw(stake);
    }

    /// @inheritdoc INodeRegistry
    function answer(
        address node,
        uint64 oldSize,
        bytes32 oldRoot,
        uint64 newSize,
        bytes32 newRoot,
        bytes32[] calldata proof
    ) external nonReentrant {
        // Check
        bytes32 id = _challengeId(node, oldSize, oldRoot, newSize, newRoot);
        if (challenges[id].challenger == address(0)) revert NoChallenge(id);
        if (!MerkleProofs.extends(oldRoot, oldSize, newRoot, newSize, proof)) revert NoExtension(id);

        // Effect
        // The deadline stays: what was shown once need not be shown again.
        challenges[id].challenger = address(0);
        Node storage known = _nodes[node];
        --known.challenges;

        // Log
        emit Answered(id, node);

        // Interaction
        token.safeTransfer(known.owner, stake);
    }

    /// @inheritdoc INodeRegistry
    function endSilence(bytes32 id) external nonReentrant {
        // Check
        Challenge memory asked = challenges[id];
        if (asked.challenger == address(0)) revert NoChallenge(id);
        bool slashed = _nodes[asked.node].slashedAt != 0;
        if (!slashed && block.timestamp <= asked.deadline) revert StillAnswerable(id, asked.deadline);

        // Effect
        challenges[id].challenger = address(0);
        --_nodes[asked.node].challenges;

        // Log
        emit Ended(id, asked.node);

        // Interaction
        if (!slashed) _slash(asked.node, asked.challenger, Lie.Silence);
        token.safeTransfer(asked.challenger, stake);
    }

    /// @inheritdoc INodeRegistry
    function receiptSigner(Receipt calldata receipt, bytes calldata signature) public view returns (address) {
        bytes32 domain = ReceiptDigests.domainSeparator(address(anchors));
        bytes32 digest = MessageHashUtils.toTypedDataHash(domain, ReceiptDigests.structHash(receipt));
        return ECDSA.recoverCalldata(digest, signature);
    }

    function _signerOfBoth(string calldata origin, Head calldata first, Head calldata second)
        private
        view
        returns (address node)
    {
        node = _headSigner(origin, first);
        _checkSame(node, _headSigner(origin, second));
    }

    function _headSigner(string calldata origin, Head calldata head) private view returns (address) {
        bytes32 hashed = CheckpointDigests.structHash(origin, head.size, head.root);
        bytes32 digest = MessageHashUtils.toTypedDataHash(anchors.domainSeparator(), hashed);
        return ECDSA.recoverCalldata(digest, head.signature);
    }

    function _checkSame(address first, address second) private pure {
        if (first != second) revert TwoSigners(first, second);
    }

    function _checkIncluded(Head calldata head, Inclusion calldata found, uint64 index) private pure {
        if (!MerkleProofs.includes(head.root, head.size, index, found.leaf, found.path)) {
            revert WrongProof(index, head.size);
        }
    }

    function _challengeId(address node, uint64 oldSize, bytes32 oldRoot, uint64 newSize, bytes32 newRoot)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(node, oldSize, oldRoot, newSize, newRoot));
    }
}
