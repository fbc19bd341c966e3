// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {Attestations} from "../../contracts/Attestations.sol";
import {AuditAnchor} from "../../contracts/AuditAnchor.sol";
import {DevUSD} from "../../contracts/dev/DevUSD.sol";
import {ERC3009DepositCollector} from "../../contracts/ERC3009DepositCollector.sol";
import {ContractWallet} from "../../contracts/mocks/ContractWallet.sol";
import {FailingToken} from "../../contracts/mocks/FailingToken.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {PaymentChannels} from "../../contracts/PaymentChannels.sol";

/// @notice Deploys the contracts from their compiled code by name. `new` would put a copy of that code into every test
/// contract, and the compiler would optimise each copy again: that made compiling four times as long.
abstract contract Deployed is Test {
    function newChannels() internal returns (PaymentChannels) {
        return PaymentChannels(vm.deployCode("PaymentChannels.sol:PaymentChannels"));
    }

    function newCollector(address channels) internal returns (ERC3009DepositCollector) {
        string memory name = "ERC3009DepositCollector.sol:ERC3009DepositCollector";
        return ERC3009DepositCollector(vm.deployCode(name, abi.encode(channels)));
    }

    function newDollar() internal returns (DevUSD) {
        return DevUSD(vm.deployCode("DevUSD.sol:DevUSD"));
    }

    function newRegistry() internal returns (ModelRegistry) {
        return ModelRegistry(vm.deployCode("ModelRegistry.sol:ModelRegistry"));
    }

    function newAttestations(address registry) internal returns (Attestations) {
        return Attestations(vm.deployCode("Attestations.sol:Attestations", abi.encode(registry)));
    }

    function newAnchors() internal returns (AuditAnchor) {
        return AuditAnchor(vm.deployCode("AuditAnchor.sol:AuditAnchor"));
    }

    function newWallet(address key) internal returns (ContractWallet) {
        return ContractWallet(vm.deployCode("ContractWallet.sol:ContractWallet", abi.encode(key)));
    }

    function newFailingToken() internal returns (FailingToken) {
        return FailingToken(vm.deployCode("FailingToken.sol:FailingToken"));
    }
}
