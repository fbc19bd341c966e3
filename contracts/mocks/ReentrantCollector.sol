// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDepositCollector} from "../interfaces/IDepositCollector.sol";

/// @title ReentrantCollector
/// @notice Calls its caller back with its own data instead of bringing tokens.
contract ReentrantCollector is IDepositCollector {
    /// @inheritdoc IDepositCollector
    function collect(address, address, uint256, bytes32, bytes calldata collectorData) external {
        (bool ok, bytes memory answer) = msg.sender.call(collectorData);
        if (ok) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }
}
