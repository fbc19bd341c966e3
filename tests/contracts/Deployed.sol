// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {IAttestations} from "../../contracts/interfaces/IAttestations.sol";
import {IAuditAnchor} from "../../contracts/interfaces/IAuditAnchor.sol";
import {IDevUSD} from "../../contracts/interfaces/IDevUSD.sol";
import {IERC3009DepositCollector} from "../../contracts/interfaces/IERC3009DepositCollector.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {INodeRegistry} from "../../contracts/interfaces/INodeRegistry.sol";
import {IPaymentChannels} from "../../contracts/interfaces/IPaymentChannels.sol";
import {IReceiptVerifier} from "../../contracts/interfaces/IReceiptVerifier.sol";

/// @notice What the tests ask of the mocks beyond their lawful part.
interface IFailingToken is IDevUSD {
    function fail(bool failing) external;
}

interface IReentrantToken is IDevUSD {
    function arm(address target, bytes calldata data) external;
    function succeeded() external view returns (bool);
    function answer() external view returns (bytes memory);
}

interface ISilentToken {
    function mint(address account, uint256 amount) external;
    function balanceOf(address account) external view returns (uint256);
}

interface IContractWallet {
    function freeze() external;
}

/// @notice Deploys the contracts from their compiled code, by name. Tests import interfaces only: so the contracts are
/// compiled once, with the settings they ship with, and the tests themselves without the optimizer, which spends four
/// times as long on them as all else together.
abstract contract Deployed is Test {
    function newChannels() internal returns (IPaymentChannels) {
        return IPaymentChannels(deployed("PaymentChannels", ""));
    }

    function newCollector(address channels) internal returns (IERC3009DepositCollector) {
        return IERC3009DepositCollector(deployed("ERC3009DepositCollector", abi.encode(channels)));
    }

    function newDollar() internal returns (IDevUSD) {
        return IDevUSD(deployed("DevUSD", ""));
    }

    function newRegistry() internal returns (IModelRegistry) {
        return IModelRegistry(deployed("ModelRegistry", ""));
    }

    function newAttestations(address registry) internal returns (IAttestations) {
        return IAttestations(deployed("Attestations", abi.encode(registry)));
    }

    function newAnchors() internal returns (IAuditAnchor) {
        return IAuditAnchor(deployed("AuditAnchor", ""));
    }

    function newNodeRegistry(address token, address anchors, uint128 stake) internal returns (INodeRegistry) {
        return INodeRegistry(deployed("NodeRegistry", abi.encode(token, anchors, stake)));
    }

    function newReceiptVerifier(address anchors) internal returns (IReceiptVerifier) {
        return IReceiptVerifier(deployed("ReceiptVerifier", abi.encode(anchors)));
    }

    function newFeeToken() internal returns (IDevUSD) {
        return IDevUSD(deployed("FeeToken", ""));
    }

    function newFailingToken() internal returns (IFailingToken) {
        return IFailingToken(deployed("FailingToken", ""));
    }

    function newReentrantToken() internal returns (IReentrantToken) {
        return IReentrantToken(deployed("ReentrantToken", ""));
    }

    function newSilentToken() internal returns (ISilentToken) {
        return ISilentToken(deployed("SilentToken", ""));
    }

    function newWallet(address key) internal returns (IContractWallet) {
        return IContractWallet(deployed("ContractWallet", abi.encode(key)));
    }

    function newSkewedCollector(int256 skew) internal returns (address) {
        return deployed("SkewedCollector", abi.encode(skew));
    }

    function newReentrantCollector() internal returns (address) {
        return deployed("ReentrantCollector", "");
    }

    /// @dev Runs a contract's constructor. Gives its address, or zero and what it failed with.
    function tried(string memory name, bytes memory args)
        internal
        returns (address made, bytes memory failure)
    {
        bytes memory code = abi.encodePacked(vm.getCode(string.concat(name, ".sol:", name)), args);
        assembly ("memory-safe") {
            made := create(0, add(code, 0x20), mload(code))
            failure := mload(0x40)
            mstore(failure, returndatasize())
            returndatacopy(add(failure, 0x20), 0, returndatasize())
            mstore(0x40, add(add(failure, 0x20), returndatasize()))
        }
    }

    function deployed(string memory name, bytes memory args) private returns (address made) {
        (made,) = tried(name, args);
        assertNotEq(made, address(0), name);
    }
}
