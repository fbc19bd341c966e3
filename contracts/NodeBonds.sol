// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IAuditAnchor} from "./interfaces/IAuditAnchor.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentChannels} from "./interfaces/IPaymentChannels.sol";
import {ReceiptDigests} from "./libraries/ReceiptDigests.sol";

/// @title NodeBonds
/// @notice The money half of {INodeRegistry}: bonds that are put up, taken back and lost, and what payers get of them.
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
    IERC20 public immutable token;
    /// @inheritdoc INodeRegistry
    IAuditAnchor public immutable anchors;
    /// @inheritdoc INodeRegistry
    IPaymentChannels public immutable channels;
    /// @inheritdoc INodeRegistry
    uint128 public immutable stake;

    /// @inheritdoc INodeRegistry
    mapping(address node => uint128) public pots;
    /// @inheritdoc INodeRegistry
    mapping(bytes32 channelId => uint128) public covered;
    /// @inheritdoc INodeRegistry
    mapping(address node => uint256) public coveredTotal;
    mapping(address node => Node) internal _nodes;

    constructor(IERC20 token_, IAuditAnchor anchors_, IPaymentChannels channels_, uint128 stake_)
        EIP712("Weightproof NodeRegistry", "1")
    {
        _checkContract(address(token_));
        _checkContract(address(anchors_));
        _checkContract(address(channels_));
        if (stake_ == 0) revert NoStake();
        (token, anchors, channels, stake) = (token_, anchors_, channels_, stake_);
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
    function cover(IPaymentChannels.ChannelConfig calldata config) external {
        // Check
        address node = config.receiverAuthorizer;
        _standing(node);
        bytes32 channelId = channels.getChannelId(config);
        (, uint128 paid) = channels.channels(channelId);
        uint128 before = covered[channelId];
        if (config.token != address(token) || paid <= before) revert NothingToCover(channelId);

        // Effect
        covered[channelId] = paid;
        coveredTotal[node] += paid - before;

        // Log
        emit Covered(node, channelId, paid);
    }

    /// @inheritdoc INodeRegistry
    function payOut(IPaymentChannels.ChannelConfig calldata config) external nonReentrant {
        // Check
        address node = config.receiverAuthorizer;
        bytes32 channelId = channels.getChannelId(config);
        uint128 paid = covered[channelId];
        if (_nodes[node].slashedAt == 0 || paid == 0) revert NothingToPayOut(channelId);

        // Effect
        covered[channelId] = 0;
        uint256 amount = uint256(pots[node]) * paid / coveredTotal[node];

        // Log
        emit PaidOut(node, channelId, config.payer, amount);

        // Interaction
        token.safeTransfer(config.payer, amount);
    }

    /// @inheritdoc INodeRegistry
    function nodes(address node) external view returns (Node memory) {
        return _nodes[node];
    }

    /// @dev Takes the bond: a share to the reporter, the rest to the pot.
    function _slash(address node, address reporter, Lie lie) internal {
        Node storage known = _standing(node);

        // Effect
        uint128 bond = known.bond;
        // Fits: at most the bond.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 share = uint128(uint256(bond) * REPORTER_SHARE / _WHOLE);
        known.bond = 0;
        known.slashedAt = uint64(block.timestamp);
        pots[node] = bond - share;

        // Log
        emit Slashed(node, reporter, lie, share, bond - share);

        // Interaction
        token.safeTransfer(reporter, share);
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
