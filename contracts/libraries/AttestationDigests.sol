// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAttestations} from "../interfaces/IAttestations.sol";

/// @title AttestationDigests
/// @notice EIP-712 struct hash of an attestation. What happens to it later (`revokedAt`) is no part of it.
library AttestationDigests {
    bytes32 internal constant ATTESTATION_TYPEHASH = keccak256(
        "Attestation(bytes32 modelId,address attester,bytes32 tag,uint32 score,bytes32 evidence,"
        "uint64 issuedAt,uint64 expiresAt)"
    );

    function structHash(IAttestations.Attestation memory statement) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                ATTESTATION_TYPEHASH,
                statement.modelId,
                statement.attester,
                statement.tag,
                statement.score,
                statement.evidence,
                statement.issuedAt,
                statement.expiresAt
            )
        );
    }
}
