// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IDevUSD} from "../../contracts/interfaces/IDevUSD.sol";
import {IERC3009DepositCollector} from "../../contracts/interfaces/IERC3009DepositCollector.sol";
import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {Deployed} from "./Deployed.sol";

/// @notice The digests and signatures that official clients make, read from the vectors that the Python tests read
/// too. The code is copied to the address those clients expect, as a devnet does it.
contract PaymentChannelsVectorsTest is Deployed {
    address private constant CANONICAL = 0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003;

    IPaymentChannels private channels;
    IPaymentChannels.ChannelConfig private config;
    string private vectors;

    function setUp() public {
        vm.chainId(31337);
        vm.etch(CANONICAL, address(newChannels()).code);
        channels = IPaymentChannels(CANONICAL);
        vectors = vm.readFile(string.concat(vm.projectRoot(), "/tests/vectors/x402_vectors.json"));
        config = IPaymentChannels.ChannelConfig({
            payer: vm.parseJsonAddress(vectors, ".channelConfig.payer"),
            payerAuthorizer: vm.parseJsonAddress(vectors, ".channelConfig.payerAuthorizer"),
            receiver: vm.parseJsonAddress(vectors, ".channelConfig.receiver"),
            receiverAuthorizer: vm.parseJsonAddress(vectors, ".channelConfig.receiverAuthorizer"),
            token: vm.parseJsonAddress(vectors, ".channelConfig.token"),
            withdrawDelay: uint40(number(".channelConfig.withdrawDelay")),
            salt: word(".channelConfig.salt")
        });
    }

    function word(string memory path) private view returns (bytes32) {
        return vm.parseJsonBytes32(vectors, path);
    }

    function number(string memory path) private view returns (uint256) {
        return vm.parseJsonUint(vectors, path);
    }

    function rows() private view returns (IPaymentChannels.VoucherClaim[] memory claims) {
        claims = new IPaymentChannels.VoucherClaim[](1);
        claims[0].voucher.channel = config;
        claims[0].voucher.maxClaimableAmount = uint128(number(".voucher.maxClaimableAmount"));
        claims[0].totalClaimed = uint128(number(".claimBatch.totalClaimed"));
        claims[0].signature = vm.parseJsonBytes(vectors, ".voucher.signature");
    }

    function test_the_domain_is_the_one_clients_sign_for() public view {
        (, string memory name, string memory version, uint256 chainId, address verifier,,) =
            channels.eip712Domain();
        bytes32 domain = MessageHashUtils.toDomainSeparator(bytes1(0x0f), name, version, chainId, verifier, 0);
        assertEq(domain, word(".domainSeparator_31337"));
    }

    function test_the_type_hashes_are_the_published_ones() public view {
        assertEq(channels.CHANNEL_CONFIG_TYPEHASH(), word(".typehashes.ChannelConfig"));
        assertEq(channels.VOUCHER_TYPEHASH(), word(".typehashes.Voucher"));
        assertEq(channels.REFUND_TYPEHASH(), word(".typehashes.Refund"));
        assertEq(channels.CLAIM_ENTRY_TYPEHASH(), word(".typehashes.ClaimEntry"));
        assertEq(channels.CLAIM_BATCH_TYPEHASH(), word(".typehashes.ClaimBatch"));
    }

    function test_the_four_digests_are_the_published_ones() public view {
        bytes32 id = channels.getChannelId(config);
        assertEq(id, word(".channelId"));
        uint128 ceiling = uint128(number(".voucher.maxClaimableAmount"));
        assertEq(channels.getVoucherDigest(id, ceiling), word(".voucher.digest"));
        uint128 amount = uint128(number(".refund.amount"));
        assertEq(channels.getRefundDigest(id, number(".refund.nonce"), amount), word(".refund.digest"));
        assertEq(channels.getClaimBatchDigest(rows()), word(".claimBatch.digest"));
    }

    function test_the_deposit_nonce_is_the_published_one() public view {
        bytes32 salt = word(".erc3009DepositNonce.salt");
        assertEq(keccak256(abi.encode(word(".channelId"), salt)), word(".erc3009DepositNonce.nonce"));
    }

    function test_another_chain_gives_another_channel() public {
        bytes32 here = channels.getChannelId(config);
        vm.chainId(31338);
        assertNotEq(channels.getChannelId(config), here);
    }

    function test_the_published_signatures_claim_and_refund_at_the_canonical_address() public {
        IDevUSD token = newDollar();
        vm.etch(config.token, address(token).code);
        channels.deposit(config, 5000, newSkewedCollector(0), "");

        channels.claimWithSignature(rows(), vm.parseJsonBytes(vectors, ".claimBatch.signature"));
        uint128 amount = uint128(number(".refund.amount"));
        bytes memory signature = vm.parseJsonBytes(vectors, ".refund.signature");
        channels.refundWithSignature(config, amount, number(".refund.nonce"), signature);

        (uint128 balance, uint128 claimed) = channels.channels(word(".channelId"));
        assertEq(balance, 4700);
        assertEq(claimed, 4200);
        channels.settle(config.receiver, config.token);
        assertEq(IDevUSD(config.token).balanceOf(config.receiver), 4200);
        assertEq(IDevUSD(config.token).balanceOf(config.payer), 300);
    }

    function test_a_copied_collector_still_knows_its_channels() public {
        IERC3009DepositCollector original = newCollector(CANONICAL);
        address copy = 0x4020806089470a89826cB9fB1f4059150b550004;
        vm.etch(copy, address(original).code);
        assertEq(IERC3009DepositCollector(copy).x402BatchSettlement(), CANONICAL);
    }

    function test_the_contract_works_from_code_alone() public {
        IPaymentChannels deployed = newChannels();
        for (uint256 slot = 0; slot < 16; ++slot) {
            assertEq(vm.load(address(deployed), bytes32(slot)), 0);
        }
    }
}
