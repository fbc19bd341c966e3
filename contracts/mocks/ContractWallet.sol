// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title ContractWallet
/// @notice The smallest EIP-1271 wallet: it signs as its key signs, until it is frozen. What follows the key's
/// signature is ignored: those of contracts have any length.
contract ContractWallet is IERC1271 {
    address private immutable _key;
    bool private _frozen;

    constructor(address key) {
        _key = key;
    }

    /// @notice From now on no signature is valid: an EIP-1271 wallet may change its mind.
    function freeze() external {
        _frozen = true;
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        bool valid = !_frozen && ECDSA.recoverCalldata(hash, signature[:65]) == _key;
        return valid ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}
