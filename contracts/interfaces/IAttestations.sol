// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";

import {IModelRegistry} from "./IModelRegistry.sol";

/// @title IAttestations
/// @notice Signed statements about models: who checked what, with which score, on what evidence, until when. Anyone
/// may attest; whose word counts is the reader's policy.
/// @dev An attestation's id is its EIP-712 struct hash, so the same statement cannot be recorded twice.
interface IAttestations is IERC5267 {
    /// @param modelId The model's record in the ModelRegistry.
    /// @param attester Whose statement it is, and the only one who may revoke it.
    /// @param tag What was checked: ASCII, padded with zeros on the right ("integrity", "evaluation", "safety").
    /// @param score 0 to 10,000 basis points.
    /// @param evidence Digest of the evidence's IPFS block, 0 for none.
    /// @param issuedAt Unix seconds.
    /// @param expiresAt Unix seconds after which it counts no more.
    /// @param revokedAt Unix seconds of its revocation, 0 while it stands.
    struct Attestation {
        bytes32 modelId;
        address attester;
        bytes32 tag;
        uint32 score;
        bytes32 evidence;
        uint64 issuedAt;
        uint64 expiresAt;
        uint64 revokedAt;
    }

    /// @notice A statement was recorded.
    event Attested(
        bytes32 indexed id,
        bytes32 indexed modelId,
        address indexed attester,
        bytes32 tag,
        uint32 score,
        bytes32 evidence,
        uint64 issuedAt,
        uint64 expiresAt
    );
    /// @notice An attester took its statement back.
    event AttestationRevoked(bytes32 indexed id, address indexed attester);

    /// @notice There is no registry at this address.
    error InvalidRegistry(address registry);
    /// @notice Only a record of kind Model can be attested.
    error NotAModel(bytes32 modelId, IModelRegistry.Kind kind);
    /// @notice The model is unknown or revoked.
    error ModelNotActive(bytes32 modelId, IModelRegistry.Status status);
    /// @notice A statement says what was checked.
    error EmptyTag();
    /// @notice The score is above 10,000 basis points.
    error ScoreTooHigh(uint32 score, uint32 limit);
    /// @notice The statement has expired already.
    error AttestationExpired(uint64 expiresAt);
    /// @notice The statement is dated after this block.
    error IssuedInFuture(uint64 issuedAt);
    /// @notice Exactly this statement is recorded already.
    error DuplicateAttestation(bytes32 id);
    /// @notice No attestation has this id.
    error UnknownAttestation(bytes32 id);
    /// @notice Only the attester may do this.
    error NotAttester(address caller, address attester);
    /// @notice The attestation is revoked already.
    error AlreadyRevoked(bytes32 id);
    /// @notice The signature is not `signer`'s over exactly this statement.
    error InvalidSignature(address signer);

    /// @notice Records the caller's statement about an active model, dated now.
    /// @param modelId The model.
    /// @param tag What was checked, not zero.
    /// @param score 0 to 10,000 basis points.
    /// @param evidence Digest of the evidence block, 0 for none.
    /// @param expiresAt Unix seconds, later than now.
    /// @return id The attestation's id.
    function attest(bytes32 modelId, bytes32 tag, uint32 score, bytes32 evidence, uint64 expiresAt)
        external
        returns (bytes32 id);

    /// @notice Records the statement of an attester who signed it. Anyone may submit it.
    /// @param attester Whose statement; a key's address or an EIP-1271 wallet.
    /// @param modelId As in `attest`.
    /// @param tag As in `attest`.
    /// @param score As in `attest`.
    /// @param evidence As in `attest`.
    /// @param issuedAt Unix seconds, not later than now.
    /// @param expiresAt As in `attest`.
    /// @param signature EIP-712 over `Attestation(bytes32 modelId,address attester,bytes32 tag,uint32 score,bytes32
    /// evidence,uint64 issuedAt,uint64 expiresAt)`.
    /// @return id The attestation's id.
    function attestFor(
        address attester,
        bytes32 modelId,
        bytes32 tag,
        uint32 score,
        bytes32 evidence,
        uint64 issuedAt,
        uint64 expiresAt,
        bytes calldata signature
    ) external returns (bytes32 id);

    /// @notice Takes back the caller's own statement, for ever.
    /// @param id The attestation.
    function revoke(bytes32 id) external;

    /// @notice The registry whose models are attested here.
    function registry() external view returns (IModelRegistry);

    /// @notice The attestation with this id; all zero if there is none.
    function attestation(bytes32 id) external view returns (Attestation memory);

    /// @notice The ids of all statements about a model, oldest first, the revoked and expired ones too. Anybody can
    /// make this list longer: a reader who trusts some attesters asks `attestationsBy`.
    function attestationsOf(bytes32 modelId) external view returns (bytes32[] memory);

    /// @notice The ids of one attester's statements about a model, oldest first, the revoked and expired ones too.
    /// Nobody else can make this list longer.
    function attestationsBy(bytes32 modelId, address attester) external view returns (bytes32[] memory);

    /// @notice The id that this statement has or would have.
    function attestationId(
        bytes32 modelId,
        address attester,
        bytes32 tag,
        uint32 score,
        bytes32 evidence,
        uint64 issuedAt,
        uint64 expiresAt
    ) external pure returns (bytes32);

    /// @notice The EIP-712 domain separator, for this chain and this address.
    function domainSeparator() external view returns (bytes32);
}
