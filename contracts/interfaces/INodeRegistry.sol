// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";

import {IAuditAnchor} from "./IAuditAnchor.sol";

/// @title INodeRegistry
/// @notice Who runs a node, where it answers, and what it loses when it lies. A node puts up a bond; whoever shows
/// that it signed two things that cannot both be true takes a share of the bond, and the rest is burned.
/// @dev A node is its signing key, and one key keeps one log: whoever loses a log begins a new one with a new key.
/// Every report stands on the node's own signatures, so an honest node cannot lose its bond.
interface INodeRegistry is IERC5267 {
    /// @param owner Who put the node up, gets the bond back, and changes the address.
    /// @param bond What can be lost, in the bond's token.
    /// @param leavesAt Unix seconds from which the bond can be taken back, 0 while the node stays.
    /// @param slashedAt Unix seconds at which a lie was shown, 0 if none was.
    /// @param challenges How many challenges wait for an answer.
    /// @param url Where the node answers.
    struct Node {
        address owner;
        uint128 bond;
        uint64 leavesAt;
        uint64 slashedAt;
        uint32 challenges;
        string url;
    }

    /// @notice The head of a log as a node signed it: EIP-712 `Checkpoint` of the AuditAnchor's domain.
    struct Head {
        uint64 size;
        bytes32 root;
        bytes signature;
    }

    /// @notice What a node's EIP-712 signature on a receipt binds; the domain is "Weightproof Receipt", version 1, at
    /// the AuditAnchor.
    struct Receipt {
        bytes32 receiptDigest;
        bytes32 modelId;
        address payer;
        uint256 charged;
        bytes32 requestHash;
        bytes32 responseHash;
        uint64 seq;
    }

    /// @notice That the leaf hash `leaf` stands at a place of a tree: RFC 6962 audit path, lowest sibling first.
    struct Inclusion {
        bytes32 leaf;
        bytes32[] path;
    }

    /// @param challenger Who gets the share if no answer comes, and the stake back; 0 once it is over.
    /// @param deadline Unix seconds after which silence can be ended; 0 for what was never asked.
    /// @param node Who must answer.
    struct Challenge {
        address challenger;
        uint64 deadline;
        address node;
    }

    /// @notice A node was put up.
    event Registered(address indexed node, address indexed owner, string url, uint128 bond);
    /// @notice A node answers elsewhere.
    event Moved(address indexed node, string url);
    /// @notice Somebody added to a bond.
    event BondRaised(address indexed node, uint128 amount, uint128 bond);
    /// @notice A node's owner wants the bond back.
    event Leaving(address indexed node, uint64 leavesAt);
    /// @notice A node left with its bond.
    event Left(address indexed node, uint128 bond);
    /// @notice A lie was shown: the reporter got `share`, `burned` is lost to everybody.
    event Slashed(
        address indexed node, address indexed reporter, Lie indexed lie, uint128 share, uint128 burned
    );
    /// @notice A node must show that its later head extends its earlier one.
    event Challenged(
        bytes32 indexed id, address indexed node, address challenger, uint64 oldSize, uint64 newSize
    );
    /// @notice It did.
    event Answered(bytes32 indexed id, address indexed node);
    /// @notice It did not, in time; or it was slashed meanwhile. The challenger has the stake back.
    event Ended(bytes32 indexed id, address indexed node);

    /// @notice The ways a node can be shown to lie.
    enum Lie {
        Fork,
        Twins,
        Rewrite,
        Drop,
        Silence
    }

    /// @notice There is no contract at this address.
    error NotAContract(address place);
    /// @notice The stake is zero.
    error NoStake();
    /// @notice The node is known already, or was slashed: a key is put up once.
    error AlreadyRegistered(address node);
    /// @notice No bond stands for this key.
    error UnknownNode(address node);
    /// @notice Only the node's owner may do this.
    error NotTheOwner(address node, address caller);
    /// @notice The node's key did not sign the consent.
    error NoConsent(address node, address signer);
    /// @notice Nothing was offered.
    error EmptyBond();
    /// @notice The token moved another amount than was asked of it.
    error WrongAmount(uint256 expected, uint256 moved);
    /// @notice The node is leaving already.
    error AlreadyLeaving(address node, uint64 leavesAt);
    /// @notice The bond still stands for what the node signed.
    error StillBound(address node, uint64 leavesAt, uint32 challenges);
    /// @notice Both statements are the same one: nothing is shown.
    error SameStatement();
    /// @notice Two heads or receipts that no single node signed.
    error TwoSigners(address first, address second);
    /// @notice The two heads are not of one size, or not the earlier first.
    error WrongSizes(uint64 first, uint64 second);
    /// @notice The two receipts stand at different places.
    error DifferentPlaces(uint64 first, uint64 second);
    /// @notice A proof does not lead to the root that was signed.
    error WrongProof(uint64 index, uint64 size);
    /// @notice The text is not that of the receipt.
    error WrongText(bytes32 digest, bytes32 found);
    /// @notice This very challenge was made before.
    error AlreadyChallenged(bytes32 id);
    /// @notice There is no such challenge, or it is over.
    error NoChallenge(bytes32 id);
    /// @notice An answer can still come.
    error StillAnswerable(bytes32 id, uint64 deadline);
    /// @notice The consistency proof does not show that the later head extends the earlier one.
    error NoExtension(bytes32 id);

    /// @notice Puts a node up. The bond is drawn from the caller by `transferFrom`.
    /// @param node The key that signs the node's receipts and checkpoints.
    /// @param consent EIP-712 `Consent(address owner,string url)` by that key: nobody is put up against its will.
    function register(address node, string calldata url, uint128 amount, bytes calldata consent) external;

    /// @notice Says where the node answers now. Its owner only.
    function move(address node, string calldata url) external;

    /// @notice Adds to a bond. Anyone may.
    function raise(address node, uint128 amount) external;

    /// @notice Asks for the bond back. Its owner only; the bond can be lost until `withdrawBond`, but from `leavesAt`
    /// on the owner can withdraw it before anybody's report: who reads a node then counts no bond.
    function announceLeaving(address node) external;

    /// @notice Gives the bond back to the owner, once the delay is over and no challenge waits.
    function withdrawBond(address node) external;

    /// @notice Shows a fork: two heads of one log and one size, with two roots.
    function reportFork(string calldata origin, Head calldata first, Head calldata second) external;

    /// @notice Shows twins: two different receipts with one sequence number.
    function reportTwins(
        Receipt calldata first,
        bytes calldata firstSignature,
        Receipt calldata second,
        bytes calldata secondSignature
    ) external;

    /// @notice Shows a rewritten log: two heads of one log that hold different leaves at one place.
    function reportRewrite(
        string calldata origin,
        Head calldata first,
        Inclusion calldata inFirst,
        Head calldata second,
        Inclusion calldata inSecond,
        uint64 index
    ) external;

    /// @notice Shows a dropped receipt: where a signed receipt belongs, a signed head holds another leaf.
    /// @param text The receipt's canonical bytes, whose SHA-256 is `receiptDigest`.
    function reportDrop(
        string calldata origin,
        Head calldata head,
        Inclusion calldata found,
        Receipt calldata receipt,
        bytes calldata signature,
        bytes calldata text
    ) external;

    /// @notice Asks a node to show on chain that its later head extends its earlier one, which it will not do off
    /// chain. The stake is drawn from the caller; the node's owner gets it when the answer comes.
    /// @return id The challenge: what it is answered or ended by.
    function challenge(string calldata origin, Head calldata earlier, Head calldata later)
        external
        returns (bytes32 id);

    /// @notice Answers a challenge with RFC 6962's consistency proof. Anyone may, at any time before it is ended.
    function answer(
        address node,
        uint64 oldSize,
        bytes32 oldRoot,
        uint64 newSize,
        bytes32 newRoot,
        bytes32[] calldata proof
    ) external;

    /// @notice Ends a challenge that nobody answered in time: silence loses the bond. Anyone may; the share and the
    /// stake go to the challenger. If the node was slashed meanwhile, only the stake is left to give, at once.
    function endSilence(bytes32 id) external;

    /// @notice Who signed a receipt: anyone can check one here.
    function receiptSigner(Receipt calldata receipt, bytes calldata signature) external view returns (address);

    /// @notice A node that was put up; all zero for others.
    function nodes(address node) external view returns (Node memory);

    /// @notice A challenge that waits.
    function challenges(bytes32 id) external view returns (address challenger, uint64 deadline, address node);

    /// @notice The token of bonds and stakes.
    function token() external view returns (IERC20);

    /// @notice Where logs are anchored, and whose domain checkpoints and receipts are signed in.
    function anchors() external view returns (IAuditAnchor);

    /// @notice What a challenge costs its challenger when it is answered.
    function stake() external view returns (uint128);

    /// @notice Seconds for which a bond stands after its owner wants it back.
    function LEAVING_DELAY() external view returns (uint64);

    /// @notice Seconds in which a challenge must be answered.
    function ANSWER_WINDOW() external view returns (uint64);

    /// @notice Where the rest of a lost bond goes: nobody has the key.
    function BURNED() external view returns (address);

    /// @notice The reporter's part of a lost bond, in basis points.
    function REPORTER_SHARE() external view returns (uint16);
}
