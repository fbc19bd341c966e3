// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ContractWallet} from "./ContractWallet.sol";

/// @title WalletFactory
/// @notice Makes a wallet for a key at an address known before, as ERC-6492 factories do; anyone may ask.
contract WalletFactory {
    /// @notice Makes the wallet of `key`; fails when it is there.
    function make(address key) external returns (ContractWallet) {
        return new ContractWallet{salt: 0}(key);
    }

    /// @notice Where the wallet of `key` is, or will be.
    function addressOf(address key) external view returns (address) {
        bytes32 code = keccak256(abi.encodePacked(type(ContractWallet).creationCode, abi.encode(key)));
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", this, bytes32(0), code)))));
    }
}
