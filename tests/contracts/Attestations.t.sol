// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAttestations} from "../../contracts/interfaces/IAttestations.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {RegistryWorld} from "./RegistryWorld.sol";

contract AttestationsTest is RegistryWorld {
    bytes32 private constant TAG = "integrity";

    IAttestations private attestations;
    bytes32 private modelId;
    address private attester;
    uint256 private attesterKey;
    uint64 private today;
    uint64 private later;

    function setUp() public override {
        super.setUp();
        attestations = newAttestations(address(registry));
        modelId = model("model");
        (attester, attesterKey) = makeAddrAndKey("attester");
        today = uint64(block.timestamp);
        later = today + 30 days;
    }

    function attested() private returns (bytes32) {
        vm.prank(attester);
        return attestations.attest(modelId, TAG, 9000, "evidence", later);
    }

    function statementSignature(uint256 key, address by, uint32 score, uint64 issuedAt)
        private
        view
        returns (bytes memory)
    {
        bytes32 typehash = keccak256(
            "Attestation(bytes32 modelId,address attester,bytes32 tag,uint32 score,bytes32 evidence,uint64 issuedAt,uint64 expiresAt)"
        );
        bytes32 statement =
            keccak256(abi.encode(typehash, modelId, by, TAG, score, bytes32("evidence"), issuedAt, later));
        return signed(key, typed(attestations.domainSeparator(), statement));
    }

    function test_attestations_without_a_registry_are_refused() public {
        (address made, bytes memory failure) = tried("Attestations", abi.encode(other));
        assertEq(made, address(0));
        assertEq(failure, abi.encodeWithSelector(IAttestations.InvalidRegistry.selector, other));
    }

    function test_a_statement_about_an_unknown_model_is_refused() public {
        bytes4 refusal = IAttestations.ModelNotActive.selector;
        vm.expectRevert(abi.encodeWithSelector(refusal, bytes32("nobody"), IModelRegistry.Status.Unknown));
        attestations.attest("nobody", TAG, 1, 0, later);
    }

    function test_a_statement_about_a_revoked_model_is_refused() public {
        vm.prank(publisher);
        registry.revoke(modelId, "leaked");
        bytes4 refusal = IAttestations.ModelNotActive.selector;
        vm.expectRevert(abi.encodeWithSelector(refusal, modelId, IModelRegistry.Status.Revoked));
        attestations.attest(modelId, TAG, 1, 0, later);
    }

    function test_a_statement_about_a_dataset_is_refused() public {
        bytes32 data = registered(IModelRegistry.Kind.Dataset, "data", none());
        bytes4 refusal = IAttestations.NotAModel.selector;
        vm.expectRevert(abi.encodeWithSelector(refusal, data, IModelRegistry.Kind.Dataset));
        attestations.attest(data, TAG, 1, 0, later);
    }

    function test_a_statement_without_a_tag_is_refused() public {
        vm.expectRevert(IAttestations.EmptyTag.selector);
        attestations.attest(modelId, 0, 1, 0, later);
    }

    function test_a_score_above_a_hundred_percent_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IAttestations.ScoreTooHigh.selector, 10_001, 10_000));
        attestations.attest(modelId, TAG, 10_001, 0, later);
    }

    function test_a_statement_that_has_expired_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IAttestations.AttestationExpired.selector, today));
        attestations.attest(modelId, TAG, 1, 0, today);
    }

    function test_a_statement_from_the_future_is_refused() public {
        bytes memory signature = statementSignature(attesterKey, attester, 9000, today + 1);
        vm.expectRevert(abi.encodeWithSelector(IAttestations.IssuedInFuture.selector, today + 1));
        attestations.attestFor(attester, modelId, TAG, 9000, "evidence", today + 1, later, signature);
    }

    function test_the_same_statement_twice_is_refused() public {
        bytes32 id = attested();
        vm.expectRevert(abi.encodeWithSelector(IAttestations.DuplicateAttestation.selector, id));
        attested();
        // Nor can a statement that was taken back be submitted anew with its old signature.
        vm.prank(attester);
        attestations.revoke(id);
        bytes memory signature = statementSignature(attesterKey, attester, 9000, today);
        vm.expectRevert(abi.encodeWithSelector(IAttestations.DuplicateAttestation.selector, id));
        attestations.attestFor(attester, modelId, TAG, 9000, "evidence", today, later, signature);
    }

    function test_a_statement_that_differs_from_what_was_signed_is_refused() public {
        bytes memory signature = statementSignature(attesterKey, attester, 9000, today);
        bytes memory refusal = abi.encodeWithSelector(IAttestations.InvalidSignature.selector, attester);
        vm.expectRevert(refusal);
        attestations.attestFor(attester, modelId, "safety", 9000, "evidence", today, later, signature);
        vm.expectRevert(refusal);
        attestations.attestFor(attester, modelId, TAG, 9001, "evidence", today, later, signature);
        vm.expectRevert(refusal);
        attestations.attestFor(attester, modelId, TAG, 9000, "evidenc", today, later, signature);
        vm.expectRevert(refusal);
        attestations.attestFor(attester, modelId, TAG, 9000, "evidence", today - 1, later, signature);
        vm.expectRevert(refusal);
        attestations.attestFor(attester, modelId, TAG, 9000, "evidence", today, later + 1, signature);
    }

    function test_a_statement_signed_by_somebody_else_is_refused() public {
        bytes memory signature = statementSignature(otherKey, attester, 9000, today);
        vm.expectRevert(abi.encodeWithSelector(IAttestations.InvalidSignature.selector, attester));
        attestations.attestFor(attester, modelId, TAG, 9000, "evidence", today, later, signature);
    }

    function test_revoking_what_was_never_stated_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IAttestations.UnknownAttestation.selector, bytes32("nobody")));
        attestations.revoke("nobody");
    }

    function test_revoking_somebody_elses_statement_is_refused() public {
        bytes32 id = attested();
        vm.expectRevert(abi.encodeWithSelector(IAttestations.NotAttester.selector, publisher, attester));
        vm.prank(publisher);
        attestations.revoke(id);
    }

    function test_revoking_twice_is_refused() public {
        bytes32 id = attested();
        vm.startPrank(attester);
        attestations.revoke(id);
        vm.expectRevert(abi.encodeWithSelector(IAttestations.AlreadyRevoked.selector, id));
        attestations.revoke(id);
        vm.stopPrank();
    }

    function test_attesting_records_the_statement_and_says_so() public {
        bytes32 id = attestations.attestationId(modelId, attester, TAG, 9000, "evidence", today, later);
        vm.expectEmit(address(attestations));
        emit IAttestations.Attested(id, modelId, attester, TAG, 9000, "evidence", today, later);
        assertEq(attested(), id);

        IAttestations.Attestation memory statement = attestations.attestation(id);
        assertEq(statement.modelId, modelId);
        assertEq(statement.attester, attester);
        assertEq(statement.tag, TAG);
        assertEq(statement.score, 9000);
        assertEq(statement.evidence, "evidence");
        assertEq(statement.issuedAt, today);
        assertEq(statement.expiresAt, later);
        assertEq(statement.revokedAt, 0);
        assertEq(attestations.attestationsOf(modelId), list(id));
    }

    function test_anyone_may_submit_what_an_attester_signed() public {
        bytes memory signature = statementSignature(attesterKey, attester, 9000, today);
        skip(5);
        vm.prank(other);
        bytes32 id = attestations.attestFor(attester, modelId, TAG, 9000, "evidence", today, later, signature);
        assertEq(attestations.attestation(id).attester, attester);
        assertEq(attestations.attestation(id).issuedAt, today);
    }

    function test_a_wallet_can_be_an_attester() public {
        address wallet = address(newWallet(attester));
        bytes memory signature = statementSignature(attesterKey, wallet, 9000, today);
        bytes32 id = attestations.attestFor(wallet, modelId, TAG, 9000, "evidence", today, later, signature);
        assertEq(attestations.attestation(id).attester, wallet);
    }

    function test_several_statements_about_a_model_are_listed_oldest_first() public {
        bytes32 first = attested();
        vm.prank(other);
        bytes32 second = attestations.attest(modelId, "safety", 10_000, 0, later);
        assertEq(attestations.attestationsOf(modelId), list(first, second));
    }

    function test_strangers_statements_are_not_among_an_attesters_own() public {
        bytes32 first = attested();
        for (uint32 score = 0; score < 40; score++) {
            vm.prank(other);
            attestations.attest(modelId, TAG, score, 0, later);
        }
        vm.prank(attester);
        bytes32 second = attestations.attest(modelId, "safety", 10_000, 0, later);
        assertEq(attestations.attestationsOf(modelId).length, 42);
        assertEq(attestations.attestationsBy(modelId, attester), list(first, second));
        assertEq(attestations.attestationsBy(modelId, other).length, 40);
        assertEq(attestations.attestationsBy(modelId, publisher), none());
    }

    function test_an_attesters_statements_about_another_model_are_listed_apart() public {
        bytes32 id = attested();
        bytes32 another = model("another model");
        vm.prank(attester);
        bytes32 elsewhere = attestations.attest(another, TAG, 9000, 0, later);
        assertEq(attestations.attestationsBy(modelId, attester), list(id));
        assertEq(attestations.attestationsBy(another, attester), list(elsewhere));
    }

    function test_a_relayed_statement_is_listed_as_its_attesters_own() public {
        bytes memory signature = statementSignature(attesterKey, attester, 9000, today);
        vm.prank(other);
        bytes32 id = attestations.attestFor(attester, modelId, TAG, 9000, "evidence", today, later, signature);
        assertEq(attestations.attestationsBy(modelId, attester), list(id));
        assertEq(attestations.attestationsBy(modelId, other), none());
    }

    function test_revoking_keeps_the_statement_and_its_place() public {
        bytes32 id = attested();
        skip(10);
        vm.expectEmit(address(attestations));
        emit IAttestations.AttestationRevoked(id, attester);
        vm.prank(attester);
        attestations.revoke(id);
        assertEq(attestations.attestation(id).revokedAt, block.timestamp);
        assertEq(attestations.attestation(id).score, 9000);
        assertEq(attestations.attestationsOf(modelId), list(id));
        assertEq(attestations.attestationsBy(modelId, attester), list(id));
    }

    function testFuzz_only_scores_up_to_a_hundred_percent_are_taken(uint32 score) public {
        if (score > 10_000) {
            vm.expectRevert(abi.encodeWithSelector(IAttestations.ScoreTooHigh.selector, score, 10_000));
        }
        attestations.attest(modelId, TAG, score, 0, later);
    }
}
