// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";

/// @title IModelRegistry
/// @notice Says which datasets, training runs and models a publisher stands behind. A record holds only the digest
/// of a manifest; the manifest (an IPFS block) lists every file and tensor. A record is never changed and never
/// removed: its publisher may revoke it, once and for ever.
/// @dev A record's id is `keccak256(abi.encode(publisher, manifestDigest))`, so nobody can squat on somebody else's
/// digest and a signed registration cannot be replayed into a second record.
interface IModelRegistry is IERC5267 {
    /// @notice What a record is about. `None` is refused everywhere.
    enum Kind {
        None,
        Dataset,
        Run,
        Model
    }

    /// @notice `Unknown`: no such record. `Revoked` is final.
    enum Status {
        Unknown,
        Active,
        Revoked
    }

    /// @param publisher Who registered it, and the only one who may revoke it.
    /// @param kind What the manifest describes.
    /// @param status Whether it exists and still stands.
    /// @param registeredAt Unix seconds of the block that registered it.
    /// @param revokedAt Unix seconds of the block that revoked it, 0 while active.
    /// @param manifestDigest SHA-256 of the canonical manifest.
    struct Record {
        address publisher;
        Kind kind;
        Status status;
        uint64 registeredAt;
        uint64 revokedAt;
        bytes32 manifestDigest;
    }

    /// @notice A record was made.
    event Registered(
        bytes32 indexed id,
        address indexed publisher,
        Kind indexed kind,
        bytes32 manifestDigest,
        bytes32[] parents
    );
    /// @notice A record was withdrawn by its publisher, for the reason it gives.
    event Revoked(bytes32 indexed id, address indexed publisher, string reason);
    /// @notice A publisher's name points at another of its records.
    event NameSet(address indexed publisher, string name, bytes32 indexed id);

    /// @notice The kind must be Dataset, Run or Model.
    error InvalidKind(Kind kind);
    /// @notice A manifest's digest is never zero.
    error ZeroDigest();
    /// @notice This publisher has already recorded this digest.
    error AlreadyRegistered(bytes32 id);
    /// @notice More parents than a record may have.
    error TooManyParents(uint256 count, uint256 limit);
    /// @notice A parent must be recorded first.
    error UnknownParent(bytes32 parent);
    /// @notice Nothing new may be built on a revoked record.
    error RevokedParent(bytes32 parent);
    /// @notice The same parent is named twice.
    error DuplicateParent(bytes32 parent);
    /// @notice A record of kind `child` cannot come from one of kind `parentKind`.
    error ParentKindNotAllowed(bytes32 parent, Kind parentKind, Kind child);
    /// @notice No record has this id.
    error UnknownRecord(bytes32 id);
    /// @notice Only the record's publisher may do this.
    error NotPublisher(address caller, address publisher);
    /// @notice The record is revoked already.
    error AlreadyRevoked(bytes32 id);
    /// @notice Names are 1 to 64 bytes of `a-z 0-9 . _ -`.
    error InvalidName(string name);
    /// @notice The deadline of a signed request has passed.
    error SignatureExpired(uint256 deadline);
    /// @notice The signature is not `signer`'s over exactly this request.
    error InvalidSignature(address signer);

    /// @notice Records a manifest in the caller's name.
    /// @param kind What the manifest describes.
    /// @param manifestDigest SHA-256 of the canonical manifest, not zero.
    /// @param parents At most 16 ids of what it was made from: a Dataset comes from Datasets, a Run from Datasets and
    /// Models, a Model from Runs and Models. Each exists, is active and is named once.
    /// @return id The record's id.
    function register(Kind kind, bytes32 manifestDigest, bytes32[] calldata parents)
        external
        returns (bytes32 id);

    /// @notice Records a manifest in the name of a publisher who signed for it, so that a training machine needs no
    /// ether. Anyone may submit it.
    /// @param publisher In whose name; a key's address or an EIP-1271 wallet.
    /// @param kind As in `register`.
    /// @param manifestDigest As in `register`.
    /// @param parents As in `register`.
    /// @param deadline Unix seconds after which the signature is refused.
    /// @param signature EIP-712 over `Register(address publisher,uint8 kind,bytes32 manifestDigest,bytes32[]
    /// parents,uint256 deadline)`.
    /// @return id The record's id.
    function registerFor(
        address publisher,
        Kind kind,
        bytes32 manifestDigest,
        bytes32[] calldata parents,
        uint256 deadline,
        bytes calldata signature
    ) external returns (bytes32 id);

    /// @notice Revokes the caller's own record, for ever.
    /// @param id The record.
    /// @param reason A sentence for those who relied on it; it is only logged.
    function revoke(bytes32 id, string calldata reason) external;

    /// @notice Revokes a record on its publisher's signature. Anyone may submit it.
    /// @param id The record.
    /// @param reason As in `revoke`.
    /// @param deadline Unix seconds after which the signature is refused.
    /// @param signature EIP-712 over `Revoke(bytes32 id,string reason,uint256 deadline)` by the record's publisher.
    function revokeFor(bytes32 id, string calldata reason, uint256 deadline, bytes calldata signature)
        external;

    /// @notice Points one of the caller's names at one of the caller's active records.
    /// @param name 1 to 64 bytes of `a-z 0-9 . _ -`.
    /// @param id The record.
    function setName(string calldata name, bytes32 id) external;

    /// @notice Points a publisher's name at one of its active records, on its signature. Anyone may submit it.
    /// @param publisher Whose name.
    /// @param name As in `setName`.
    /// @param id As in `setName`.
    /// @param nonce The publisher's current nonce: unlike a record, a name can be set again, so order matters.
    /// @param deadline Unix seconds after which the signature is refused.
    /// @param signature EIP-712 over `SetName(address publisher,string name,bytes32 id,uint256 nonce,uint256
    /// deadline)`.
    function setNameFor(
        address publisher,
        string calldata name,
        bytes32 id,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external;

    /// @notice The record with this id; its status is `Unknown` if there is none.
    function record(bytes32 id) external view returns (Record memory);

    /// @notice The ids this record was made from, in the order given at registration.
    function parents(bytes32 id) external view returns (bytes32[] memory);

    /// @notice The id that a publisher's record of this manifest has or would have.
    function recordId(address publisher, bytes32 manifestDigest) external pure returns (bytes32);

    /// @notice The record a publisher's name points at, or zero. It may have been revoked since.
    function resolve(address publisher, string calldata name) external view returns (bytes32);

    /// @notice The nonce that a publisher's next signed naming must carry.
    function nonces(address publisher) external view returns (uint256);

    /// @notice The EIP-712 domain separator, for this chain and this address.
    function domainSeparator() external view returns (bytes32);
}
