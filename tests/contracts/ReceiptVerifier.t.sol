// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IAuditAnchor} from "../../contracts/interfaces/IAuditAnchor.sol";
import {INodeRegistry} from "../../contracts/interfaces/INodeRegistry.sol";
import {IReceiptVerifier} from "../../contracts/interfaces/IReceiptVerifier.sol";
import {Deployed} from "./Deployed.sol";

/// @notice The receipts that Python and JavaScript read too, verified on chain.
contract ReceiptVerifierTest is Deployed {
    struct Vector {
        IReceiptVerifier.Shown shown;
        string origin;
        INodeRegistry.Head head;
        bytes32[] path;
        address node;
    }

    IAuditAnchor private anchors;
    IReceiptVerifier private verifier;
    string[8] private names = [
        "v1/ok_channel",
        "v1/ok_exact",
        "v1/ok_recorded",
        "v1/partial_stream",
        "v1/failed_generation",
        "v1/refused_unknown_model",
        "v2/ok_tier",
        "v2/ok_purchase"
    ];

    function setUp() public {
        vm.chainId(31337);
        // The vectors are of the log anchored here.
        address place = 0x5FbDB2315678afecb367f032d93F642f64180aa3;
        IAuditAnchor made = newAnchors();
        // A domain separator that was kept for the address of the original is made anew at another.
        vm.etch(place, address(made).code);
        anchors = IAuditAnchor(place);
        verifier = newReceiptVerifier(place);
    }

    function read(string memory name) private view returns (Vector memory vector) {
        string memory folder = string.concat(vm.projectRoot(), "/tests/vectors/receipts/");
        string memory json = vm.readFile(string.concat(folder, name, ".json"));
        vector.shown.receipt = INodeRegistry.Receipt({
            receiptDigest: vm.parseJsonBytes32(json, ".struct.receiptDigest"),
            modelId: vm.parseJsonBytes32(json, ".struct.modelId"),
            payer: vm.parseJsonAddress(json, ".struct.payer"),
            charged: vm.parseJsonUint(json, ".struct.charged"),
            requestHash: vm.parseJsonBytes32(json, ".struct.requestHash"),
            responseHash: vm.parseJsonBytes32(json, ".struct.responseHash"),
            seq: uint64(vm.parseJsonUint(json, ".struct.seq"))
        });
        vector.shown.text = bytes(vm.parseJsonString(json, ".canonical"));
        vector.shown.signature = vm.parseJsonBytes(json, ".bundle.signature");
        vector.node = vm.parseJsonAddress(json, ".node");
        vector.origin = vm.parseJsonString(json, ".checkpoint.origin");
        vector.head = INodeRegistry.Head({
            size: uint64(vm.parseJsonUint(json, ".checkpoint.size")),
            root: vm.parseJsonBytes32(json, ".checkpoint.root"),
            signature: vm.parseJsonBytes(json, ".checkpoint.signature")
        });
        vector.path = vm.parseJsonBytes32Array(json, ".inclusion");
    }

    function isLogged(Vector memory vector) private view returns (bool) {
        return verifier.isLogged(vector.origin, vector.head, vector.shown, vector.path);
    }

    function test_another_text_is_refused() public {
        Vector memory vector = read(names[0]);
        bytes memory other = bytes.concat(vector.shown.text, " ");
        bytes32 wanted = vector.shown.receipt.receiptDigest;
        vector.shown.text = other;
        vm.expectRevert(abi.encodeWithSelector(IReceiptVerifier.WrongText.selector, wanted, sha256(other)));
        verifier.signerOf(vector.shown);
    }

    function test_a_changed_value_has_another_signer() public view {
        Vector memory vector = read(names[0]);
        vector.shown.receipt.charged += 1;
        assertNotEq(verifier.signerOf(vector.shown), vector.node);
    }

    function test_what_is_no_signature_is_refused() public {
        Vector memory vector = read(names[0]);
        for (uint256 length = 64; length < 67; ++length) {
            vector.shown.signature = new bytes(length);
            vm.expectRevert();
            verifier.signerOf(vector.shown);
        }
    }

    function test_a_receipt_of_another_chain_has_another_signer() public {
        Vector memory vector = read(names[0]);
        vm.chainId(31338);
        assertNotEq(verifier.signerOf(vector.shown), vector.node);
    }

    function test_a_head_of_another_log_or_size_shows_nothing() public view {
        Vector memory vector = read(names[0]);
        vector.origin = "other.example/log";
        assertFalse(isLogged(vector));
        vector = read(names[0]);
        vector.head.size += 1;
        assertFalse(isLogged(vector));
    }

    function test_a_head_that_somebody_else_signed_shows_nothing() public {
        Vector memory vector = read(names[0]);
        (, uint256 key) = makeAddrAndKey("stranger");
        bytes32 typehash = keccak256("Checkpoint(string origin,uint64 size,bytes32 root)");
        bytes32 hashed = keccak256(
            abi.encode(typehash, keccak256(bytes(vector.origin)), vector.head.size, vector.head.root)
        );
        bytes32 digest = MessageHashUtils.toTypedDataHash(anchors.domainSeparator(), hashed);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        vector.head.signature = abi.encodePacked(r, s, v);
        assertFalse(isLogged(vector));
    }

    function testFuzz_a_path_with_a_change_shows_nothing(uint256 place, uint256 bit) public view {
        Vector memory vector = read(names[0]);
        vector.path[place % vector.path.length] ^= bytes32(1 << (bit % 256));
        assertFalse(isLogged(vector));
    }

    function test_a_path_that_is_too_long_or_too_short_shows_nothing() public view {
        Vector memory vector = read(names[0]);
        bytes32[] memory path = vector.path;
        for (uint256 length; length < path.length + 2; ++length) {
            vector.path = new bytes32[](length);
            for (uint256 i; i < length && i < path.length; ++i) {
                vector.path[i] = path[i];
            }
            assertEq(isLogged(vector), length == path.length);
        }
    }

    function test_no_verifier_is_made_for_an_address_without_a_contract() public {
        (address made, bytes memory failure) = tried("ReceiptVerifier", abi.encode(address(1)));
        assertEq(made, address(0));
        assertEq(failure, abi.encodeWithSelector(IReceiptVerifier.NotAContract.selector, address(1)));
    }

    function test_every_kind_of_receipt_is_signed_and_logged() public view {
        for (uint256 i; i < names.length; ++i) {
            Vector memory vector = read(names[i]);
            assertEq(verifier.signerOf(vector.shown), vector.node);
            assertTrue(isLogged(vector), names[i]);
        }
    }
}
