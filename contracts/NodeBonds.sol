// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IAuditAnchor} from "./interfaces/IAuditAnchor.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ReceiptDigests} from "./libraries/ReceiptDigests.sol";

/// @title NodeBonds
/// @notice The money half of {INodeRegistry}: bonds that are put up, taken back and lost.
/// What loses a bond is decided in NodeRegistry.
abstract contract NodeBonds is INodeRegistry, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @inheritdoc INodeRegistry
    uint64 public constant LEAVING_DELAY = 14 days;
    /// @inheritdoc INodeRegistry
    /// @dev A quarter: enough to be worth the search, and a node that reports itself still loses the rest.
    uint16 public constant REPORTER_SHARE = 2_500;
    uint16 private constant _WHOLE = 10_000;
    /// @inheritdoc INodeRegistry
    /// @dev Nobody has its key; tokens refuse transfers to zero.
    address public constant BURNED = 0x000000000000000000000000000000000000dEaD;

    /// @inheritdoc INodeRegistry
    IERC20 public immutable token;
    /// @inheritdoc INodeRegistry
    IAuditAnchor public immutable anchors;
    /// @inheritdoc INodeRegistry
    uint128 public immutable stake;

    mapping(address node => Node) internal _nodes;

    constructor(IERC20 token_, IAuditAnchor anchors_, uint128 stake_)
        EIP712("Weightproof NodeRegistry", "1")
    {
        _checkContract(address(token_));
        _checkContract(address(anchors_));
        if (stake_ == 0) revert NoStake();
        (token, anchors, stake) = (token_, anchors_, stake_);
    }

    /// @inheritdoc INodeRegistry
    function register(address node, string calldata url, uint128 amount, bytes calldata consent)
        external
        nonReentrant
    {
        // Check
        if (amount == 0) revert EmptyBond();
        if (_nodes[node].owner != address(0)) revert AlreadyRegistered(node);
        bytes32 digest = _hashTypedDataV4(ReceiptDigests.consentHash(msg.sender, url));
        address signer = ECDSA.recoverCalldata(digest, consent);
        if (signer != node) revert NoConsent(node, signer);

        // Effect
        _nodes[node] =
            Node({owner: msg.sender, bond: amount, leavesAt: 0, slashedAt: 0, challenges: 0, url: url});

        // Log
        emit Registered(node, msg.sender, url, amount);

        // Interaction
        _draw(amount);
    }

    /// @inheritdoc INodeRegistry
    function move(address node, string calldata url) external {
        // Check
        Node storage known = _owned(node);

        // Effect
        known.url = url;

        // Log
        emit Moved(node, url);
    }

    /// @inheritdoc INodeRegistry
    function raise(address node, uint128 amount) external nonReentrant {
        // Check
        if (amount == 0) revert EmptyBond();
        Node storage known = _standing(node);

        // Effect
        known.bond += amount;

        // Log
        emit BondRaised(node, amount, known.bond);

        // Interaction
        _draw(amount);
    }

    /// @inheritdoc INodeRegistry
    function announceLeaving(address node) external {
        // Check
        Node storage known = _owned(node);
        if (known.leavesAt != 0) revert AlreadyLeaving(node, known.leavesAt);

        // Effect
        known.leavesAt = uint64(block.timestamp) + LEAVING_DELAY;

        // Log
        emit Leaving(node, known.leavesAt);
    }

    /// @inheritdoc INodeRegistry
    function withdrawBond(address node) external nonReentrant {
        // Check
        Node storage known = _owned(node);
        bool over = known.leavesAt != 0 && block.timestamp >= known.leavesAt;
        if (!over || known.challenges != 0) revert StillBound(node, known.leavesAt, known.challenges);

        // Effect
        uint128 bond = known.bond;
        known.bond = 0;

        // Log
        emit Left(node, bond);

        // Interaction
        token.safeTransfer(known.owner, bond);
    }

    /// @inheritdoc INodeRegistry
    function nodes(address node) external view returns (Node memory) {
        return _nodes[node];
    }

    /// @dev Takes the bond: a share to the reporter, the rest to nobody. Whatever a contract can see of payments, a
    /// node can make with money that goes round in a circle, in one transaction: a pot for payers would be its own.
    function _slash(address node, address reporter, Lie lie) internal {
        Node storage known = _standing(node);

        // Effect
        uint128 bond = known.bond;
        // Fits: at most the bond.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 share = uint128(uint256(bond) * REPORTER_SHARE / _WHOLE);
        known.bond = 0;
        known.slashedAt = uint64(block.timestamp);

        // Log
        emit Slashed(node, reporter, lie, share, bond - share);

        // Interaction
        token.safeTransfer(reporter, share);
        token.safeTransfer(BURNED, bond - share);
    }

    function _draw(uint128 amount) internal {
        uint256 held = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 moved = token.balanceOf(address(this)) - held;
        if (moved != amount) revert WrongAmount(amount, moved);
    }

    /// @dev A node whose bond can be lost.
    function _standing(address node) internal view returns (Node storage known) {
        known = _nodes[node];
        if (known.bond == 0) revert UnknownNode(node);
    }

    function _owned(address node) internal view returns (Node storage known) {
        known = _standing(node);
        if (msg.sender != known.owner) revert NotTheOwner(node, msg.sender);
    }

    function _checkContract(address place) private view {
        if (place.code.length == 0) revert NotAContract(place);
    }
}
