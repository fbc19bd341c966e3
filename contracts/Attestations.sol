// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {IAttestations} from "./interfaces/IAttestations.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {AttestationDigests} from "./libraries/AttestationDigests.sol";

/// @title Attestations
/// @notice See {IAttestations}.
contract Attestations is IAttestations, EIP712 {
    /// @dev Basis points: 100 %.
    uint32 private constant MAX_SCORE = 10_000;

    /// @inheritdoc IAttestations
    IModelRegistry public immutable registry;

    mapping(bytes32 id => Attestation) private _attestations;
    mapping(bytes32 modelId => bytes32[]) private _ofModel;
    mapping(bytes32 modelId => mapping(address attester => bytes32[])) private _byAttester;

    constructor(IModelRegistry registry_) EIP712("Weightproof Attestations", "1") {
        if (address(registry_).code.length == 0) revert InvalidRegistry(address(registry_));
        registry = registry_;
    }

    /// @inheritdoc IAttestations
    function attest(bytes32 modelId, bytes32 tag, uint32 score, bytes32 evidence, uint64 expiresAt)
        external
        returns (bytes32 id)
    {
        Attestation memory statement = Attestation({
            modelId: modelId,
            attester: msg.sender,
            tag: tag,
            score: score,
            evidence: evidence,
            issuedAt: uint64(block.timestamp),
            expiresAt: expiresAt,
            revokedAt: 0
        });
        id = AttestationDigests.structHash(statement);
        _attest(id, statement);
    }

    /// @inheritdoc IAttestations
    function attestFor(
        address attester,
        bytes32 modelId,
        bytes32 tag,
        uint32 score,
        bytes32 evidence,
        uint64 issuedAt,
        uint64 expiresAt,
        bytes calldata signature
    ) external returns (bytes32 id) {
        Attestation memory statement = Attestation({
            modelId: modelId,
            attester: attester,
            tag: tag,
            score: score,
            evidence: evidence,
            issuedAt: issuedAt,
            expiresAt: expiresAt,
            revokedAt: 0
        });
        id = AttestationDigests.structHash(statement);

        // Check
        bytes32 digest = _hashTypedDataV4(id);
        if (!SignatureChecker.isValidSignatureNowCalldata(attester, digest, signature)) {
            revert InvalidSignature(attester);
        }

        _attest(id, statement);
    }

    /// @inheritdoc IAttestations
    function revoke(bytes32 id) external {
        // Check
        Attestation storage statement = _attestations[id];
        address attester = statement.attester;
        if (attester == address(0)) revert UnknownAttestation(id);
        if (msg.sender != attester) revert NotAttester(msg.sender, attester);
        if (statement.revokedAt != 0) revert AlreadyRevoked(id);

        // Effect
        statement.revokedAt = uint64(block.timestamp);

        // Log
        emit AttestationRevoked(id, attester);
    }

    /// @inheritdoc IAttestations
    function attestation(bytes32 id) external view returns (Attestation memory) {
        return _attestations[id];
    }

    /// @inheritdoc IAttestations
    function attestationsOf(bytes32 modelId) external view returns (bytes32[] memory) {
        return _ofModel[modelId];
    }

    /// @inheritdoc IAttestations
    function attestationsBy(bytes32 modelId, address attester) external view returns (bytes32[] memory) {
        return _byAttester[modelId][attester];
    }

    /// @inheritdoc IAttestations
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @inheritdoc IAttestations
    function attestationId(
        bytes32 modelId,
        address attester,
        bytes32 tag,
        uint32 score,
        bytes32 evidence,
        uint64 issuedAt,
        uint64 expiresAt
    ) external pure returns (bytes32) {
        return AttestationDigests.structHash(
            Attestation({
                modelId: modelId,
                attester: attester,
                tag: tag,
                score: score,
                evidence: evidence,
                issuedAt: issuedAt,
                expiresAt: expiresAt,
                revokedAt: 0
            })
        );
    }

    function _attest(bytes32 id, Attestation memory statement) private {
        // Check
        _checkStatement(statement);
        _checkModel(statement.modelId);
        if (_attestations[id].attester != address(0)) revert DuplicateAttestation(id);

        // Effect
        _attestations[id] = statement;
        _ofModel[statement.modelId].push(id);
        _byAttester[statement.modelId][statement.attester].push(id);

        // Log
        emit Attested(
            id,
            statement.modelId,
            statement.attester,
            statement.tag,
            statement.score,
            statement.evidence,
            statement.issuedAt,
            statement.expiresAt
        );
    }

    function _checkStatement(Attestation memory statement) private view {
        if (statement.tag == 0) revert EmptyTag();
        if (statement.score > MAX_SCORE) revert ScoreTooHigh(statement.score, MAX_SCORE);
        if (statement.issuedAt > block.timestamp) revert IssuedInFuture(statement.issuedAt);
        if (statement.expiresAt <= block.timestamp) revert AttestationExpired(statement.expiresAt);
    }

    function _checkModel(bytes32 modelId) private view {
        IModelRegistry.Record memory model = registry.record(modelId);
        if (model.status != IModelRegistry.Status.Active) revert ModelNotActive(modelId, model.status);
        if (model.kind != IModelRegistry.Kind.Model) revert NotAModel(modelId, model.kind);
    }
}
