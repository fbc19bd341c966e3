// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IDevUSD} from "../../contracts/interfaces/IDevUSD.sol";
import {Deployed, IContractWallet} from "./Deployed.sol";

contract DevUSDTest is Deployed {
    bytes32 private constant NONCE = "nonce";

    IDevUSD private token;
    address private payer;
    uint256 private payerKey;
    address private receiver;
    uint256 private since;
    uint256 private until;
    string private vectors;

    function setUp() public {
        vm.warp(1_750_000_000);
        token = newDollar();
        (payer, payerKey) = makeAddrAndKey("payer");
        receiver = makeAddr("receiver");
        token.mint(payer, 1000);
        (since, until) = (block.timestamp - 1, block.timestamp + 60);
        vectors = vm.readFile(string.concat(vm.projectRoot(), "/tests/vectors/x402_vectors.json"));
    }

    function digest(string memory kind, address from, uint256 value) private view returns (bytes32) {
        bytes32 typehash = vm.parseJsonBytes32(vectors, string.concat(".typehashes.", kind));
        bytes32 request = keccak256(abi.encode(typehash, from, receiver, value, since, until, NONCE));
        return MessageHashUtils.toTypedDataHash(token.DOMAIN_SEPARATOR(), request);
    }

    function signature(string memory kind, uint256 value) private view returns (bytes memory) {
        return signed(digest(kind, payer, value));
    }

    function signed(bytes32 hash) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, hash);
        return abi.encodePacked(r, s, v);
    }

    function cancelDigest() private view returns (bytes32) {
        bytes32 typehash = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");
        bytes32 request = keccak256(abi.encode(typehash, payer, NONCE));
        return MessageHashUtils.toTypedDataHash(token.DOMAIN_SEPARATOR(), request);
    }

    function test_another_value_than_was_signed_is_refused() public {
        bytes memory transfer = signature("TransferWithAuthorization", 100);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        token.transferWithAuthorization(payer, receiver, 101, since, until, NONCE, transfer);
    }

    function test_a_transfer_signature_is_refused_for_a_receive_and_the_reverse() public {
        bytes memory transfer = signature("TransferWithAuthorization", 100);
        bytes memory receive_ = signature("ReceiveWithAuthorization", 100);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        vm.prank(receiver);
        token.receiveWithAuthorization(payer, receiver, 100, since, until, NONCE, transfer);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        token.transferWithAuthorization(payer, receiver, 100, since, until, NONCE, receive_);
    }

    function test_an_authorisation_outside_its_time_is_refused() public {
        bytes memory transfer = signature("TransferWithAuthorization", 100);
        bytes4 refusal = ERC3009.ERC3009InvalidAuthorizationTime.selector;
        vm.warp(since);
        vm.expectRevert(abi.encodeWithSelector(refusal, since, until));
        token.transferWithAuthorization(payer, receiver, 100, since, until, NONCE, transfer);
        vm.warp(until);
        vm.expectRevert(abi.encodeWithSelector(refusal, since, until));
        token.transferWithAuthorization(payer, receiver, 100, since, until, NONCE, transfer);
    }

    function test_a_nonce_is_refused_the_second_time() public {
        bytes memory transfer = signature("TransferWithAuthorization", 100);
        token.transferWithAuthorization(payer, receiver, 100, since, until, NONCE, transfer);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, NONCE));
        token.transferWithAuthorization(payer, receiver, 100, since, until, NONCE, transfer);
    }

    function test_receiving_for_somebody_else_is_refused() public {
        bytes memory receive_ = signature("ReceiveWithAuthorization", 100);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, receiver));
        token.receiveWithAuthorization(payer, receiver, 100, since, until, NONCE, receive_);
    }

    function test_a_cancelled_authorisation_is_refused() public {
        bytes memory transfer = signature("TransferWithAuthorization", 100);
        token.cancelAuthorization(payer, NONCE, signed(cancelDigest()));
        assertTrue(token.authorizationState(payer, NONCE));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, NONCE));
        token.transferWithAuthorization(payer, receiver, 100, since, until, NONCE, transfer);
    }

    function test_cancelling_without_the_authorizers_signature_is_refused() public {
        bytes memory wrong = signature("TransferWithAuthorization", 100);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        token.cancelAuthorization(payer, NONCE, wrong);
    }

    function test_it_is_the_dollar_that_requirements_name() public view {
        assertEq(token.name(), "DevUSD");
        assertEq(token.symbol(), "DUSD");
        assertEq(token.version(), "1");
        assertEq(token.decimals(), 6);
        bytes32 domain = MessageHashUtils.toDomainSeparator(
            bytes1(0x0f), keccak256("DevUSD"), keccak256("1"), block.chainid, address(token), 0
        );
        assertEq(token.DOMAIN_SEPARATOR(), domain);
    }

    function test_anyone_may_mint() public {
        vm.prank(receiver);
        token.mint(receiver, 5);
        assertEq(token.balanceOf(receiver), 5);
    }

    function test_a_transfer_is_taken_in_both_overloads() public {
        bytes memory transfer = signature("TransferWithAuthorization", 100);
        assertFalse(token.authorizationState(payer, NONCE));
        token.transferWithAuthorization(payer, receiver, 100, since, until, NONCE, transfer);
        assertTrue(token.authorizationState(payer, NONCE));
        assertEq(token.balanceOf(receiver), 100);

        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, digest("TransferWithAuthorization", payer, 200));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, NONCE));
        token.transferWithAuthorization(payer, receiver, 200, since, until, NONCE, v, r, s);
    }

    function test_a_receive_is_taken_in_both_overloads() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, digest("ReceiveWithAuthorization", payer, 100));
        uint256 before = vm.snapshotState();
        vm.startPrank(receiver);
        token.receiveWithAuthorization(payer, receiver, 100, since, until, NONCE, v, r, s);
        assertEq(token.balanceOf(receiver), 100);
        vm.revertToState(before);
        bytes memory packed = abi.encodePacked(r, s, v);
        token.receiveWithAuthorization(payer, receiver, 100, since, until, NONCE, packed);
        assertEq(token.balanceOf(receiver), 100);
        vm.stopPrank();
    }

    function test_a_wallet_pays_by_the_signature_it_accepts() public {
        IContractWallet wallet = newWallet(payer);
        token.mint(address(wallet), 100);
        bytes memory transfer = signed(digest("TransferWithAuthorization", address(wallet), 100));
        token.transferWithAuthorization(address(wallet), receiver, 100, since, until, NONCE, transfer);
        assertEq(token.balanceOf(receiver), 100);
    }
}
